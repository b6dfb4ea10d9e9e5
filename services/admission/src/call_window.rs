//! How many calls a client has under way at a time: few, as long as nobody answers.
//!
//! A service that is swamped cannot tell its clients to hold back: what it says comes after their deadlines. So they go by its
//! silence, as TCP goes by that of the network (RFC 5681): few at first, one more for each answer, and after a call that
//! ended without one half as many, and then only one more for each round of answers. With one call at a time, a crowd offers one call for each of its users and deadlines,
//! whatever its users want. A refusal says the same as a silence, sooner: when the [advice](crate::HeldBack) that came with it is over,
//! one call asks whether there is room, and not as many as were sent away.

use std::time::Duration;

/// The calls of one user. Whoever [begins](Self::begin) one ends it, once, by one of the others.
#[derive(Clone, Copy, Debug)]
pub struct CallWindow {
    most: f64,
    size: f64,
    /// Up to here each answer makes room for one more.
    threshold: f64,
    open: u32,
    /// What began before says nothing new about a window that has been halved since.
    halved: Duration,
}

/// Of the first calls, as TCP's initial window (RFC 3390).
const FIRST: f64 = 4.0;

impl CallWindow {
    /// At most so many at a time.
    pub fn new(most: u32) -> Self {
        let most = f64::from(most.max(1));
        Self { most, size: FIRST.min(most), threshold: most, open: 0, halved: Duration::ZERO }
    }

    /// A call begins, if there is room for it.
    pub fn begin(&mut self) -> bool {
        let has_room = self.room() > 0;
        self.open += u32::from(has_room);
        has_room
    }

    /// Calls that there is room for.
    pub fn room(&self) -> u32 {
        (self.size as u32).saturating_sub(self.open)
    }

    /// The service did what it was asked, or said why it never will.
    pub fn answered(&mut self) {
        self.open -= 1;
        let more = if self.size < self.threshold { 1.0 } else { 1.0 / self.size };
        self.size = (self.size + more).min(self.most);
    }

    /// The service said nothing until the deadline of a call that was sent at `began`.
    pub fn unanswered(&mut self, began: Duration, now: Duration) {
        self.open -= 1;
        self.halve(began, now);
    }

    /// The service refused for now what was sent at `began`.
    pub fn refused(&mut self, began: Duration, now: Duration) {
        self.open -= 1;
        self.halve(began, now);
    }

    /// Nobody waits for the answer any more.
    pub fn given_up(&mut self) {
        self.open -= 1;
    }

    fn halve(&mut self, began: Duration, now: Duration) {
        if began >= self.halved {
            self.size = (self.size / 2.0).max(1.0);
            self.threshold = self.size;
            self.halved = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_leaves_one_call_at_a_time_and_answers_open_it_again() {
        let mut window = CallWindow::new(16);
        assert_eq!(window.room(), 4);
        for _ in 0..12 {
            assert!(window.begin());
            window.answered();
        }
        assert_eq!(window.room(), 16, "one more for each answer");
        for round in 0..5_u64 {
            while window.begin() {}
            assert_eq!(window.open, 16 >> round, "halved once for all that were under way together");
            for _ in 0..window.open {
                window.unanswered(at(round), at(round + 1));
            }
        }
        assert_eq!(window.room(), 1);
        let mut answers = 0;
        while window.room() < 16 {
            assert!(window.begin());
            window.answered();
            answers += 1;
        }
        assert!((100..200).contains(&answers), "one more for each round of answers: {answers}");
        assert!(window.begin());
        window.answered();
        assert_eq!(window.room(), 16, "and never more than that");
    }

    #[test]
    fn a_refusal_halves_it_and_who_gives_up_changes_nothing() {
        let mut window = CallWindow::new(16);
        for _ in 0..20 {
            assert!(window.begin());
            window.given_up();
        }
        assert_eq!(window.room(), 4);
        assert!(window.begin() && window.begin());
        window.refused(at(1), at(2));
        window.refused(at(1), at(2));
        assert_eq!(window.room(), 2, "once for what was under way together");
        assert!(window.begin());
        window.refused(at(2), at(3));
        assert_eq!(window.room(), 1);
    }

    proptest! {
        /// Whatever the service does: at most so many are open, and one may always begin once all have ended.
        #[test]
        fn no_place_is_lost(most in 0_u32..40, ends in prop::collection::vec(0_u8..5, 0..400)) {
            let mut window = CallWindow::new(most);
            let mut open = 0;
            for (n, end) in ends.into_iter().enumerate() {
                let now = Duration::from_millis(n as u64);
                match end {
                    0 => open += u32::from(window.begin()),
                    _ if open == 0 => {}
                    1 => { window.answered(); open -= 1; }
                    2 => { window.unanswered(now.saturating_sub(at(1)), now); open -= 1; }
                    3 => { window.refused(now, now); open -= 1; }
                    _ => { window.given_up(); open -= 1; }
                }
                prop_assert!(window.open == open && open <= most.max(1));
            }
            for _ in 0..open {
                window.given_up();
            }
            prop_assert!(window.room() >= 1);
        }
    }
}
