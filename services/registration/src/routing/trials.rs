//! Codes that went out, until it is known whether somebody typed them.
//!
//! The process that checks a code need not be the one that sent it, so after a while the sender looks at the session in
//! the store. Three looks: an early one, so that proofs at other processes are seen while a burst is on; one at the end
//! of the grace time, after which the code counts as unproved; and a late one, which corrects that for people who were
//! slow.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use spillway_store::verifications::VerificationId;
use tokio::time::Instant;

use super::guard::Places;
use super::record::Cell;

/// A little more than 100 bytes each, so 30 MB: the unproved codes of three minutes at 1,000 a second.
const FOLLOWED_MAX: usize = 262_144;
/// After a quarter of the grace, all of it, and three times.
const LOOKS: [(u32, u32); 3] = [(1, 4), (1, 1), (3, 1)];
/// The look at which a code is judged.
const JUDGING: usize = 1;

/// A code that went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    pub(super) cell: Cell,
    pub(super) places: Places,
}

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Somebody typed it, in time.
    Proved,
    /// Its time is over.
    Ripe { proved: bool },
    /// Somebody typed it after all.
    Late,
}

#[derive(Debug)]
pub(super) struct Trials {
    followed: HashMap<VerificationId, Followed>,
    /// One look for each that is followed, and stale ones of those that were followed by another meanwhile.
    looks: BinaryHeap<Reverse<(Instant, VerificationId)>>,
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    trial: Trial,
    sent_at: Instant,
    grace: Duration,
    proved: bool,
    /// The next of [`LOOKS`].
    next: usize,
    next_at: Instant,
}

impl Default for Trials {
    fn default() -> Self {
        Self { followed: HashMap::new(), looks: BinaryHeap::new(), max: FOLLOWED_MAX }
    }
}

impl Trials {
    /// A code went out. Answers with what is known by that: the code that the same session had before did not help, and
    /// one for which there is no room counts as unproved at once.
    pub(super) fn sent(
        &mut self,
        id: VerificationId,
        trial: Trial,
        grace: Duration,
        now: Instant,
    ) -> Option<(Trial, Judgement)> {
        let before = self.followed.remove(&id);
        if self.looks.len() >= self.max {
            return Some((trial, Judgement::Ripe { proved: false }));
        }
        let mut followed = Followed { trial, sent_at: now, grace, proved: false, next: 0, next_at: now };
        followed.next_at = followed.look_at();
        self.looks.push(Reverse((followed.next_at, id)));
        self.followed.insert(id, followed);
        before
            .filter(|before| before.next <= JUDGING)
            .map(|before| (before.trial, Judgement::Ripe { proved: before.proved }))
    }

    /// The code of this session was typed.
    pub(super) fn proved(&mut self, id: VerificationId) -> Option<(Trial, Judgement)> {
        let followed = self.followed.get_mut(&id)?;
        if followed.next > JUDGING {
            let trial = followed.trial;
            self.followed.remove(&id);
            return Some((trial, Judgement::Late));
        }
        let is_new = !std::mem::replace(&mut followed.proved, true);
        is_new.then_some((followed.trial, Judgement::Proved))
    }

    /// What is due now, at most `max`: sessions to look at. What is known of codes without looking is told to `known`.
    pub(super) fn due(
        &mut self,
        max: usize,
        now: Instant,
        mut known: impl FnMut(Trial, Judgement),
    ) -> Vec<VerificationId> {
        let mut due = Vec::new();
        while due.len() < max
            && let Some(Reverse((at, id))) = self.looks.peek().copied()
            && at <= now
        {
            self.looks.pop();
            match self.followed.get(&id) {
                Some(followed) if followed.next_at != at => {}
                Some(Followed { proved: true, .. }) => {
                    if let Some((trial, judgement)) = self.step(id) {
                        known(trial, judgement);
                    }
                }
                Some(_) => due.push(id),
                None => {}
            }
        }
        due
    }

    /// What a look at the session showed: something is known for the first time, or twice, when a code is found proved
    /// at the very moment that its time is over.
    pub(super) fn seen(
        &mut self,
        id: VerificationId,
        proved: bool,
    ) -> impl Iterator<Item = (Trial, Judgement)> {
        let found = if proved { self.proved(id) } else { None };
        found.into_iter().chain(self.step(id))
    }

    /// A session that could not be looked at is looked at again at `at`.
    pub(super) fn unseen(&mut self, id: VerificationId, at: Instant) {
        if let Some(followed) = self.followed.get_mut(&id) {
            followed.next_at = at;
            self.looks.push(Reverse((at, id)));
        }
    }

    /// Goes on to the next look.
    fn step(&mut self, id: VerificationId) -> Option<(Trial, Judgement)> {
        let followed = self.followed.get_mut(&id)?;
        let proved = followed.proved;
        let judged = (followed.next == JUDGING).then_some((followed.trial, Judgement::Ripe { proved }));
        followed.next += 1;
        if followed.next == LOOKS.len() || (judged.is_some() && proved) {
            self.followed.remove(&id);
            return judged;
        }
        followed.next_at = followed.look_at();
        self.looks.push(Reverse((followed.next_at, id)));
        judged
    }
}

