//! The frontier under any ticks: leaps of the clock, changes of the holder, gaps, claims and an operator who cannot decide.

use std::time::Duration;

use proptest::prelude::*;
use spillway_types::Timestamp;
use spillway_waiting_room::{
    Bound, Claimed, Country, Frontier, Limits, Mode, Operator, Steering, SteeringConfig, Tick, View,
};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Turn {
    pause: Duration,
    provider: f64,
    refusing: bool,
    arrivals: u64,
    abandon: Option<(u64, u64)>,
    claims: u64,
    operator: Option<Operator>,
    /// Another holder takes over, who has heard of all publications but so many.
    takeover: Option<usize>,
}

prop_compose! {
    fn turn()(
        pause in prop_oneof![8 => Just(1_000u64), 2 => 0u64..3_000, 1 => 0u64..10_000_000],
        provider in prop_oneof![8 => 0.0..500.0, 1 => Just(f64::INFINITY), 1 => Just(f64::NAN), 1 => Just(-5.0)],
        refusing in prop::bool::weighted(0.2),
        arrivals in prop_oneof![0u64..1_000, Just(0)],
        abandon in prop::option::weighted(0.3, (0u64..2_000, 0u64..300)),
        claims in 0u64..300,
        operator in prop::option::weighted(0.05, prop_oneof![
            Just(Operator::Auto), Just(Operator::Freeze), Just(Operator::Open), (0.0..200.0).prop_map(Operator::Rate),
        ]),
        takeover in prop::option::weighted(0.05, 0usize..3),
    ) -> Turn {
        let pause = Duration::from_millis(pause);
        Turn { pause, provider, refusing, arrivals, abandon, claims, operator, takeover }
    }
}

proptest! {
    #[test]
    fn it_never_goes_back_and_never_passes_the_last_number(turns in prop::collection::vec(turn(), 1..200)) {
        let config = SteeringConfig::default();
        let (mut steering, mut epoch) = (Steering::new(config, 1), 1);
        let mut published = vec![Frontier::NONE];
        let mut view = View::default();
        let (mut now, mut issued, mut reached) = (Duration::ZERO, 0, 0);
        for turn in turns {
            now += turn.pause;
            issued += turn.arrivals;
            if let Some(missed) = turn.takeover {
                epoch += 1;
                let heard = published.len() - 1 - missed.min(published.len() - 1);
                steering = Steering::resume(config, epoch, &published[heard]);
                // Its monotonic clock is another one.
                now = now.saturating_sub(SECOND * 5);
            }
            if let Some(operator) = turn.operator {
                steering.steer(operator);
            }
            let limits = Limits { provider: turn.provider, ..Limits::NONE };
            let last = *published.last().unwrap();
            let abandoned: Vec<_> = turn
                .abandon
                .map(|(back, count)| issued.saturating_sub(back)..=(issued.saturating_sub(back) + count).min(issued))
                .into_iter()
                .collect();
            let claimed = [Claimed { publication: last.number.saturating_sub(turn.claims % 150), count: turn.claims }];
            let tick = Tick {
                now, at: Timestamp::ZERO, limits: &limits, refusing: turn.refusing, issued,
                abandoned: &abandoned, claimed: &claimed,
            };
            let frontier = steering.tick(&tick);
            prop_assert!(frontier.f <= issued, "beyond what was given out");
            prop_assert!(frontier.speed.is_finite() && frontier.speed >= 0.0);
            prop_assert!((0.3..=1.0).contains(&frontier.show_up), "{}", frontier.show_up);
            prop_assert!(frontier.marks.is_sorted_by(|newer, older| newer >= older));
            if turn.takeover.is_none() {
                prop_assert!(frontier.f >= last.f, "went back");
                prop_assert_eq!(frontier.number, last.number + 1);
            }
            published.push(frontier);
            // What a gateway makes of it, with a clock of its own that never leaps.
            view.hear(&frontier, SECOND * u32::try_from(published.len()).unwrap());
            for part in 0..3 {
                let at = SECOND * u32::try_from(published.len()).unwrap() + SECOND / 3 * part;
                prop_assert!(view.frontier(at) >= reached, "went back at the gateway");
                reached = view.frontier(at);
                prop_assert!(reached <= issued, "beyond what was given out, at the gateway");
            }
        }
    }
}

/// A room that is full, and everybody comes as sigma expects.
struct Room {
    steering: Steering,
    now: Duration,
    limits: Limits,
    refusing: bool,
    last: Frontier,
}

impl Room {
    fn new(provider: f64) -> Self {
        let steering = Steering::new(SteeringConfig::default(), 1);
        let limits = Limits { provider, ..Limits::NONE };
        let mut room = Self { steering, now: Duration::ZERO, limits, refusing: false, last: Frontier::NONE };
        room.tick();
        room
    }

