//! Numbers that nobody has: rests of blocks. The frontier passes them in no time.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::order::lottery::Pool;

#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    /// First and last. They do not overlap.
    ranges: BTreeMap<u64, u64>,
    pool: Option<PoolGaps>,
}

/// In a drawn pool places are not numbers, so its gaps are spread evenly.
#[derive(Clone, Copy, Debug)]
struct PoolGaps {
    pool: Pool,
    abandoned: u64,
}

/// How far the frontier came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Advance {
    pub(crate) f: u64,
    /// Places passed that somebody has.
    pub(crate) called: f64,
    /// What is left of the step because `limit` was reached.
    pub(crate) left: f64,
}

/// 24 MB or so. What does not fit costs as much time as if people had it.
const RANGES_MAX: usize = 500_000;

impl Gaps {
    /// Takes up a gap; answers how many of its numbers the frontier `f` has passed already, and which were called for nothing.
    pub(crate) fn add(&mut self, range: &RangeInclusive<u64>, f: u64) -> u64 {
        let (mut first, last) = (*range.start(), *range.end());
        if first == 0 || first > last {
            return 0;
        }
        if let Some(gaps) = &mut self.pool
            && gaps.pool.contains(first)
        {
            let inside = last.min(gaps.pool.last());
            gaps.abandoned = (gaps.abandoned + (inside - first + 1)).min(gaps.pool.count);
            if inside == last {
                return 0;
            }
            // A new holder may skip numbers of the pool and of after it at once.
            first = inside + 1;
        }
        let passed = if first <= f { last.min(f) - first + 1 } else { 0 };
        if last > f && self.ranges.len() < RANGES_MAX {
            self.insert(first.max(f + 1), last);
        }
        passed
    }

    /// What a gateway abandons may lie within what a new holder of the lease has skipped.
    fn insert(&mut self, mut first: u64, mut last: u64) {
        while let Some((&at, &end)) = self.ranges.range(..=last).next_back()
            && end >= first
        {
            (first, last) = (first.min(at), last.max(end));
            self.ranges.remove(&at);
        }
        self.ranges.insert(first, last);
    }

    /// The pool has been drawn: what was abandoned within it is spread over it.
    pub(crate) fn draw(&mut self, pool: Pool) {
        if pool.count == 0 {
            return;
        }
        let inside: Vec<_> =
            self.ranges.range(pool.first..=pool.last()).map(|(first, last)| (*first, *last)).collect();
        let mut abandoned = 0;
        for (first, last) in inside {
            abandoned += last.min(pool.last()) - first + 1;
            self.ranges.remove(&first);
        }
        self.pool = Some(PoolGaps { pool, abandoned });
    }

    /// Moves the frontier from `f` over `step` places that somebody has, not beyond `limit`.
    pub(crate) fn advance(&mut self, f: u64, step: f64, limit: u64) -> Advance {
        let (mut at, mut left, mut called) = (f, step, 0.0);
        while at < limit {
            if let Some((&first, &last)) = self.ranges.first_key_value()
                && first <= at + 1
            {
                at = at.max(last.min(limit));
                if last > limit {
                    break;
                }
                self.ranges.remove(&first);
                continue;
            }
            let (density, end) = self.stretch(at, limit);
            let places = (left / density).floor().min((end - at) as f64);
            if places < 1.0 {
                break;
            }
            at += places as u64;
            left -= places * density;
            called += places * density;
        }
        Advance { f: at, called, left }
    }

    /// Places after `from` up to `to` that somebody has.
    pub(crate) fn held(&self, from: u64, to: u64) -> f64 {
        if to <= from {
            return 0.0;
        }
        let overlap = |first: u64, last: u64| (last.min(to) + 1).saturating_sub(first.max(from + 1));
        // A range that begins before may reach into it, and only the last of those.
        let before = self.ranges.range(..=from).next_back();
        let within = self.ranges.range(from + 1..=to);
        let gaps: u64 = before.into_iter().chain(within).map(|(first, last)| overlap(*first, *last)).sum();
        let thinned = self.pool.map_or(0.0, |gaps| {
            let inside = overlap(gaps.pool.first, gaps.pool.last());
            inside as f64 * (1.0 - gaps.density())
        });
        (to - from - gaps) as f64 - thinned
    }

    /// The share of the places after `at` that somebody has, and how far that is so.
    fn stretch(&self, at: u64, limit: u64) -> (f64, u64) {
        let gap = self.ranges.first_key_value().map_or(u64::MAX, |(first, _)| first - 1);
        let end = gap.min(limit);
        match self.pool {
            Some(gaps) if gaps.pool.contains(at + 1) => (gaps.density(), end.min(gaps.pool.last())),
            Some(gaps) if at + 1 < gaps.pool.first => (1.0, end.min(gaps.pool.first - 1)),
            _ => (1.0, end),
        }
    }
}

impl PoolGaps {
    fn density(&self) -> f64 {
        // Not zero, so that the frontier gets through a pool in which nobody is.
        (1.0 - self.abandoned as f64 / self.pool.count as f64).max(1e-6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_cost_nothing_and_the_limit_holds() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.add(&(11..=20), 0), 0);
        assert_eq!(gaps.held(0, 100), 90.0);
        assert_eq!(gaps.held(15, 25), 5.0);
        assert_eq!(gaps.advance(0, 15.5, 100), Advance { f: 25, called: 15.0, left: 0.5 });
        assert_eq!(gaps.advance(25, 100.0, 30), Advance { f: 30, called: 5.0, left: 95.0 });
        // Told too late: three of them had been called.
        assert_eq!(gaps.add(&(28..=40), 30), 3);
        assert_eq!(gaps.advance(30, 0.0, 35), Advance { f: 35, called: 0.0, left: 0.0 });
        assert_eq!(gaps.advance(35, 1.0, 50), Advance { f: 41, called: 1.0, left: 0.0 });
    }

    #[test]
    fn in_a_drawn_pool_gaps_are_spread() {
        let mut gaps = Gaps::default();
        gaps.add(&(51..=100), 0);
        gaps.draw(Pool { first: 1, count: 100 });
        assert_eq!(gaps.held(0, 120), 70.0);
        assert_eq!(gaps.advance(0, 10.0, 120).f, 20);
        assert_eq!(gaps.advance(20, 45.0, 120).f, 105);
    }

    #[test]
    fn what_reaches_beyond_a_pool_thins_it_only_within() {
        let mut gaps = Gaps::default();
        gaps.draw(Pool { first: 1, count: 100 });
        gaps.add(&(51..=1_000), 0);
        assert_eq!(gaps.held(0, 100), 50.0);
        assert_eq!(gaps.held(100, 1_010), 10.0);
    }
}
