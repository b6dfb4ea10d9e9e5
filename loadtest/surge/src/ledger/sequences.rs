//! A set of sequence numbers, kept as ranges.

use std::ops::Range;

/// Takes memory for each gap and not for each number, so a conversation in order is one range.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// In order, not touching each other.
    ranges: Vec<Range<u64>>,
}

impl Sequences {
    /// Adds a number; false when it was there.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        // The first range that ends at or after the number: it holds it, touches it, or lies above it.
        let at = self.ranges.partition_point(|range| range.end < number);
        let touches_above = |above: Option<&Range<u64>>| above.is_some_and(|above| above.start == number + 1);
        match self.ranges.get(at) {
            Some(range) if range.contains(&number) => return false,
            Some(range) if range.end == number => {
                if touches_above(self.ranges.get(at + 1)) {
                    self.ranges[at].end = self.ranges.remove(at + 1).end;
                } else {
                    self.ranges[at].end += 1;
                }
            }
            above if touches_above(above) => self.ranges[at].start = number,
            _ => self.ranges.insert(at, number..number + 1),
        }
        true
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.end <= number);
        self.ranges.get(at).is_some_and(|range| range.contains(&number))
    }

    /// How many numbers from 0 on are there without a gap.
    pub(super) fn contiguous(&self) -> u64 {
        self.ranges.first().filter(|range| range.start == 0).map_or(0, |range| range.end)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.ranges.iter().cloned().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_set(numbers in prop::collection::vec(0..60u64, 0..120)) {
            let mut sequences = Sequences::default();
            let mut set = BTreeSet::new();
            for number in numbers {
                prop_assert_eq!(sequences.insert(number), set.insert(number));
                prop_assert!(sequences.iter().eq(set.iter().copied()));
                prop_assert!((0..62).all(|n| sequences.contains(n) == set.contains(&n)));
                prop_assert_eq!(sequences.contiguous(), (0..).take_while(|n| set.contains(n)).count() as u64);
                prop_assert!(sequences.ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
        }
    }
}
