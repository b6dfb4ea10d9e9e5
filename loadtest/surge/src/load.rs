//! What is offered to a service: a curve for each operation, and how people behave meanwhile.
//!
//! A load knows nothing of names or files: profiles ([`crate::catalog`]) and expressions ([`crate::language`]) make
//! loads, a run plays them, a plan draws them.

mod behaviour;
mod operation;
mod sizes;
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

pub use behaviour::{Behaviour, CodeDelay, IMPATIENT_TRIES, Slow};
pub use operation::{FAN_OUT, Op};
pub use sizes::{BYTES_MAX, Sizes};
pub use work::Work;

use crate::curve::{Curve, CurveError};

/// Curves in arrivals per second, all of the same length.
#[derive(Clone, Debug, Default)]
pub struct Load {
    curves: BTreeMap<Op, Curve>,
    duration: Duration,
    /// Times, in order, of which nothing says how existing users write.
    unsaid: Vec<(Duration, Duration)>,
    pub behaviour: Behaviour,
}

/// What one time a base rate is, in arrivals per second; profiles are multiples of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BaseRates {
    pub sign_up: f64,
    pub send: f64,
    pub discover: f64,
    /// People online. Operations on sessions are shares of them.
    pub people: f64,
    /// People who are offline when the run begins.
    pub offline: f64,
}

impl BaseRates {
    pub fn of(&self, op: Op) -> f64 {
        match op {
            Op::SignUp => self.sign_up,
            Op::Send | Op::FanOut => self.send,
            Op::Discover => self.discover,
            Op::Reconnect | Op::Flap => self.people,
            Op::Wake => self.offline,
        }
    }
}

impl Load {
    pub fn one(op: Op, curve: Curve) -> Self {
        let duration = curve.duration();
        let unsaid = if op == Op::Send { Vec::new() } else { vec![(Duration::ZERO, duration)] };
        Self { duration, unsaid, curves: BTreeMap::from([(op, curve)]), behaviour: Behaviour::default() }
    }

