//! The controllers against a server that can be saturated, in virtual time.
//!
//! `cargo test -p spillway-admission --test closed_loop -- --ignored --nocapture` prints the tables of all servers.

mod world;

use std::time::Duration;

use spillway_admission::{AdmissionConfig, Tier};

use world::{CPU, Counts, LOCK, POOL, SLEEP, Scenario, Speed, World};

const SECOND: Duration = Duration::from_secs(1);

/// Name, speed, seconds of work in a call, calls a second at best.
const SERVERS: [(&str, Speed, f64, f64); 5] = [
    ("cpu 300", CPU, 2.0 / 300.0, 300.0),
    ("cpu 3000", CPU, 2.0 / 3_000.0, 3_000.0),
    ("cpu 20000", CPU, 2.0 / 20_000.0, 20_000.0),
    ("lock 1000", LOCK, 0.001, 980.0),
    ("pool 1000", POOL, 0.05, 1_000.0),
];

fn scenario(speed: Speed, work: f64) -> Scenario {
    let config = AdmissionConfig { cores: Some(2), ..AdmissionConfig::default() };
    // Printed with every failure, because the world prints its scenario's seed.
    Scenario { speed, work, bimodal: false, config, users: 100_000, heavy: (0, 0.0), retry: None, seed: 1 }
}

/// A fleet's usual mix, in calls a second that sum up to `rate`.
fn mix(rate: f64) -> Vec<(Tier, f64)> {
    [(Tier::Ack, 0.4), (Tier::Resume, 0.05), (Tier::Send, 0.35), (Tier::Lookup, 0.1), (Tier::Background, 0.1)]
        .map(|(tier, share)| (tier, share * rate))
        .to_vec()
}

/// The usual mix, and sign-ups and background on top.
fn surge(usual: f64, more: f64) -> Vec<(Tier, f64)> {
    let mut rates = mix(usual);
    rates.extend([
        (Tier::FinishSignUp, more * 0.2),
        (Tier::StartSignUp, more * 0.3),
        (Tier::Background, more * 0.5),
    ]);
    rates
}

fn goodput(counts: &Counts, length: Duration, capacity: f64) -> f64 {
    counts.good_total() as f64 / length.as_secs_f64() / capacity
}

#[test]
fn goodput_stays_when_ten_times_as_much_is_offered() {
    for (name, speed, work, capacity) in SERVERS {
        for bimodal in [false, true] {
            let mut world = World::new(Scenario { bimodal, ..scenario(speed, work) });
            world.run(&mix(capacity * 0.5), 10 * SECOND);
            world.run(&mix(capacity * 2.0), 5 * SECOND);
            // Ten seconds of 1000 calls of very different lengths vary by some per cent.
            for (load, floor) in [(2.0, 0.9), (10.0, 0.9)] {
                let counts = world.run(&mix(capacity * load), 10 * SECOND);
                let goodput = goodput(&counts, 10 * SECOND, capacity);
                assert!(goodput >= floor, "{name}, bimodal {bimodal}: {goodput} at {load} times");
            }
        }
    }
}

#[test]
fn what_fits_is_not_refused() {
    for (name, speed, work, capacity) in SERVERS {
        for bimodal in [false, true] {
            let mut world = World::new(Scenario { bimodal, ..scenario(speed, work) });
            // Among many calls the lock is slower than what is offered, until the limit has been found.
            world.run(&mix(capacity * 0.5), 2 * SECOND);
            world.run(&mix(capacity * 0.9), if name.starts_with("lock") { 20 * SECOND } else { SECOND });
            let counts = world.run(&mix(capacity * 0.9), 30 * SECOND);
            // At 300 calls/s the least important of a long burst wait for seconds, by chance alone.
            let few = if capacity < 1_000.0 { counts.total(&counts.offered) / 1_000 } else { 0 };
            assert!(counts.total(&counts.refused) <= few, "{name}, bimodal {bimodal}: {:?}", counts.reasons);
        }
    }
}

#[test]
fn a_step_to_ten_times_is_settled_within_three_ticks() {
    for (name, speed, work, capacity) in [SERVERS[1], SERVERS[2]] {
        let mut world = World::new(scenario(speed, work));
        world.run(&mix(capacity * 0.5), 10 * SECOND);
        world.run(&surge(capacity * 0.5, capacity * 9.5), 3 * SECOND / 10);
        let view = world.admission.view();
        let exact = 1.0 - 1.0 / 10.0;
        assert!((view.rho - exact).abs() < 0.05, "{name}: {} after three ticks", view.rho);
        let counts = world.run(&surge(capacity * 0.5, capacity * 9.5), 10 * SECOND);
        for tier in [Tier::Ack, Tier::Resume, Tier::Send, Tier::Lookup] {
            let refused = counts.refused[tier as usize];
            assert!(
                refused as f64 <= 0.0005 * counts.offered[tier as usize] as f64,
                "{name} {tier}: {refused}"
            );
        }
        assert!(goodput(&counts, 10 * SECOND, capacity) > 0.95, "{name}");
    }
}

