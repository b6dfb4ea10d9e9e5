//! A place where few can be at once: a lock (one place), or the connections to a store (many). First come, first
//! served; it takes no processor.

use std::collections::VecDeque;

use crate::time::Nanos;

#[derive(Debug)]
pub(crate) struct Station {
    places: u32,
    taken: u32,
    waiting: VecDeque<u32>,
    /// By how much of itself each who waits lengthens a stay: cache lines that bounce, threads that are woken in vain.
    contention: f64,
}

impl Station {
    pub(crate) fn new(places: u32, contention: f64) -> Self {
        Self { places: places.max(1), taken: 0, waiting: VecDeque::new(), contention }
    }

    /// Whether the place is the caller's at once; otherwise it waits.
    pub(crate) fn enter(&mut self, owner: u32) -> bool {
        if self.taken < self.places {
            self.taken += 1;
            return true;
        }
        self.waiting.push_back(owner);
        false
    }

    /// Who takes over the place that became free.
    pub(crate) fn leave(&mut self) -> Option<u32> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.taken = self.taken.saturating_sub(1);
        }
        next
    }

    /// A stay as long as the crowd makes it.
    pub(crate) fn stay(&self, alone: f64) -> Nanos {
        Nanos((alone * (1.0 + self.contention * self.waiting.len() as f64)) as u64)
    }

    pub(crate) fn clear(&mut self) {
        self.taken = 0;
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_to_who_waited_longest() {
        let mut station = Station::new(1, 0.5);
        assert!(station.enter(1));
        assert!(!station.enter(2) && !station.enter(3));
        assert_eq!(station.stay(100.0), Nanos(200));
        assert_eq!([station.leave(), station.leave(), station.leave()], [Some(2), Some(3), None]);
        assert!(station.enter(4));
    }
}
