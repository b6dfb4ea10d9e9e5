//! Experiment E16 of `reference/overload.md`: a million arrivals in a minute, five gateways of which one is killed, in virtual time and
//! with the code that runs in production.

use std::time::Duration;

use spillway_simulator::room::{Figures, Scenario, World, series};

fn check(people: usize, seed: u64) {
    let scenario = Scenario::e16(people, seed);
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

/// `cargo test --release -p spillway-simulator --test room -- --ignored --nocapture`, or `surge run --profile room-million`
#[test]
#[ignore = "some seconds, and 500 MB"]
fn a_million_in_a_minute() {
    for seed in 1..=3 {
        check(1_000_000, seed);
    }
}

/// A crowd in another room.
struct Other {
    name: &'static str,
    scenario: Scenario,
    /// Of waits that may end inside. Nobody can tell beforehand that A will rise, or that people give up three times as fast as was assumed; where
    /// all is as it was a minute ago a range is as wide as what it is rounded to.
    inside: std::ops::RangeInclusive<f64>,
}

fn other_rooms() -> Vec<Other> {
    let seconds = Duration::from_secs;
    let room = |name, rates: &[(u64, f64)], patience, never_claim, inside| {
        let rates = rates.iter().map(|(from, rate)| (seconds(*from), *rate)).collect();
        let patience = seconds(patience);
        let scenario = Scenario { rates, patience, never_claim, ..Scenario::e16(100_000, 1) };
        Other { name, scenario, inside }
    };
    let usual = 0.7..=0.93;
    let two_gateways =
        Scenario { gateways: 2, killed: Some((1, seconds(8))), asleep: 0.0, ..Scenario::e16(20_000, 1) };
    vec![
        room("A stays", &[(0, 120.0)], 1_500, 0.05, usual.clone()),
        room("A rises", &[(0, 100.0), (300, 120.0)], 1_500, 0.05, usual.clone()),
        room("A falls by a third", &[(0, 120.0), (300, 80.0)], 1_500, 0.05, usual.clone()),
        room(
            "A goes up and down",
            &[(0, 120.0), (200, 100.0), (300, 125.0), (400, 95.0), (500, 130.0), (600, 110.0)],
            1_500,
            0.05,
            usual.clone(),
        ),
        room("half the seats", &[(0, 60.0), (600, 50.0)], 3_000, 0.05, 0.65..=0.93),
        room("a sixth of the seats", &[(0, 20.0)], 3_000, 0.05, usual.clone()),
        room("nobody leaves", &[(0, 120.0)], 1_000_000, 0.0, usual.clone()),
        room("half leave in six minutes", &[(0, 120.0)], 500, 0.1, usual.clone()),
        Other {
            name: "it fills for ten minutes",
            scenario: Scenario {
                people: 60_000,
                arrive_within: seconds(600),
                rates: vec![(Duration::ZERO, 60.0)],
                never_claim: 0.1,
                polls_max: 10_000.0,
                ..two_gateways.clone()
            },
            inside: usual,
        },
        Other {
            name: "it is empty in two minutes",
            scenario: Scenario {
                arrive_within: seconds(20),
                rates: vec![(Duration::ZERO, 150.0)],
                patience: seconds(1_000_000),
                never_claim: 0.125,
                polls_max: 10_000.0,
                ..two_gateways
            },
            // All who wait for a minute have been told within the first minute, when a range is as wide as what is not known yet.
            inside: 0.7..=1.0,
        },
    ]
}

#[test]
fn other_rooms_keep_order_seats_and_polls_and_most_of_what_they_promise() {
    let seconds = Duration::from_secs;
    for Other { name, scenario, inside } in other_rooms() {
        let polls_max = scenario.polls_max;
        let figures = Figures::of(&World::run(scenario));
        println!("{name}, seed 1\n{figures}");
        assert!(figures.overtaking <= seconds(1) && figures.overtaking_by_kill <= seconds(2), "{name}");
        assert!(figures.tau >= 0.999, "{name}");
        assert!(figures.used >= 0.97 && figures.over <= 0.01, "{name}");
        assert!(figures.polls_peak <= polls_max, "{name}");
        assert!(inside.contains(&figures.inside), "{name}: {} inside", figures.inside);
        assert!(figures.mape <= 0.2, "{name}: off by {}", figures.mape);
    }
}

#[test]
fn every_second_adds_up() {
    let world = World::run(Scenario { killed: None, ..Scenario::e16(20_000, 7) });
    let (figures, seconds) = (Figures::of(&world), series(&world));
    assert_eq!(seconds.iter().map(|second| second.arrived).sum::<u32>(), 20_000);
    assert_eq!(seconds.last().unwrap().waiting, 0);
    assert_eq!(seconds.iter().map(|second| u64::from(second.polls)).max(), Some(figures.polls_peak as u64));
    let called: u64 = seconds.iter().map(|second| u64::from(second.called)).sum();
    assert!((20_000..22_000).contains(&called), "{called}, numbers that nobody had included");
    let waits = seconds.iter().filter_map(|second| second.waited_s.zip(second.told_s));
    let longest = waits.clone().map(|(waited, _)| waited).fold(0.0, f64::max);
    assert!(longest > 300.0 && waits.count() > 200, "{longest}");
}
