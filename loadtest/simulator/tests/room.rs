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
        let scenario =
            Scenario { rates, patience: seconds(patience), never_claim, ..Scenario::e16(100_000, 1) };
        let polls_max = scenario.polls_max;
        let figures = Figures::of(&World::run(scenario));
        println!("{room}, seed 1\n{figures}");
        assert!(figures.overtaking <= seconds(1) && figures.overtaking_by_kill <= seconds(2), "{room}");
        assert!(figures.tau >= 0.999, "{room}");
        assert!(figures.used >= 0.97 && figures.over <= 0.01, "{room}");
        assert!(figures.polls_peak <= polls_max, "{room}");
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
