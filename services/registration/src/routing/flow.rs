//! What has gone through lately: sign-ups by country, codes, money, and codes that were put aside. Memory is bounded by the numbering
//! plans.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::faded::Faded;

/// Long enough to see a country's share, short enough to see it change in the course of a day.
const LATELY: Duration = Duration::from_secs(600);
/// As long as a code that waits is not asked about again, at most: the greatest pause of the dispatcher.
const ASIDE: Duration = Duration::from_secs(30);
/// Codes whose price counts beside what was paid, so that the first few say little.
const PRIOR: f64 = 10.0;

#[derive(Debug)]
pub(super) struct Flow {
    sign_ups: HashMap<u16, Faded>,
    codes: Faded,
    spent: Faded,
    /// Seconds for which codes were put aside.
    aside: Faded,
}

impl Flow {
    pub(super) fn new(now: Instant) -> Self {
        let faded = |half_life| Faded::new(half_life, now);
        Self { sign_ups: HashMap::new(), codes: faded(LATELY), spent: faded(LATELY), aside: faded(ASIDE) }
    }

    /// A sign-up with a number of this country has begun.
    pub(super) fn began(&mut self, country: u16, now: Instant) {
        self.sign_ups.entry(country).or_insert_with(|| Faded::new(LATELY, now)).add(1.0, now);
    }

    /// A code went out, and `cost` was paid for it.
    pub(super) fn sent(&mut self, cost: u64, now: Instant) {
        self.codes.add(1.0, now);
        self.spent.add(cost as f64, now);
    }

    /// A code waits, and is looked at again after `pause`.
    pub(super) fn put_aside(&mut self, pause: Duration, now: Instant) {
        self.aside.add(pause.min(ASIDE).as_secs_f64(), now);
    }

    pub(super) fn codes(&self, now: Instant) -> f64 {
        self.codes.get(now)
    }

    pub(super) fn sign_ups(&self, now: Instant) -> impl Iterator<Item = (u16, f64)> {
        self.sign_ups.iter().map(move |(country, count)| (*country, count.get(now)))
    }

    /// Of a code, on average, in millionths of the currency's unit; `expected` while little is known.
    pub(super) fn cost(&self, expected: u64, now: Instant) -> f64 {
        (self.spent.get(now) + PRIOR * expected as f64) / (self.codes.get(now) + PRIOR)
    }

    /// About how many codes are put aside. By Little's law: pauses that begin in a second, times their length. The faded sum of a steady
    /// flow is the flow times half-life / ln 2.
    pub(super) fn aside(&self, now: Instant) -> f64 {
        self.aside.get(now) * std::f64::consts::LN_2 / ASIDE.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_are_put_aside_are_counted_by_how_often_and_how_long() {
        let start = Instant::now();
        let mut flow = Flow::new(start);
        // Forty codes, each asked about every four seconds.
        for tenth in 0..3_000 {
            flow.put_aside(Duration::from_secs(4), start + Duration::from_millis(100 * tenth));
        }
        let now = start + Duration::from_secs(300);
        assert!((38.0..42.0).contains(&flow.aside(now)), "{}", flow.aside(now));
        assert!(flow.aside(now + Duration::from_secs(120)) < 3.0, "they are gone");
    }

    #[test]
    fn the_mean_cost_is_the_expected_one_until_something_is_known() {
        let now = Instant::now();
        let mut flow = Flow::new(now);
        assert_eq!(flow.cost(300, now), 300.0);
        (0..990).for_each(|_| flow.sent(100, now));
        assert_eq!(flow.cost(300, now), 102.0);
    }
}