impl Followed {
    fn look_at(&self) -> Instant {
        let (times, parts) = LOOKS[self.next];
        self.sent_at + self.grace * times / parts
    }
}

#[cfg(test)]
mod tests {
    use spillway_store::verifications::Transport;

    use super::*;
    use crate::routing::guard::PlaceKey;

    const GRACE: Duration = Duration::from_secs(60);

    fn id(n: u8) -> VerificationId {
        VerificationId([n; 32])
    }

    fn trial(provider: usize) -> Trial {
        let places = Places { prefix: PlaceKey(1), network: None, country: PlaceKey(2) };
        Trial { cell: (provider, 49, Transport::Sms), places }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn look(trials: &mut Trials, now: Instant) -> Vec<VerificationId> {
        trials.due(10, now, |_, _| panic!("nothing is known without looking"))
    }

    #[test]
    fn a_code_is_looked_at_three_times_and_judged_at_the_second() {
        let start = Instant::now();
        let mut trials = Trials::default();
        assert_eq!(trials.sent(id(1), trial(0), GRACE, start), None);
        let mut judged = Vec::new();
        for second in 0..300 {
            for due in look(&mut trials, after(start, second)) {
                judged.push((second, trials.seen(due, false).next()));
            }
        }
        let unproved = Some((trial(0), Judgement::Ripe { proved: false }));
        assert_eq!(judged, [(15, None), (60, unproved), (180, None)]);
        assert!(trials.followed.is_empty() && trials.looks.is_empty());
    }

    #[test]
    fn a_proof_is_told_at_once_and_counted_when_it_is_ripe() {
        let start = Instant::now();
        let mut trials = Trials::default();
        trials.sent(id(1), trial(0), GRACE, start);
        assert_eq!(trials.proved(id(1)), Some((trial(0), Judgement::Proved)));
        assert_eq!(trials.proved(id(1)), None);
        let mut known = Vec::new();
        for second in 0..300 {
            let due = trials.due(10, after(start, second), |_, judgement| known.push((second, judgement)));
            assert!(due.is_empty(), "what is proved is not looked up");
        }
        assert_eq!(known, [(60, Judgement::Ripe { proved: true })]);
        assert!(trials.followed.is_empty() && trials.looks.is_empty());
    }

    #[test]
    fn a_late_proof_is_told_once() {
        let start = Instant::now();
        let mut trials = Trials::default();
        trials.sent(id(2), trial(0), GRACE, start);
        for second in [15, 60] {
            let due = look(&mut trials, after(start, second));
            due.into_iter().for_each(|id| trials.seen(id, false).for_each(drop));
        }
        let seen: Vec<_> = trials.seen(id(2), true).collect();
        assert_eq!(seen, [(trial(0), Judgement::Late)]);
        assert_eq!(trials.proved(id(2)), None);
    }

    #[test]
    fn a_proof_found_by_looking_is_ripe_at_the_end_of_the_grace() {
        let start = Instant::now();
        let mut trials = Trials::default();
        trials.sent(id(1), trial(0), GRACE, start);
        assert_eq!(look(&mut trials, after(start, 15)), [id(1)]);
        assert_eq!(trials.seen(id(1), true).collect::<Vec<_>>(), [(trial(0), Judgement::Proved)]);
        trials.sent(id(2), trial(0), GRACE, start);
        for due in look(&mut trials, after(start, 15)) {
            trials.seen(due, false).for_each(drop);
        }
        let mut ripe = Vec::new();
        let due = trials.due(10, after(start, 60), |_, judgement| ripe.push(judgement));
        assert_eq!((ripe, due), (vec![Judgement::Ripe { proved: true }], vec![id(2)]));
        let both: Vec<_> = trials.seen(id(2), true).map(|(_, judgement)| judgement).collect();
        assert_eq!(both, [Judgement::Proved, Judgement::Ripe { proved: true }]);
    }

    #[test]
    fn a_look_that_failed_is_repeated() {
        let start = Instant::now();
        let mut trials = Trials::default();
        trials.sent(id(1), trial(0), GRACE, start);
        assert_eq!(look(&mut trials, after(start, 15)), [id(1)]);
        trials.unseen(id(1), after(start, 20));
        assert!(look(&mut trials, after(start, 19)).is_empty());
        assert_eq!(look(&mut trials, after(start, 20)), [id(1)]);
    }

    #[test]
    fn a_second_code_says_that_the_first_did_not_help() {
        let start = Instant::now();
        let mut trials = Trials::default();
        trials.sent(id(1), trial(0), GRACE, start);
        let first = trials.sent(id(1), trial(1), GRACE, after(start, 30));
        assert_eq!(first, Some((trial(0), Judgement::Ripe { proved: false })));
        assert!(look(&mut trials, after(start, 15)).is_empty(), "the first one's look is stale");
        assert_eq!(trials.proved(id(1)), Some((trial(1), Judgement::Proved)));
    }

    #[test]
    fn what_cannot_be_followed_counts_as_unproved() {
        let start = Instant::now();
        let mut trials = Trials { max: 1, ..Trials::default() };
        trials.sent(id(1), trial(0), GRACE, start);
        let full = trials.sent(id(2), trial(0), GRACE, start);
        assert_eq!(full, Some((trial(0), Judgement::Ripe { proved: false })));
    }
}