/// As a process does that an autoscaler starts for it: it has never seen how long its calls take when nothing queues, and its first
/// limit is more than a second of its work.
#[test]
fn who_starts_in_the_middle_of_an_overload_is_well_within_seconds() {
    for seed in 1..=8 {
        let mut world = World::new(Scenario { seed, ..scenario(CPU, 0.01) });
        let (usual, more) = (120.0, 480.0);
        world.run(&surge(usual, more), 4 * SECOND);
        let counts = world.run(&surge(usual, more), 20 * SECOND);
        let goodput = goodput(&counts, 20 * SECOND, 200.0);
        assert!(goodput >= 0.9, "seed {seed}: {goodput} of what it can do");
        for tier in [Tier::Ack, Tier::Send] {
            let good = counts.good[tier as usize] as f64 / counts.offered[tier as usize] as f64;
            assert!(good >= 0.99, "seed {seed}, {tier}: {good}");
        }
    }
}

#[test]
fn users_do_not_notice_a_surge_of_sign_ups() {
    for (name, speed, work, capacity) in SERVERS {
        let mut world = World::new(scenario(speed, work));
        let quiet = world.run(&mix(capacity * 0.5), 20 * SECOND);
        world.run(&surge(capacity * 0.5, capacity * 12.0), 2 * SECOND);
        let counts = world.run(&surge(capacity * 0.5, capacity * 12.0), 20 * SECOND);
        for tier in [Tier::Ack, Tier::Send] {
            let refused = counts.refused[tier as usize] as f64 / counts.offered[tier as usize] as f64;
            assert!(refused <= 0.0005, "{name} {tier}: {refused} refused, {:?}", counts.reasons);
            let (before, now) = (quiet.quantile(tier, 0.99), counts.quantile(tier, 0.99));
            // A server with so few calls in it has a queue of some calls before any controller acts.
            let few_calls = 12.0 * 1e3 / capacity;
            assert!(now <= 1.25 * before + 10.0 + few_calls, "{name} {tier}: {now} ms after {before}");
        }
    }
}

/// A hundred users with 10 calls a second, and 32 with 1000 each, on a server of 3000: fair is 10 for each of the
/// hundred and 62.5 for the others.
#[test]
fn who_asks_a_hundred_times_as_often_gets_no_more_than_is_fair() {
    let (_, speed, work, capacity) = SERVERS[1];
    let mut world = World::new(Scenario { users: 132, heavy: (32, 32.0 / 33.0), ..scenario(speed, work) });
    world.run(&[(Tier::Send, 33_000.0)], 15 * SECOND);
    let counts = world.run(&[(Tier::Send, 33_000.0)], 20 * SECOND);
    let satisfied = |user: u64| {
        let fair = if user < 32 { 62.5 } else { 10.0 };
        *counts.good_of.get(&user).unwrap_or(&0) as f64 / 20.0 / fair
    };
    let (sum, squares) =
        (0..132).map(satisfied).fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    let jain = sum * sum / squares / 132.0;
    let light = (32..132).map(satisfied).sum::<f64>() / 100.0;
    let heaviest = (0..32).map(satisfied).fold(0.0, f64::max);
    println!(
        "Jain {jain:.4}, light {light:.3}, heaviest {heaviest:.3}, {:.3}",
        goodput(&counts, 20 * SECOND, capacity)
    );
    // A tenth of what the light ones ask for may be lost in the queue, like the others'.
    assert!(
        jain >= 0.98 && light >= 0.9 && heaviest <= 1.2,
        "Jain {jain}, light {light}, heaviest {heaviest}"
    );
}

/// The metastable failure of HotOS '21: at 93 % of capacity everything stands still for ten seconds, and whoever got no answer
/// asks again each second for ever. Without admission the retries keep the server at twice its capacity, for ever.
#[test]
fn retries_without_end_do_not_keep_a_server_down() {
    for (name, speed, work, capacity) in [SERVERS[0], SERVERS[1], SERVERS[4]] {
        let load = mix(capacity * 0.93);
        let mut world = World::new(Scenario { retry: Some(SECOND), ..scenario(speed, work) });
        world.run(&load, 20 * SECOND);
        world.stalled = true;
        world.run(&load, 10 * SECOND);
        world.stalled = false;
        let seconds: Vec<f64> =
            (0..10).map(|_| goodput(&world.run(&load, SECOND), SECOND, capacity)).collect();
        println!("{name}: {seconds:.2?}");
        assert!(seconds[2..].iter().all(|&good| good > 0.8), "{name}: {seconds:.2?}");
        // 9.3 s of work wait, and 0.07 of the capacity is free for them.
        world.run(&load, 280 * SECOND);
        let counts = world.run(&load, 10 * SECOND);
        let refused = counts.total(&counts.refused) as f64 / counts.total(&counts.offered) as f64;
        assert!(refused < 0.02, "{name}: {refused} still refused, {:?}", counts.reasons);
    }
}

