use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use spillway_api::internal::v1::RoomBound;
use spillway_types::{Secret, Timestamp};
use spillway_waiting_room::{
    Appointments, Bits, Difficulty, DifficultyLaw, Lottery, Outlook, Pool, Presence, Ticket, Turn, Used, View,
};

use super::ROOM;

/// What polls read and change, behind one lock that is held for a microsecond.
#[derive(Debug)]
pub(super) struct State {
    pub(super) view: View,
    pub(super) outlook: Option<Arc<Outlook>>,
    /// Once a scheduled opening has been drawn.
    lottery: Option<Lottery>,
    /// When the room opens, if that is still to come.
    pub(super) opens_at: Option<Timestamp>,
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
    /// Whose device is not genuine. A bound that is hit, or another gateway, asks about him again.
    pub(super) turned_away: Used,
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
const TURNED_AWAY_PAGES_MAX: usize = 20_000;

impl Default for State {
    fn default() -> Self {
        Self {
            view: View::default(),
            outlook: None,
            lottery: None,
            opens_at: None,
            bound: RoomBound::Unspecified,
            appointments: Appointments::default(),
            polls_max: 0.0,
            presence: Presence::default(),
            ended: Vec::new(),
            generation: 0,
            claims: BTreeMap::new(),
            claimed: Used::new(CLAIMED_PAGES_MAX),
            turned_away: Used::new(TURNED_AWAY_PAGES_MAX),
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

    /// Takes up the pool of a lottery as it was published.
    pub(super) fn draw(&mut self, secret: &Secret, pool: Option<Pool>) {
        let Some(pool) = pool.filter(|pool| pool.count > 0) else { return };
        if self.lottery.as_ref().is_none_or(|lottery| lottery.pool() != pool) {
            self.lottery = Some(Lottery::draw(secret, ROOM, pool));
        }
    }

    pub(super) fn turn(&self, ticket: &Ticket, now: Duration, clock: Timestamp) -> Turn {
        self.view.turn(ticket, self.place(ticket.seq), now, clock)
    }

    /// The place of whoever has this number.
    pub(super) fn place(&self, seq: u64) -> u64 {
        self.lottery.as_ref().map_or(seq, |lottery| lottery.place(seq))
    }

    /// Whether this number's place is still to be drawn.
    pub(super) fn awaits_draw(&self, seq: u64) -> bool {
        let pool = self.view.last().and_then(|last| last.pool);
        pool.is_some_and(|pool| pool.count == 0 && seq >= pool.first)
    }

    pub(super) fn begin_generation(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            let (closed, issued) = self.view.last().map_or((0, 0), |last| (last.closed(), last.issued));
            self.ended = self.presence.turn(closed, issued).map(|(block, bits)| (block, *bits)).collect();
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
