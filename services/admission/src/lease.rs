//! Limits that hold for the whole fleet: a part of them is lent to each process that has callers.
//!
//! Each key of such a limit has an owner, by consistent hash, who lends parts for a short time. A process decides by its part
//! alone, so no call waits for another process. Parts follow the traffic, because a limit that is split evenly refuses
//! those who happen to meet at one process (Guérin, arXiv 1909.08969, proves that splitting a bucket always costs).
//!
//! Invariant: the parts that are lent and not yet over never exceed the limit, whatever is lost or late, if clocks run at the
//! same speed: the owner counts a lease from its answer, the borrower from its question.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::quota::table::OnFailure;

/// How long parts are lent, and how often they are asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    pub valid_for: Duration,
    pub refresh_every: Duration,
}

/// A part of a limit, as lent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lease {
    /// Permits a second.
    pub share: f64,
    pub valid_for: Duration,
}

/// The owner's side, for one key.
#[derive(Clone, Debug)]
pub struct Lender<H> {
    terms: LeaseTerms,
    /// Permits a second for the whole fleet.
    limit: f64,
    holders: HashMap<H, Loan>,
}

#[derive(Clone, Debug)]
struct Loan {
    /// Parts that are not over yet, and when they are: an answer with a smaller part may be lost, and then the holder goes
    /// by the larger one of before. The larger first.
    shares: Vec<(f64, Duration)>,
    /// Permits a second that its callers asked for.
    wanted: f64,
}

/// A process's side, for one key.
#[derive(Clone, Copy, Debug)]
pub struct Borrower {
    on_loss: OnFailure,
    lease: Option<(f64, Duration)>,
}

impl Default for LeaseTerms {
    /// Of `reference/overload.md` b.6.
    fn default() -> Self {
        Self { valid_for: Duration::from_secs(2), refresh_every: Duration::from_millis(500) }
    }
}

impl<H: Eq + Hash> Lender<H> {
    pub fn new(limit: f64, terms: LeaseTerms) -> Self {
        Self { terms, limit: limit.max(0.0), holders: HashMap::new() }
    }

    /// Takes up another limit. Parts that are lent already run out.
    pub fn set_limit(&mut self, limit: f64) {
        self.limit = limit.max(0.0);
    }

    /// Lends `holder` its part, given the permits a second that its callers ask for: all that they want while that fits, else
    /// in proportion to what all want. Never more than others have left, so a process that comes new to a busy key gets its
    /// part as the leases of others are renewed.
    pub fn lend(&mut self, now: Duration, holder: H, wanted: f64) -> Lease {
        self.holders.retain(|_, loan| loan.forget(now));
        let wanted = if wanted.is_finite() { wanted.max(0.0) } else { self.limit };
        let (mut lent, mut all_wanted) = (0.0, wanted);
        for (_, loan) in self.holders.iter().filter(|(other, _)| **other != holder) {
            lent += loan.share(now);
            all_wanted += loan.wanted;
        }
        let fair = if all_wanted > self.limit {
            self.limit * wanted / all_wanted
        } else {
            // Half of what nobody wants is lent too, for those who come before the next refresh.
            wanted + (self.limit - all_wanted) / (self.holders.len() + 1) as f64 / 2.0
        };
        let share = fair.min(self.limit - lent).max(0.0);
        let loan = self.holders.entry(holder).or_insert_with(|| Loan { shares: Vec::new(), wanted });
        loan.wanted = wanted;
        loan.shares.retain(|(larger, _)| *larger > share);
        loan.shares.push((share, now + self.terms.valid_for));
        Lease { share, valid_for: self.terms.valid_for }
    }

    /// What is lent and not yet over, in permits a second.
    pub fn lent(&self, now: Duration) -> f64 {
        self.holders.values().map(|loan| loan.share(now)).sum()
    }
}

impl Loan {
    /// Answers whether anything is left.
    fn forget(&mut self, now: Duration) -> bool {
        self.shares.retain(|(_, until)| *until > now);
        !self.shares.is_empty()
    }

    /// The most that the holder may go by.
    fn share(&self, now: Duration) -> f64 {
        self.shares.iter().find(|(_, until)| *until > now).map_or(0.0, |(share, _)| *share)
    }
}