#[test]
fn a_second_after_the_surge_all_is_well() {
    for (name, speed, work, capacity) in SERVERS {
        let mut world = World::new(scenario(speed, work));
        world.run(&mix(capacity * 0.5), 10 * SECOND);
        world.run(&mix(capacity * 10.0), 10 * SECOND);
        world.run(&mix(capacity * 0.7), 2 * SECOND);
        let counts = world.run(&mix(capacity * 0.7), 10 * SECOND);
        let refused = counts.total(&counts.refused) as f64 / counts.total(&counts.offered) as f64;
        assert!(refused < 0.001, "{name}: {refused}, {:?}", counts.reasons);
    }
}

#[test]
fn a_backend_without_a_limit_is_not_given_one() {
    let mut world = World::new(scenario(SLEEP, 0.05));
    // 2000, then 20,000 calls of 50 ms a second: 100, then 1000 at once.
    world.run(&mix(2_000.0), 10 * SECOND);
    world.run(&mix(20_000.0), 10 * SECOND);
    let counts = world.run(&mix(20_000.0), 10 * SECOND);
    let refused = counts.total(&counts.refused) as f64 / counts.total(&counts.offered) as f64;
    assert!(refused < 0.001, "{refused}, limit {}", world.admission.view().limit);
}

#[test]
#[ignore = "prints tables"]
fn tables() {
    let servers = SERVERS.into_iter().chain([("sleep 4000", SLEEP, 0.05, 4_000.0)]);
    for (name, speed, work, capacity) in servers {
        for bimodal in [false, true] {
            println!("\n{name}, bimodal {bimodal}");
            let mut world = World::new(Scenario { bimodal, ..scenario(speed, work) });
            for load in [0.5, 0.9, 1.5, 2.0, 4.0, 10.0, 0.9] {
                let counts = world.run(&mix(capacity * load), 10 * SECOND);
                print(&format!("{load} times"), &world, &counts, 10 * SECOND, capacity);
            }
            let mut world = World::new(Scenario { bimodal, ..scenario(speed, work) });
            let counts = world.run(&mix(capacity * 0.5), 10 * SECOND);
            print("quiet", &world, &counts, 10 * SECOND, capacity);
            for tick in 1..=5 {
                let counts = world.run(&surge(capacity * 0.5, capacity * 12.0), SECOND / 10);
                print(&format!("surge, tick {tick}"), &world, &counts, SECOND / 10, capacity);
            }
            let counts = world.run(&surge(capacity * 0.5, capacity * 12.0), 20 * SECOND);
            print("surge", &world, &counts, 20 * SECOND, capacity);
            for tick in 1..=3 {
                let counts = world.run(&mix(capacity * 0.5), SECOND / 10);
                print(&format!("gone, tick {tick}"), &world, &counts, SECOND / 10, capacity);
            }
            let counts = world.run(&mix(capacity * 0.5), 10 * SECOND);
            print("gone", &world, &counts, 10 * SECOND, capacity);
        }
    }
}

fn print(phase: &str, world: &World, counts: &Counts, length: Duration, capacity: f64) {
    let view = world.admission.view();
    let success = Tier::ALL.map(|tier| format!("{:.4}", counts.success(tier)));
    println!(
        "{phase:14} goodput {:.3}  good by tier {}  p99 ack {:6.1} send {:6.1} ms  limit {:4} rho {:.3} mu {:6.0} queued {:4} rung {}",
        goodput(counts, length, capacity),
        success[1..].join(" "),
        counts.quantile(Tier::Ack, 0.99),
        counts.quantile(Tier::Send, 0.99),
        view.limit,
        view.rho,
        view.capacity.unwrap_or(0.0),
        view.queued,
        view.rung,
    );
}

/// The worst of many seeds, to see what one seed does not show.
#[test]
#[ignore = "prints a table"]
fn sweep() {
    for (name, speed, work, capacity) in SERVERS {
        for bimodal in [false, true] {
            let seeds = if capacity > 10_000.0 { 3 } else { 20 };
            let mut worst = [(f64::MAX, 0); 6];
            for seed in 1..=seeds {
                let mut world = World::new(Scenario { bimodal, seed, ..scenario(speed, work) });
                world.run(&mix(capacity * 0.5), 5 * SECOND);
                for (load, worst) in [0.9, 1.5, 2.0, 4.0, 10.0, 0.9].into_iter().zip(&mut worst) {
                    let counts = world.run(&mix(capacity * load), 10 * SECOND);
                    let goodput = goodput(&counts, 10 * SECOND, capacity);
                    if goodput < worst.0 {
                        *worst = (goodput, seed);
                    }
                }
            }
            println!("{name}, bimodal {bimodal}: {worst:.3?}");
        }
    }
}
