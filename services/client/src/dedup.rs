//! Drops messages that were seen before.

use std::collections::{HashSet, VecDeque};

use spillway_types::Guid;

/// Remembers the last guids. At-least-once delivery through it is exactly once, as long as a repetition comes before
/// `capacity` others; the service repeats within its 31 days of retention, a device's own database reaches further.
#[derive(Debug)]
pub struct Dedup {
    capacity: usize,
    seen: HashSet<Guid>,
    order: VecDeque<Guid>,
}

impl Dedup {
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), seen: HashSet::new(), order: VecDeque::new() }
    }

    /// Whether this is the first time.
    pub fn is_new(&mut self, guid: Guid) -> bool {
        if !self.seen.insert(guid) {
            return false;
        }
        self.order.push_back(guid);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_copy_is_dropped_until_it_is_forgotten() {
        let mut dedup = Dedup::new(2);
        let [a, b, c] = [Guid::random(), Guid::random(), Guid::random()];
        assert!(dedup.is_new(a));
        assert!(!dedup.is_new(a));
        assert!(dedup.is_new(b));
        assert!(dedup.is_new(c));
        assert!(dedup.is_new(a), "two others came in between");
        assert!(!dedup.is_new(c));
    }
}
