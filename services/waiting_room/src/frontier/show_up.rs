//! How many of the called come, and when.
//!
//! For each age a, in publications since the call, the share h(a) of the called who claim at that age: claims seen over those who have been
//! called for so long. Its sum over the window is sigma. So a minute after an opening sigma knows what came within that minute, instead of
//! waiting two for the first window to end, and claims that are still under way are expected at the ages at which they come.
//!
//! Only those count who have waited. Who is called as he enters, because nobody waits, is there and claims at once: a crowd that comes after hours of
//! that hears of its turns when it asks, and to expect it at once would call twice as many, and then nobody, by turns.

use std::collections::VecDeque;

/// What gateways tell: claims of those whose turn came under a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// [`crate::Frontier::number`].
    pub publication: u64,
    pub count: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct ShowUp {
    min: f64,
    max: f64,
    /// By age: claims, and the called who have reached that age; the old ones fade.
    claims: [f64; AGES],
    called: [f64; AGES],
    cohorts: VecDeque<Cohort>,
}

#[derive(Clone, Copy, Debug)]
struct Cohort {
    publication: u64,
    /// Of those who had waited.
    called: f64,
    at_the_door: bool,
}

/// The window of 120 s, and the second in which gateways tell of it.
const AGES: usize = 122;
/// What is measured fades to 1/e in half a minute, but no faster than so many are called.
const FADES_IN: f64 = 30.0;
const FADES_AFTER: f64 = 2_000.0;
/// What is assumed at the start counts as much as so many called, and as if all came within one poll of ten seconds and its jitter.
const ASSUMED: f64 = 200.0;
const ASSUMED_AGES: usize = 12;

impl ShowUp {
    /// `start`: what is assumed, from 0 to 1.
    pub(crate) fn new(start: f64, min: f64, max: f64) -> Self {
        let mut claims = [0.0; AGES];
        claims[..ASSUMED_AGES].fill(start * ASSUMED / ASSUMED_AGES as f64);
        Self { min, max, claims, called: [ASSUMED; AGES], cohorts: VecDeque::with_capacity(AGES + 1) }
    }

    /// `called` were called under `publication`, `at_the_door` if nobody was left waiting, and `claimed` is what gateways have told since the
    /// last time.
    pub(crate) fn tick(&mut self, publication: u64, called: f64, at_the_door: bool, claimed: &[Claimed]) {
        let called = if at_the_door { 0.0 } else { called };
        self.cohorts.push_back(Cohort { publication, called, at_the_door });
        while self.cohorts.front().is_some_and(|cohort| publication - cohort.publication >= AGES as u64) {
            self.cohorts.pop_front();
        }
        let exposed: f64 = self.cohorts.iter().map(|cohort| cohort.called).sum();
        if exposed > 0.0 {
            let fade = (-(1.0 / FADES_IN).min(called.max(exposed / AGES as f64) / FADES_AFTER)).exp();
            self.claims.iter_mut().chain(&mut self.called).for_each(|value| *value *= fade);
        }
        for cohort in &self.cohorts {
            self.called[(publication - cohort.publication) as usize] += cohort.called;
        }
        // Of those called longer ago, or by another holder, nothing is known to compare with.
        let first = self.cohorts.front().map_or(u64::MAX, |cohort| cohort.publication);
        let cohort =
            |claim: &Claimed| self.cohorts.get(usize::try_from(claim.publication.checked_sub(first)?).ok()?);
        let has_waited = |claim: &&Claimed| cohort(claim).is_some_and(|cohort| !cohort.at_the_door);
        for claim in claimed.iter().filter(has_waited) {
            self.claims[(publication - claim.publication) as usize] += claim.count as f64;
        }
    }

    /// The share of the called who claim.
    pub(crate) fn share(&self) -> f64 {
        (0..AGES).map(|age| self.at(age)).sum::<f64>().clamp(self.min, self.max)
    }

    /// Claims that are still to come from those who have been called.
    pub(crate) fn to_come(&self) -> f64 {
        let newest = self.cohorts.back().map_or(0, |cohort| cohort.publication);
        let mut tail = [0.0; AGES + 1];
        for age in (0..AGES).rev() {
            tail[age] = tail[age + 1] + self.at(age);
        }
        let to_come = |cohort: &Cohort| cohort.called * tail[(newest - cohort.publication) as usize + 1];
        self.cohorts.iter().map(to_come).sum()
    }

    /// `count` of the called turned out to be nobody.
    pub(crate) fn recall(&mut self, count: u64) {
        if let Some(cohort) = self.cohorts.back_mut() {
            cohort.called = (cohort.called - count as f64).max(0.0);
        }
    }

    fn at(&self, age: usize) -> f64 {
        self.claims[age] / self.called[age].max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_known_before_the_first_window_ends() {
        let mut show_up = ShowUp::new(0.7, 0.3, 1.0);
        assert!((show_up.share() - 0.7).abs() < 1e-9);
        for publication in 1..=40u64 {
            // Half of a thousand come, five seconds after the call.
            let claimed = Claimed { publication: publication.saturating_sub(5), count: 500 };
            let claimed = if publication > 5 { vec![claimed] } else { vec![] };
            show_up.tick(publication, 1_000.0, false, &claimed);
        }
        assert!((show_up.share() - 0.5).abs() < 0.02, "{}", show_up.share());
        assert!((show_up.to_come() - 2_500.0).abs() < 100.0, "{}", show_up.to_come());
    }

    #[test]
    fn who_is_called_at_the_door_says_nothing_of_those_who_wait() {
        let (mut quiet, mut crowd) = (ShowUp::new(0.7, 0.3, 1.0), ShowUp::new(0.7, 0.3, 1.0));
        for publication in 1..=600 {
            // All of them come, at once.
            quiet.tick(publication, 10.0, true, &[Claimed { publication, count: 10 }]);
        }
        for publication in 601..=605 {
            quiet.tick(publication, 100.0, false, &[]);
            crowd.tick(publication, 100.0, false, &[]);
        }
        assert!((quiet.share() - crowd.share()).abs() < 1e-9, "{} and {}", quiet.share(), crowd.share());
        assert!(
            (quiet.to_come() - crowd.to_come()).abs() < 1e-6,
            "{} and {}",
            quiet.to_come(),
            crowd.to_come()
        );
    }

    #[test]
    fn who_comes_after_the_window_does_not_count() {
        let mut show_up = ShowUp::new(0.7, 0.3, 1.0);
        for publication in 1..=200 {
            show_up.tick(publication, 10.0, false, &[]);
        }
        show_up.tick(201, 10.0, false, &[Claimed { publication: 3, count: 1_000 }]);
        assert!((show_up.share() - 0.3).abs() < 1e-9);
    }
}
