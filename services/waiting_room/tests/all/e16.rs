//! Experiment E16 of `reference/overload.md`: a million arrivals in a minute, five gateways of which one is killed, in virtual time and
//! with the code that runs in production.

mod figures;
mod world;

use std::time::Duration;

use figures::Figures;
use world::{Scenario, World};

/// People and seats shrink together, so that waits stay what they are.
fn scenario(people: usize, seed: u64) -> Scenario {
    let scale = people as f64 / 1_000_000.0;
    Scenario {
        people,
        arrive_within: Duration::from_secs(60),
        gateways: 5,
        killed: Some((2, Duration::from_secs(30))),
        rates: vec![(Duration::ZERO, 1_200.0 * scale), (Duration::from_secs(300), 1_000.0 * scale)],
        patience: Duration::from_secs(1_500),
        never_claim: 0.05,
        asleep: 0.02,
        polls_max: 10_000.0 * scale,
        seed,
    }
}

fn check(people: usize, seed: u64) {
    let scenario = scenario(people, seed);
    let polls_max = scenario.polls_max;
    let figures = Figures::of(&World::run(scenario));
    println!("{people} people, seed {seed}\n{figures}");
    assert!(figures.overtaking <= Duration::from_secs(1), "overtaking");
    assert!(figures.overtaking_by_kill <= Duration::from_secs(2), "overtaking over the kill");
    assert!(figures.tau >= 0.999, "order");
    assert!(figures.mape <= 0.15, "estimates");
    assert!((0.75..=0.85).contains(&figures.inside), "ranges");
    assert!(figures.used >= 0.97, "seats used");
    assert!(figures.over <= 0.01, "seats given twice");
    assert!(figures.polls_peak <= polls_max, "polls");
}

#[test]
fn a_hundred_thousand_in_a_minute() {
    check(100_000, 1);
}

/// `cargo test --release -p spillway-waiting-room --test all -- --ignored --nocapture`
#[test]
#[ignore = "some seconds, and 500 MB"]
fn a_million_in_a_minute() {
    for seed in 1..=3 {
        check(1_000_000, seed);
    }
}

/// Order, seats and polls hold in any room. Estimates are printed and not judged: nobody can tell beforehand that A will rise, or that people give up
/// three times as fast as was assumed.
#[test]
fn other_rooms_keep_order_seats_and_polls() {
    let seconds = Duration::from_secs;
    let rooms = [
        ("A stays", vec![(0, 120.0)], 1_500, 0.05),
        ("A rises", vec![(0, 100.0), (300, 120.0)], 1_500, 0.05),
        ("A falls by a third", vec![(0, 120.0), (300, 80.0)], 1_500, 0.05),
        ("half the seats", vec![(0, 60.0), (600, 50.0)], 3_000, 0.05),
        ("a sixth of the seats", vec![(0, 20.0)], 3_000, 0.05),
        ("nobody leaves", vec![(0, 120.0)], 1_000_000, 0.0),
        ("half leave in six minutes", vec![(0, 120.0)], 500, 0.1),
    ];
    for (room, rates, patience, never_claim) in rooms {
        let rates = rates.into_iter().map(|(from, rate)| (seconds(from), rate)).collect();
        let scenario = Scenario { rates, patience: seconds(patience), never_claim, ..scenario(100_000, 1) };
        let polls_max = scenario.polls_max;
        let figures = Figures::of(&World::run(scenario));
        println!("{room}, seed 1\n{figures}");
        assert!(figures.overtaking <= seconds(1) && figures.overtaking_by_kill <= seconds(2), "{room}");
        assert!(figures.tau >= 0.999, "{room}");
        assert!(figures.used >= 0.97 && figures.over <= 0.01, "{room}");
        assert!(figures.polls_peak <= polls_max, "{room}");
    }
}
