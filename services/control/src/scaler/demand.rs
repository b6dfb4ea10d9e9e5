//! How much of a role's capacity is asked for.
//!
//! Processes tell seats that are in use, waited for and refused, and seats that they have (`LoadBeacon`). Their quotient is 1 where
//! admission begins to refuse, whatever the machine, and goes on above it. Times the replicas it is the replicas that the demand
//! fills; an autoscaler divides that by its target and has the replicas that are wanted, in one step and not by doubling.

use std::time::Duration;

use crate::fleet::Total;

/// What a role has to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Demand {
    /// Over the capacity of those who are heard.
    pub(crate) ratio: f64,
    pub(crate) demand_seats: u64,
    /// Those who are heard, and those who may be alive. That they have as much to do as the others is true if they are alive, and if
    /// they are dead, too many are started rather than too few.
    replicas: u32,
}

/// Why it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("the demand is not known: no process of the role is heard")]
    Nobody,
    #[error(
        "the demand is not known yet: processes have been heard for {} s only, and not all may have spoken", .0.as_secs()
    )]
    Listening(Duration),
    #[error("the demand is not known: of the processes of the role, {silent} silent and {heard} heard")]
    Silent { silent: u32, heard: u32 },
    #[error("the demand is not known: the processes of the role have not measured their capacity yet")]
    NoCapacity,
}

impl Demand {
    /// `listening`: how long processes have been heard; `first`: how long they have to be heard before anything is known.
    pub(super) fn of(total: &Total, listening: Option<Duration>, first: Duration) -> Result<Self, Unknown> {
        let listening = listening.ok_or(Unknown::Nobody)?;
        if listening < first {
            return Err(Unknown::Listening(listening));
        }
        let (heard, silent) = (total.processes, total.silent);
        if silent > 0 && silent >= heard {
            return Err(Unknown::Silent { silent, heard });
        }
        if heard == 0 {
            return Err(Unknown::Nobody);
        }
        if total.capacity_seats == 0 {
            return Err(Unknown::NoCapacity);
        }
        let ratio = total.demand as f64 / total.capacity_seats as f64;
        Ok(Self { ratio, demand_seats: total.demand, replicas: heard.saturating_add(silent) })
    }

    /// The replicas that the demand would fill to the last seat.
    pub(super) fn replicas_filled(&self) -> f64 {
        self.ratio * f64::from(self.replicas)
    }
}

/// What the ratio would be if only `others` were there. Without any, it is infinite.
pub(super) fn ratio_without(all: &Demand, others: &Total) -> f64 {
    if others.capacity_seats == 0 {
        f64::INFINITY
    } else {
        all.demand_seats as f64 / others.capacity_seats as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Duration = Duration::from_secs(10);
    const LONG: Option<Duration> = Some(Duration::from_secs(60));

    fn total(processes: u32, silent: u32, demand: u64, capacity_seats: u64) -> Total {
        Total { processes, silent, demand, capacity_seats, ..Total::default() }
    }

    /// As the autoscaler computes it.
    fn wanted(demand: &Demand, target: f64) -> f64 {
        (demand.replicas_filled() / target).ceil()
    }

    #[test]
    fn what_is_not_known_is_no_number() {
        let of = |total: Total, listening| Demand::of(&total, listening, FIRST);
        assert_eq!(of(total(4, 0, 0, 400), None), Err(Unknown::Nobody));
        let short = Duration::from_secs(9);
        assert_eq!(of(total(4, 0, 0, 400), Some(short)), Err(Unknown::Listening(short)));
        assert_eq!(of(total(0, 0, 0, 0), LONG), Err(Unknown::Nobody));
        assert_eq!(of(total(2, 2, 0, 200), LONG), Err(Unknown::Silent { silent: 2, heard: 2 }));
        assert_eq!(of(total(0, 3, 0, 0), LONG), Err(Unknown::Silent { silent: 3, heard: 0 }));
        assert_eq!(of(total(2, 0, 5, 0), LONG), Err(Unknown::NoCapacity));
        let idle = of(total(4, 0, 0, 400), LONG).unwrap();
        assert_eq!((idle.ratio, wanted(&idle, 0.7)), (0.0, 0.0), "idle and heard is known");
    }

    #[test]
    fn ten_times_the_capacity_is_answered_at_once() {
        let surge = Demand::of(&total(2, 0, 2_000, 200), LONG, FIRST).unwrap();
        assert_eq!(wanted(&surge, 0.7), 29.0);
        assert_eq!(ratio_without(&surge, &total(1, 0, 0, 100)), 20.0);
        assert_eq!(ratio_without(&surge, &total(0, 0, 0, 0)), f64::INFINITY);
    }

    #[test]
    fn who_is_silent_is_not_taken_for_gone() {
        let heard = Demand::of(&total(7, 0, 490, 700), LONG, FIRST).unwrap();
        let some = Demand::of(&total(7, 3, 490, 700), LONG, FIRST).unwrap();
        assert_eq!((wanted(&heard, 0.7), wanted(&some, 0.7)), (7.0, 10.0));
    }

    proptest! {
        /// More demand, or more of the fleet unheard, never asks for fewer replicas; at the target exactly those that there are.
        #[test]
        fn wanted_replicas_follow_the_demand(
            heard in 1_u32..500,
            silent in 0_u32..500,
            seats in 1_u64..2_000,
            demand in 0_u64..1_000_000,
            more in 0_u64..1_000_000,
        ) {
            let capacity = u64::from(heard) * seats;
            let of = |silent, demand| Demand::of(&total(heard, silent, demand, capacity), LONG, FIRST);
            let (Ok(less), Ok(much)) = (of(silent, demand), of(silent, demand + more)) else {
                prop_assert!(silent >= heard);
                return Ok(());
            };
            prop_assert!(less.replicas_filled() <= much.replicas_filled());
            prop_assert!(of(0, demand).unwrap().replicas_filled() <= less.replicas_filled());
            let full = of(0, capacity).unwrap();
            prop_assert!((full.replicas_filled() - f64::from(heard)).abs() < 1e-9);
        }
    }
}