    fn tick(&mut self) -> Frontier {
        self.now += SECOND;
        // All of those called in the last second claim, so that nothing is owed in the long run.
        let called = self.last.speed;
        let claimed = [Claimed { publication: self.last.number, count: (called * self.last.show_up) as u64 }];
        let tick = Tick {
            now: self.now,
            at: Timestamp::ZERO,
            limits: &self.limits,
            refusing: self.refusing,
            issued: 10_000_000,
            abandoned: &[],
            claimed: &claimed,
        };
        self.last = self.steering.tick(&tick);
        self.last
    }

    fn after(&mut self, seconds: u32) -> Frontier {
        (0..seconds).map(|_| self.tick()).last().unwrap_or(self.last)
    }
}

#[test]
fn it_freezes_while_existing_users_are_refused_and_starts_slowly() {
    let mut room = Room::new(100.0);
    room.after(30);
    room.refusing = true;
    assert_eq!(room.after(5).mode, Mode::Paced);
    let frozen = room.after(1);
    assert_eq!((frozen.mode, frozen.speed), (Mode::Overload, 0.0));
    // The step that was published before it froze has been taken.
    assert_eq!(room.after(20).f, frozen.f);
    room.refusing = false;
    assert_eq!(room.after(5).mode, Mode::Overload);
    assert_eq!(room.after(1).rate, 25.0);
    assert_eq!(room.after(10).rate, 31.25);
    assert!((room.after(30).rate - 25.0 * 1.25f64.powi(4)).abs() < 1e-9);
    assert_eq!(room.after(40).rate, 100.0);
}

#[test]
fn the_operator_goes_first_and_existing_users_before_him() {
    let mut room = Room::new(100.0);
    room.steering.steer(Operator::Rate(7.0));
    assert_eq!(room.after(1).rate, 7.0);
    room.steering.steer(Operator::Freeze);
    assert_eq!((room.after(1).mode, room.last.speed), (Mode::Stopped, 0.0));
    // A change of holder does not set free what the operator has stopped.
    room.steering = Steering::resume(SteeringConfig::default(), 2, &room.last);
    assert_eq!(room.after(1).mode, Mode::Stopped);
    room.steering.steer(Operator::Open);
    assert_eq!((room.after(2).mode, room.last.f), (Mode::Open, 10_000_000));
    room.steering.steer(Operator::Rate(7.0));
    room.refusing = true;
    assert_eq!(room.after(6).mode, Mode::Overload);
}

#[test]
fn the_least_limit_counts() {
    let limits = Limits { provider: 90.0, budget: 80.0, store: 70.0, gateways: 60.0, ..Limits::NONE };
    assert_eq!(limits.least(), (Bound::Gateways, 60.0));
    let country = |share, budget| Country { share, budget };
    // A fifth of the sign-ups, with seats for ten a second: fifty in all. One in a hundred does not count.
    let countries = vec![country(0.2, 10.0), country(0.01, 0.0)];
    assert_eq!(Limits { countries, ..limits }.least(), (Bound::Country, 50.0));
    assert_eq!(Limits { setting: 0.5, ..Limits::NONE }.least(), (Bound::Setting, 0.5));
    assert_eq!(Limits::NONE.least().0, Bound::Unlimited);
    assert_eq!(Limits { store: f64::NAN, ..Limits::NONE }.rate(), 0.0);
    assert_eq!(Limits { store: -1.0, ..Limits::NONE }.rate(), 0.0);
}

#[test]
fn a_quiet_day_saves_nothing_up() {
    let mut room = Room::new(100.0);
    let tick = |room: &mut Room, issued, claims| {
        room.now += SECOND;
        let claimed = [Claimed { publication: room.last.number, count: claims }];
        let tick = Tick {
            now: room.now,
            at: Timestamp::ZERO,
            limits: &room.limits,
            refusing: false,
            issued,
            abandoned: &[],
            claimed: &claimed,
        };
        room.last = room.steering.tick(&tick);
        room.last
    };
    room.steering = Steering::new(SteeringConfig::default(), 1);
    for second in 0..3_600 {
        let frontier = tick(&mut room, second * 10, 7);
        assert_eq!(frontier.f, second * 10, "everybody is called");
    }
    // Then a crowd comes: the first second lets in a second's worth.
    let before = room.last.f;
    let after = tick(&mut room, 1_000_000, 7).f;
    assert!((after - before) as f64 <= room.last.pace() * 1.1, "{}", after - before);
}

#[test]
fn a_lottery_waits_for_its_draw() {
    let mut room = Room::new(100.0);
    room.steering = Steering::new(SteeringConfig::default(), 1);
    room.last = Frontier::NONE;
    room.steering.await_draw(1);
    assert_eq!(room.after(30).f, 0);
    // A change of holder does not open it early.
    room.steering = Steering::resume(SteeringConfig::default(), 2, &room.last);
    assert_eq!(room.after(30).f, 0);
    let pool = room.steering.draw(4_000).unwrap();
    assert_eq!((pool.first, pool.count), (1, 4_000));
    let frontier = room.after(10);
    assert!(frontier.f > 0 && frontier.pool == Some(pool));
}