impl Borrower {
    /// `on_loss`: what counts when the owner does not answer. Open: the last part, and before the first anything. Closed:
    /// nothing.
    pub const fn new(on_loss: OnFailure) -> Self {
        Self { on_loss, lease: None }
    }

    /// Takes up an answer to what was asked at `asked`.
    pub fn lent(&mut self, asked: Duration, lease: Lease) {
        self.lease = Some((lease.share, asked.saturating_add(lease.valid_for)));
    }

    /// Permits a second that this process may give; `None` is no limit.
    pub fn share(&self, now: Duration) -> Option<f64> {
        match (self.lease, self.on_loss) {
            (Some((share, until)), _) if now < until => Some(share),
            (Some((share, _)), OnFailure::Open) => Some(share),
            (None, OnFailure::Open) => None,
            (_, OnFailure::Closed) => Some(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn parts_follow_the_traffic() {
        let mut lender = Lender::new(100.0, LeaseTerms::default());
        let mut shares = [0.0; 3];
        for round in 0..10 {
            for (holder, wanted) in [300.0, 100.0, 0.0].into_iter().enumerate() {
                shares[holder] = lender.lend(round * 500 * MS, holder, wanted).share;
            }
        }
        assert!(
            (shares[0] - 75.0).abs() < 1.0 && (shares[1] - 25.0).abs() < 1.0 && shares[2] < 1.0,
            "{shares:?}"
        );
        // The first one's callers go, the third one's come.
        for round in 10..20 {
            for (holder, wanted) in [0.0, 100.0, 300.0].into_iter().enumerate() {
                shares[holder] = lender.lend(round * 500 * MS, holder, wanted).share;
            }
        }
        assert!(shares[0] < 1.0 && (shares[2] - 75.0).abs() < 1.0, "{shares:?}");
    }

    #[test]
    fn while_it_fits_everybody_gets_what_they_want_and_some_more() {
        let mut lender = Lender::new(100.0, LeaseTerms::default());
        for round in 0..10 {
            for (holder, wanted) in [20.0, 10.0].into_iter().enumerate() {
                let share = lender.lend(round * 500 * MS, holder, wanted).share;
                assert!(share >= wanted && share < 100.0);
            }
        }
    }

    #[test]
    fn a_lost_owner_is_open_for_messages_and_closed_for_money() {
        let lease = Lease { share: 7.0, valid_for: Duration::from_secs(2) };
        let share = |on_loss, lent: bool, at| {
            let mut borrower = Borrower::new(on_loss);
            if lent {
                borrower.lent(Duration::ZERO, lease);
            }
            borrower.share(at)
        };
        let (soon, late) = (1_999 * MS, 2_000 * MS);
        assert_eq!([false, true].map(|lent| share(OnFailure::Open, lent, late)), [None, Some(7.0)]);
        assert_eq!([false, true].map(|lent| share(OnFailure::Closed, lent, late)), [Some(0.0), Some(0.0)]);
        assert_eq!(share(OnFailure::Closed, true, soon), Some(7.0));
    }

    proptest! {
        /// Whatever is asked, lost on the way back, or late: what processes give by leases that are not over is at most
        /// the limit.
        #[test]
        fn the_limit_holds(
            limit in 0.0..1_000.0,
            steps in prop::collection::vec((0u64..5, prop_oneof![0.0..2_000.0, Just(f64::INFINITY)], 0u64..900, 0u64..300, any::<bool>()), 1..200),
        ) {
            let mut lender = Lender::new(limit, LeaseTerms::default());
            let mut borrowers = [Borrower::new(OnFailure::Closed); 5];
            let mut now = Duration::ZERO;
            for (holder, wanted, pause, travel, lost) in steps {
                now += Duration::from_millis(pause);
                let asked = now;
                now += Duration::from_millis(travel);
                let lease = lender.lend(now, holder, wanted);
                if !lost {
                    borrowers[holder as usize].lent(asked, lease);
                }
                prop_assert!(lender.lent(now) <= limit * (1.0 + 1e-9));
                let given: f64 = borrowers.iter().filter_map(|borrower| borrower.share(now)).sum();
                prop_assert!(given <= limit * (1.0 + 1e-9), "{given} of {limit}");
            }
        }
    }
}
