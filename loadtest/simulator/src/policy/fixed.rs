//! A number of calls at once that never changes. The number is the best one of a sweep, so this is a careful operator
//! on the day of the sweep.

use super::limited::{Limit, Limited, Sample};

#[derive(Debug)]
pub(super) struct Fixed(u32);

pub(super) fn fixed(limit: u32) -> Limited<Fixed> {
    Limited::new(Fixed(limit.max(1)))
}

impl Limit for Fixed {
    fn limit(&self) -> u32 {
        self.0
    }

    fn sample(&mut self, _sample: &Sample) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{arrival, departure};
    use crate::policy::{Decision, Effects, Policy};
    use crate::time::Nanos;

    #[test]
    fn one_leaves_and_one_comes() {
        let (mut policy, mut effects) = (fixed(2), Effects::default());
        let ask = |policy: &mut Limited<Fixed>, call| {
            policy.arrive(&arrival(call, 0, Nanos::ZERO), Nanos::ZERO, &mut Effects::default())
        };
        assert_eq!([ask(&mut policy, 1), ask(&mut policy, 2)], [Decision::Run, Decision::Run]);
        assert!(matches!(ask(&mut policy, 3), Decision::Refuse(_)));
        policy.depart(&departure(1, Nanos::ZERO, 1), Nanos(5), &mut effects);
        assert_eq!(ask(&mut policy, 4), Decision::Run);
    }
}
