//! What the store has to spare for sign-ups.
//!
//! Each process tells with its beacon how its writes fared, by kind; added up, they give the pressure, 1 of which is what is too much:
//!
//! ```text
//! time     = max(seconds that finished writes took, writes under way x 1 s) / (finished + 20)
//! pressure = max(time / busy, failed / (finished + 20) / 5 %)             of the kind that fares worse
//! ```
//!
//! Writes under way are the seconds waited in the last second (Little's law), so that a store which answers nothing at all shows at once and not
//! when its time-outs are over. The twenty are writes that went well and were not made, so that a few say little.
//!
//! What the store has room for is what was let in while the pressure was so high, over the pressure; both are means over the same ten seconds, so that
//! nothing is integrated and nothing rings but for the time between a claim and what it writes. Pressure that is somebody else's takes from
//! sign-ups all the same, down to one a second: existing users go first.

use std::time::Duration;

use spillway_api::FieldError;
use spillway_api::internal::v1 as wire;

/// How the writes of the whole fleet fare, or of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StoreLoad {
    identity: Kind,
    mailbox: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Kind {
    finished: f64,
    failed: f64,
    seconds: f64,
    under_way: f64,
}

/// Sign-ups a second that the store has room for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoreRoom {
    claims: Mean,
    pressure: Mean,
    ticked: Option<Duration>,
    /// `None` while there is enough for everybody.
    room: Option<f64>,
}

/// Weighted by age, of as much time as has been seen.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

const PRIOR: f64 = 20.0;
const FAILED_MAX: f64 = 0.05;
/// Of the means: about the time from a claim to most of what its sign-up writes.
const OVER_SECONDS: f64 = 10.0;
/// Above it, room that is bounded follows what is seen; below it, it grows.
const WELL: f64 = 0.8;
/// How much of the way to what was seen is gone in a second.
const SETTLES: f64 = 0.5;
/// As after a freeze: by a quarter in ten seconds (`reference/overload.md` b.10).
const GROWS_IN_TEN_SECONDS: f64 = 1.25;
/// So that it is seen when the store is well again, and so that pressure of others does not shut the room for good.
const FLOOR: f64 = 1.0;
/// More sign-ups a second than any fleet has: there is enough for everybody.
const UNBOUNDED: f64 = 10_000.0;
const DT_MAX: f64 = 2.0;

impl StoreLoad {
    /// `None`: the process has no store.
    pub(crate) fn told(beacon: &wire::LoadBeacon) -> Result<Option<Self>, FieldError> {
        let of = |field, told: Option<&wire::StoreWrites>| match told {
            None => Ok(Kind::default()),
            Some(told) if told.seconds.is_finite() && told.seconds >= 0.0 => Ok(Kind {
                finished: told.finished as f64,
                failed: told.failed as f64,
                seconds: told.seconds,
                under_way: told.under_way as f64,
            }),
            Some(_) => Err(FieldError::new(field, "is not a time")),
        };
        let wire::LoadBeacon { identity_writes: identity, mailbox_writes: mailbox, .. } = beacon;
        let has_store = identity.is_some() || mailbox.is_some();
        let load = Self {
            identity: of("identity_writes.seconds", identity.as_ref())?,
            mailbox: of("mailbox_writes.seconds", mailbox.as_ref())?,
        };
        Ok(has_store.then_some(load))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, part) in [(&mut self.identity, &other.identity), (&mut self.mailbox, &other.mailbox)] {
            sum.finished += part.finished;
            sum.failed += part.failed;
            sum.seconds += part.seconds;
            sum.under_way += part.under_way;
        }
    }

    /// `busy`: the mean time of a write from which on there is no more to spare.
    pub(crate) fn pressure(&self, busy: Duration) -> f64 {
        self.identity.pressure(busy).max(self.mailbox.pressure(busy))
    }
}

