//! What happens next: a binary heap, and beside it a queue for each delay that is always the same.
//!
//! Most events of a run are a fixed span away (one trip over the network, one deadline). What is pushed with the same
//! delay comes out in the order of pushing, so a plain queue keeps it in order at no cost, and the heap stays small.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use crate::time::Nanos;

/// A delay that has a queue of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane(usize);

/// Events of two equal moments come out in the order in which they were scheduled, so a run repeats exactly.
#[derive(Debug)]
pub(crate) struct Events<E> {
    now: Nanos,
    scheduled: u64,
    heap: BinaryHeap<Entry<E>>,
    lanes: Vec<(Nanos, VecDeque<Entry<E>>)>,
}

#[derive(Debug)]
struct Entry<E> {
    at: Nanos,
    number: u64,
    event: E,
}

impl<E> Events<E> {
    pub(crate) fn new() -> Self {
        Self { now: Nanos::ZERO, scheduled: 0, heap: BinaryHeap::new(), lanes: Vec::new() }
    }

    pub(crate) fn now(&self) -> Nanos {
        self.now
    }

    /// How many events were scheduled since the start.
    pub(crate) fn scheduled(&self) -> u64 {
        self.scheduled
    }

    /// The queue of a delay, made when it is not there yet.
    pub(crate) fn lane(&mut self, delay: Nanos) -> Lane {
        if let Some(index) = self.lanes.iter().position(|(known, _)| *known == delay) {
            return Lane(index);
        }
        self.lanes.push((delay, VecDeque::new()));
        Lane(self.lanes.len() - 1)
    }

    /// A moment in the past means now.
    pub(crate) fn at(&mut self, at: Nanos, event: E) {
        let entry = self.entry(at.max(self.now), event);
        self.heap.push(entry);
    }

    pub(crate) fn after(&mut self, lane: Lane, event: E) {
        let entry = self.entry(self.now + self.lanes[lane.0].0, event);
        self.lanes[lane.0].1.push_back(entry);
    }

    /// Moves the time to the next event at or before `end`.
    pub(crate) fn next(&mut self, end: Nanos) -> Option<E> {
        let mut best = self.heap.peek().map(|entry| (entry.at, entry.number, None));
        for (index, (_, queue)) in self.lanes.iter().enumerate() {
            if let Some(entry) = queue.front()
                && best.is_none_or(|(at, number, _)| (entry.at, entry.number) < (at, number))
            {
                best = Some((entry.at, entry.number, Some(index)));
            }
        }
        let (at, _, lane) = best.filter(|(at, ..)| *at <= end)?;
        self.now = at;
        match lane {
            None => self.heap.pop().map(|entry| entry.event),
            Some(index) => self.lanes[index].1.pop_front().map(|entry| entry.event),
        }
    }

    fn entry(&mut self, at: Nanos, event: E) -> Entry<E> {
        self.scheduled += 1;
        Entry { at, number: self.scheduled, event }
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// The earliest is the greatest, as the heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_scheduling() {
        let mut events = Events::new();
        let lane = events.lane(Nanos(5));
        assert_eq!(events.lane(Nanos(5)), lane);
        events.at(Nanos(7), "heap at 7");
        events.after(lane, "lane at 5");
        events.at(Nanos(5), "heap at 5");
        events.at(Nanos(1), "heap at 1");
        let mut seen = Vec::new();
        while let Some(event) = events.next(Nanos(6)) {
            seen.push(event);
        }
        assert_eq!(seen, ["heap at 1", "lane at 5", "heap at 5"]);
        assert_eq!(events.now(), Nanos(5));
        events.at(Nanos(2), "late");
        assert_eq!((events.next(Nanos(6)), events.now()), (Some("late"), Nanos(5)));
        assert_eq!(events.next(Nanos::MAX), Some("heap at 7"));
    }
}
