//! What becomes of an arrival when so many are under way that no more may be.

use std::collections::VecDeque;

use crate::cli::OnOverflow;

/// Arrivals that are held back, or counted and left out. Without a limit, nothing is either.
#[derive(Debug)]
pub(super) struct Overflow<T> {
    max: Option<usize>,
    how: OnOverflow,
    held: VecDeque<T>,
    shed: u64,
}

impl<T> Overflow<T> {
    pub(super) fn new(max: Option<usize>, how: OnOverflow) -> Self {
        Self { max, how, held: VecDeque::new(), shed: 0 }
    }

    /// The arrival, if it goes out now. `under_way` are those that have and are not over.
    pub(super) fn take(&mut self, arrival: T, under_way: usize) -> Option<T> {
        let is_full = self.max.is_some_and(|max| under_way >= max);
        // Whoever waits goes first.
        match (is_full || !self.held.is_empty(), self.how) {
            (false, _) => return Some(arrival),
            (true, OnOverflow::Queue) => self.held.push_back(arrival),
            (true, OnOverflow::Shed) => self.shed += 1,
        }
        None
    }

    /// One that was held back, when there is room for it now.
    pub(super) fn next(&mut self, under_way: usize) -> Option<T> {
        let has_room = self.max.is_none_or(|max| under_way < max);
        if has_room { self.held.pop_front() } else { None }
    }

    pub(super) fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    /// The load ends: what is held will not go out.
    pub(super) fn end(&mut self) {
        self.shed += self.held.len() as u64;
        self.held.clear();
    }

    /// How many were left out since it was last asked.
    pub(super) fn take_shed(&mut self) -> u64 {
        std::mem::take(&mut self.shed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Comes,
        Ends,
    }

    fn any_steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec(prop_oneof![Just(Step::Comes), Just(Step::Ends)], 1..300)
    }

    proptest! {
        /// Feature 3: with a tiny cap, never more are under way, and every arrival goes out in order, waits, or is counted.
        #[test]
        fn nobody_is_forgotten_and_never_more_are_under_way(steps in any_steps(), max in 1..4usize, shed: bool) {
            let how = if shed { OnOverflow::Shed } else { OnOverflow::Queue };
            let mut overflow = Overflow::new(Some(max), how);
            let (mut came, mut under_way, mut out, mut dropped) = (0_u64, 0_usize, Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Comes => {
                        if let Some(arrival) = overflow.take(came, under_way) {
                            out.push(arrival);
                            under_way += 1;
                        }
                        came += 1;
                    }
                    Step::Ends => under_way = under_way.saturating_sub(1),
                }
                while let Some(arrival) = overflow.next(under_way) {
                    out.push(arrival);
                    under_way += 1;
                }
                dropped += overflow.take_shed();
                prop_assert!(under_way <= max);
                prop_assert!(under_way == max || overflow.holds_nothing(), "nobody waits while there is room");
            }
            prop_assert!(out.is_sorted());
            overflow.end();
            prop_assert_eq!(out.len() as u64 + dropped + overflow.take_shed(), came);
            if !shed {
                prop_assert!(out.iter().copied().eq(0..out.len() as u64), "none was skipped");
            }
        }
    }

    #[test]
    fn without_a_limit_everything_goes_out_at_once() {
        let mut overflow = Overflow::new(None, OnOverflow::Shed);
        assert!((0..10_000).all(|n| overflow.take(n, n) == Some(n)));
        assert_eq!((overflow.take_shed(), overflow.next(0)), (0, None));
    }
}