impl Kind {
    fn pressure(&self, busy: Duration) -> f64 {
        let among = self.finished + PRIOR;
        let time = self.seconds.max(self.under_way) / among;
        (time / busy.as_secs_f64()).max(self.failed / among / FAILED_MAX)
    }
}

impl StoreRoom {
    /// `claimed` were let in since the last tick. `pressure`: of now; `None` while no process tells of a store, which changes nothing.
    pub(crate) fn tick(&mut self, claimed: u64, pressure: Option<f64>, now: Duration) -> f64 {
        let dt = self.ticked.map_or(0.0, |before| now.saturating_sub(before).as_secs_f64()).min(DT_MAX);
        self.ticked = Some(now);
        self.claims.take(claimed as f64, dt);
        if let Some(pressure) = pressure {
            self.pressure.take(pressure * dt, dt);
            self.follow(dt);
        }
        self.room.unwrap_or(f64::INFINITY)
    }

    fn follow(&mut self, dt: f64) {
        let (Some(claims), Some(pressure)) = (self.claims.value(), self.pressure.value()) else { return };
        if pressure > 1.0 || (pressure > WELL && self.room.is_some()) {
            let seen = (claims / pressure).max(FLOOR);
            let settles = 1.0 - SETTLES.powf(dt);
            self.room = Some(self.room.map_or(seen, |room| room + settles * (seen - room)));
        } else if let Some(room) = &mut self.room {
            *room *= GROWS_IN_TEN_SECONDS.powf(dt / 10.0);
            if *room >= UNBOUNDED {
                self.room = None;
            }
        }
    }
}

impl Mean {
    fn take(&mut self, amount: f64, dt: f64) {
        let kept = (-dt / OVER_SECONDS).exp();
        self.sum = self.sum * kept + amount;
        self.weight = self.weight * kept + dt;
    }

    fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const BUSY: Duration = Duration::from_millis(250);

    fn writes(finished: u64, failed: u64, seconds: f64, under_way: u64) -> wire::StoreWrites {
        wire::StoreWrites { finished, failed, seconds, under_way }
    }

    fn pressure(identity: wire::StoreWrites, mailbox: wire::StoreWrites) -> f64 {
        let beacon = wire::LoadBeacon {
            identity_writes: Some(identity),
            mailbox_writes: Some(mailbox),
            ..wire::LoadBeacon::default()
        };
        StoreLoad::told(&beacon).unwrap().unwrap().pressure(BUSY)
    }

    #[test]
    fn slow_failing_and_unanswered_writes_press_and_a_few_do_not() {
        let well = writes(10_000, 0, 50.0, 60);
        assert!(pressure(well, well) < 0.05);
        // Half a second each, of whichever kind, however quick the other is.
        let slow = writes(480, 0, 250.0, 250);
        for (identity, mailbox) in [(slow, well), (well, slow)] {
            assert_eq!(pressure(identity, mailbox), 2.0);
        }
        assert_eq!(pressure(writes(180, 20, 1.0, 0), well), 2.0);
        assert!(pressure(writes(0, 0, 0.0, 100), well) > 10.0, "nothing is answered");
        assert!(pressure(writes(3, 1, 1.0, 1), well) < 1.0, "a few say little");
    }

    #[test]
    fn parts_are_added_up_and_nonsense_is_refused() {
        let beacon = |seconds| wire::LoadBeacon {
            identity_writes: Some(writes(90, 0, seconds, 0)),
            ..wire::LoadBeacon::default()
        };
        let mut all = StoreLoad::default();
        for seconds in [50.0, 0.0] {
            all.add(&StoreLoad::told(&beacon(seconds)).unwrap().unwrap());
        }
        assert_eq!(all.pressure(BUSY), 1.0);
        assert_eq!(StoreLoad::told(&wire::LoadBeacon::default()), Ok(None), "a gateway has no store");
        for wrong in [f64::NAN, f64::INFINITY, -1.0] {
            StoreLoad::told(&beacon(wrong)).unwrap_err();
        }
    }