    pub fn with(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// With these operations alone; all of them when none is named.
    pub fn only(mut self, ops: &[Op]) -> Self {
        self.curves.retain(|op, _| ops.is_empty() || ops.contains(op));
        self
    }

    /// `None`: nothing of that kind is offered.
    pub fn curve(&self, op: Op) -> Option<&Curve> {
        self.curves.get(&op)
    }

    pub fn curves(&self) -> impl Iterator<Item = (Op, &Curve)> {
        self.curves.iter().map(|(op, curve)| (*op, curve))
    }

    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Arrivals of all kinds.
    pub fn total(&self) -> f64 {
        self.curves.values().map(Curve::total).sum()
    }

    pub fn rate_at(&self, op: Op, at: Duration) -> f64 {
        self.curve(op).map_or(0.0, |curve| curve.rate_at(at))
    }

    /// `next` after this one.
    pub fn then(&self, next: &Load) -> Self {
        let curve = |op| {
            let first = self.curve(op).cloned().unwrap_or_default().lasting(self.duration);
            first.then(&next.curve(op).cloned().unwrap_or_default()).lasting(self.duration + next.duration)
        };
        let later = |(from, to): &(Duration, Duration)| (*from + self.duration, *to + self.duration);
        Self {
            curves: self.ops_with(next).map(|op| (op, curve(op))).collect(),
            duration: self.duration + next.duration,
            unsaid: self.unsaid.iter().copied().chain(next.unsaid.iter().map(later)).collect(),
            behaviour: self.behaviour.clone().and(next.behaviour.after(self.duration)),
        }
    }

    /// Both at once; as long as the longer one.
    pub fn plus(&self, other: &Load) -> Self {
        let curve = |op| match (self.curve(op), other.curve(op)) {
            (Some(a), Some(b)) => a.plus(b),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => Curve::default(),
        };
        let duration = self.duration.max(other.duration);
        Self {
            curves: self.ops_with(other).map(|op| (op, curve(op).lasting(duration))).collect(),
            duration,
            unsaid: both(&self.unsaid_until(duration), &other.unsaid_until(duration)),
            behaviour: self.behaviour.clone().and(other.behaviour.clone()),
        }
    }

    /// `factor` times as much of everything.
    ///
    /// # Errors
    ///
    /// When that is no rate.
    pub fn times(&self, factor: f64) -> Result<Self, CurveError> {
        let curves = self
            .curves
            .iter()
            .map(|(op, curve)| Ok((*op, curve.times(factor)?)))
            .collect::<Result<_, _>>()?;
        Ok(Self { curves, ..self.clone() })
    }

    /// The same rates in another time, with what people do in between just as much faster or slower.
    ///
    /// # Errors
    ///
    /// When it is no time.
    pub fn within(&self, duration: Duration) -> Result<Self, CurveError> {
        if duration.is_zero() || self.duration.is_zero() {
            return Err(CurveError::Empty);
        }
        let curves = self
            .curves
            .iter()
            .map(|(op, curve)| Ok((*op, curve.within(duration)?)))
            .collect::<Result<_, _>>()?;
        let factor = duration.as_secs_f64() / self.duration.as_secs_f64();
        let scaled = |at: Duration| at.mul_f64(factor).min(duration);
        let unsaid = self.unsaid.iter().map(|(from, to)| (scaled(*from), scaled(*to))).collect();
        Ok(Self { curves, duration, unsaid, behaviour: self.behaviour.clone().at_speed(factor) })
    }

    /// With existing users writing at this rate wherever nothing says how they write.
    ///
    /// # Errors
    ///
    /// When that is no rate.
    pub fn with_background(&self, per_s: f64) -> Result<Self, CurveError> {
        let sends = self
            .unsaid
            .iter()
            .filter(|(from, to)| to > from)
            .try_fold(self.curve(Op::Send).cloned().unwrap_or_default(), |sends, (from, to)| {
                Ok(sends.plus(&Curve::constant(per_s, *to - *from)?.after(*from)))
            })?;
        let mut load = Self { unsaid: Vec::new(), ..self.clone() };
        load.curves.insert(Op::Send, sends.lasting(self.duration));
        Ok(load)
    }

    fn unsaid_until(&self, end: Duration) -> Vec<(Duration, Duration)> {
        let rest = (self.duration < end).then_some((self.duration, end));
        self.unsaid.iter().copied().chain(rest).collect()
    }

    fn ops_with(&self, other: &Load) -> impl Iterator<Item = Op> {
        let mut ops: Vec<_> = self.curves.keys().chain(other.curves.keys()).copied().collect();
        ops.sort_unstable();
        ops.dedup();
        ops.into_iter()
    }
}

/// Where both are.
fn both(a: &[(Duration, Duration)], b: &[(Duration, Duration)]) -> Vec<(Duration, Duration)> {
    let overlap = |a: &(Duration, Duration), b: &(Duration, Duration)| (a.0.max(b.0), a.1.min(b.1));
    let mut both: Vec<_> = a.iter().flat_map(|a| b.iter().map(move |b| overlap(a, b))).collect();
    both.retain(|(from, to)| to > from);
    both.sort_unstable();
    both
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::curve::any_curve;

    prop_compose! {
        fn any_load()(curves in prop::collection::btree_map(0..Op::ALL.len(), any_curve(), 1..4)) -> Load {
            curves.into_iter().fold(Load::default(), |load, (op, curve)| load.plus(&Load::one(Op::ALL[op], curve)))
        }
    }

    #[test]
    fn existing_users_write_wherever_nothing_says_how() {
        let plateau =
            |op, per_s, seconds| Load::one(op, Curve::constant(per_s, Duration::from_secs(seconds)).unwrap());
        let (comers, sends) = (plateau(Op::SignUp, 5.0, 10), plateau(Op::Send, 7.0, 4));
        let total = |load: &Load| load.with_background(100.0).unwrap().curve(Op::Send).unwrap().total();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(near(total(&comers), 1_000.0));
        assert!(near(total(&sends), 28.0));
        assert!(near(total(&sends.then(&comers).then(&sends)), 28.0 + 1_000.0 + 28.0));
        assert!(near(total(&comers.plus(&sends)), 28.0 + 600.0), "after the sends it is not said");
        assert!(near(total(&comers.plus(&comers)), 1_000.0), "and once, whatever is added up");
        let half = sends.then(&comers).within(Duration::from_secs(7)).unwrap();
        assert!(near(total(&half), 14.0 + 500.0));
        let silent = plateau(Op::Send, 0.0, 10);
        assert!(near(total(&silent), 0.0), "silence can be said");
    }

    #[test]
    fn what_is_left_out_is_not_offered_and_takes_its_time_all_the_same() {
        let second = Duration::from_secs(1);
        let one = |op| Load::one(op, Curve::constant(2.0, second).unwrap());
        let both = one(Op::SignUp).then(&one(Op::Send));
        let sends = both.clone().only(&[Op::Send, Op::Wake]);
        assert!(sends.curve(Op::SignUp).is_none() && (sends.total() - 2.0).abs() < 1e-9);
        assert_eq!(sends.duration(), both.duration());
        assert!((both.only(&[]).total() - 4.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn totals_of_loads_follow_the_laws_of_arithmetic(a in any_load(), b in any_load(), k in 0.0..9.0f64) {
            let near = |x: f64, y: f64| (x - y).abs() <= 1e-6 * (1.0 + x.abs());
            prop_assert!(near(a.then(&b).total(), a.total() + b.total()));
            prop_assert!(near(a.plus(&b).total(), a.total() + b.total()));
            prop_assert!(near(a.times(k).unwrap().total(), a.total() * k));
            prop_assert_eq!(a.then(&b).duration(), a.duration() + b.duration());
            let squeezed = a.within(a.duration() / 4).unwrap();
            prop_assert!((squeezed.total() - a.total() / 4.0).abs() < 1e-3 * (1.0 + a.total()));
        }

        #[test]
        fn what_follows_begins_when_the_first_has_ended(a in any_load(), b in any_load(), share in 0.0..0.99f64) {
            let both = a.then(&b);
            let at = b.duration().mul_f64(share);
            for op in Op::ALL {
                let count = |load: &Load, at| load.curve(op).map_or(0.0, |curve| curve.count_until(at));
                let expected = count(&a, a.duration()) + count(&b, at);
                let found = count(&both, a.duration() + at);
                prop_assert!((found - expected).abs() < 1e-3, "{op}: {found} for {expected}");
            }
        }
    }
}
