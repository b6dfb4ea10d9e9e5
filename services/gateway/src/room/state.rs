use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use spillway_api::internal::v1::RoomBound;
use spillway_waiting_room::{Appointments, Bits, Difficulty, DifficultyLaw, Outlook, Presence, Used, View};

/// What polls read and change, behind one lock that is held for a microsecond.
#[derive(Debug)]
pub(super) struct State {
    pub(super) view: View,
    pub(super) outlook: Option<Arc<Outlook>>,
    /// Why no more are let in.
    pub(super) bound: RoomBound,
    pub(super) appointments: Appointments,
    /// Polls a second that may be asked for here.
    pub(super) polls_max: f64,
    pub(super) presence: Presence,
    /// Who was heard of in the generation that ended, until it is reported.
    pub(super) ended: Vec<(u64, Bits)>,
    generation: u64,
    /// By publication, since the last report.
    pub(super) claims: BTreeMap<u64, u64>,
    /// Whoever claims again is counted once.
    pub(super) claimed: Used,
    /// The highest number seen on a ticket.
    pub(super) issued: u64,
    /// Since the last second.
    pub(super) entered: u64,
    asked: VecDeque<Difficulty>,
}

/// A puzzle is good for two minutes at most, and its difficulty changes each second.
const ASKED_MAX: usize = 120;
/// 16 MB, for 100 million claims of an hour.
const CLAIMED_PAGES_MAX: usize = 100_000;

impl Default for State {
    fn default() -> Self {
        Self {
            view: View::default(),
            outlook: None,
            bound: RoomBound::Unspecified,
            appointments: Appointments::default(),
            polls_max: 0.0,
            presence: Presence::default(),
            ended: Vec::new(),
            generation: 0,
            claims: BTreeMap::new(),
            claimed: Used::new(CLAIMED_PAGES_MAX),
            issued: 0,
            entered: 0,
            asked: VecDeque::with_capacity(ASKED_MAX),
        }
    }
}

impl State {
    /// A ticket that this service has sealed.
    pub(super) fn saw(&mut self, seq: u64) {
        self.issued = self.issued.max(seq);
        self.view.issued(seq);
    }

    pub(super) fn begin_generation(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            let closed = self.view.last().map_or(0, |last| last.closed());
            self.ended = self.presence.turn(closed).map(|(block, bits)| (block, *bits)).collect();
        }
    }

    /// Each second.
    pub(super) fn ask(&mut self, law: &DifficultyLaw) {
        let rate = std::mem::take(&mut self.entered) as f64;
        if self.asked.len() == ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back(law.difficulty(rate));
    }

    /// What is asked now, and the least that was asked of anybody whose puzzle is still good.
    pub(super) fn difficulty(&self, law: &DifficultyLaw) -> (Difficulty, Difficulty) {
        let now = self.asked.back().copied().unwrap_or(law.least);
        (now, self.asked.iter().min().copied().unwrap_or(law.least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_asked_for_less_a_minute_ago_may_still_come() {
        let (law, mut state) = (DifficultyLaw::default(), State::default());
        assert_eq!(state.difficulty(&law), (law.least, law.least));
        state.ask(&law);
        for _ in 0..ASKED_MAX {
            assert_eq!(state.difficulty(&law).1, law.least);
            state.entered = 400;
            state.ask(&law);
        }
        let harder = Difficulty::new(law.least.bits() + 2);
        assert_eq!(state.difficulty(&law), (harder, harder));
    }
}