    /// Sign-ups of each second for a quarter of an hour, when `wanted` come and each presses `late` seconds after its claim; `pressure` is that of a store for
    /// how many use it in a second.
    fn let_in(wanted: f64, late: usize, pressure: impl Fn(usize, f64) -> f64) -> Vec<f64> {
        let (mut room, mut allowed) = (StoreRoom::default(), f64::INFINITY);
        let (mut on_the_way, mut owed) = (VecDeque::from(vec![0.0; late]), 0.0);
        (0..900)
            .map(|second| {
                owed += wanted.min(allowed);
                let claimed = owed as u64;
                owed -= claimed as f64;
                on_the_way.push_back(claimed as f64);
                let uses = on_the_way.pop_front().unwrap_or(0.0);
                let pressure = pressure(second, uses);
                allowed = room.tick(claimed, Some(pressure), Duration::from_secs(second as u64));
                claimed as f64
            })
            .collect()
    }

    #[test]
    fn it_settles_near_what_the_store_can_do_whatever_comes() {
        for late in [0, 2, 5, 10] {
            for load in [1.5, 3.0, 10.0] {
                let let_in = let_in(100.0 * load, late, |_, uses| uses / 100.0);
                let settled = &let_in[120..];
                let mean = settled.iter().sum::<f64>() / settled.len() as f64;
                assert!((70.0..105.0).contains(&mean), "{load} x, {late} s late: {mean}");
                let most = settled.iter().fold(0.0, |most: f64, seats| most.max(*seats));
                assert!(most < 150.0, "{load} x, {late} s late: {most}");
            }
        }
    }

    #[test]
    fn what_the_store_does_for_others_is_taken_from_sign_ups_and_given_back() {
        let others = |second| if (100..400).contains(&second) { 1.5 } else { 0.2 };
        let let_in = let_in(50.0, 3, |second, uses| others(second) + uses / 1_000.0);
        assert_eq!(let_in[90], 50.0);
        // One a second, so that it is known when it is over.
        let kept: f64 = let_in[300..400].iter().sum();
        assert!((99.0..=102.0).contains(&kept), "{kept}");
        assert_eq!(let_in[899], 50.0);
    }

    #[test]
    fn without_a_word_nothing_changes() {
        let mut room = StoreRoom::default();
        let seconds = |from, to| (from..to).map(Duration::from_secs);
        assert!(seconds(0, 20).all(|now| room.tick(40, None, now) == f64::INFINITY));
        let bounded = seconds(20, 40).map(|now| room.tick(40, Some(2.0), now)).last().unwrap();
        assert!((15.0..25.0).contains(&bounded), "{bounded}");
        assert!(seconds(40, 60).all(|now| room.tick(0, None, now) == bounded));
    }

    proptest! {
        /// Never negative, never less than the floor, no number is lost; and calm gives everything back.
        #[test]
        fn room_is_an_amount_and_calm_frees_it(
            told in prop::collection::vec((0..2_000u64, prop::option::of(0.0..50.0f64), 0..5_000u64), 1..200),
        ) {
            let (mut room, mut now) = (StoreRoom::default(), Duration::ZERO);
            for (claimed, pressure, millis) in told {
                now += Duration::from_millis(millis);
                let allowed = room.tick(claimed, pressure, now);
                prop_assert!(allowed >= FLOOR, "{allowed}");
            }
            // The mean of the pressure has to fall, and then the least room has to grow to the most.
            let freed = (0..900).any(|_| {
                now += Duration::from_secs(1);
                room.tick(0, Some(0.0), now) == f64::INFINITY
            });
            prop_assert!(freed);
        }

        /// More pressure never makes more room.
        #[test]
        fn pressure_only_takes(claims in 0..500u64, lower in 0.0..5.0f64, more in 0.0..5.0f64) {
            let after = |pressure| {
                let mut room = StoreRoom::default();
                (0..30).map(|second| room.tick(claims, Some(pressure), Duration::from_secs(second))).last()
            };
            prop_assert!(after(lower + more) <= after(lower));
        }
    }
}
