//! The controllers against a server that can be saturated, in virtual time.

mod world;

use std::time::Duration;

use spillway_admission::{AdmissionConfig, Tier};

use world::{CPU, Counts, LOCK, POOL, SLEEP, Scenario, Speed, World};

const SECOND: Duration = Duration::from_secs(1);

fn scenario(speed: Speed, work: f64) -> Scenario {
    let config = AdmissionConfig { cores: Some(2), ..AdmissionConfig::default() };
    Scenario { speed, work, bimodal: false, config, users: 100_000, seed: 1 }
}

/// A fleet's usual mix, in calls a second that sum up to `rate`.
fn mix(rate: f64) -> Vec<(Tier, f64)> {
    [(Tier::Ack, 0.4), (Tier::Resume, 0.05), (Tier::Send, 0.35), (Tier::Lookup, 0.1), (Tier::Background, 0.1)]
        .map(|(tier, share)| (tier, share * rate))
        .to_vec()
}

fn surge(quiet: f64, more: f64) -> Vec<(Tier, f64)> {
    let mut rates = mix(quiet);
    rates.extend([
        (Tier::FinishSignUp, more * 0.2),
        (Tier::StartSignUp, more * 0.3),
        (Tier::Background, more * 0.5),
    ]);
    rates
}

#[test]
#[ignore = "explore"]
fn explore_surge() {
    for (name, speed, work, capacity) in [
        ("cpu 300", CPU, 2.0 / 300.0, 300.0),
        ("cpu 3000", CPU, 2.0 / 3000.0, 3000.0),
        ("cpu 20000", CPU, 2.0 / 20000.0, 20000.0),
        ("lock 1000", LOCK, 0.001, 980.0),
        ("pool 1000", POOL, 0.05, 1000.0),
    ] {
        let mut world = World::new(scenario(speed, work));
        println!("== {name}");
        let print = |phase: &str, world: &World, counts: &Counts, secs: f64| {
            let view = world.admission.view();
            println!(
                "x {phase} goodput {:.3} ack {:.5} p99 {:.1} resume {:.5} send {:.5} p99 {:.1} lookup {:.4} finish {:.4} start {:.4} bg {:.4} L {} rho {:.3} mu {:?} q {} rung {}",
                counts.good_total() as f64 / secs / capacity,
                counts.success(Tier::Ack),
                counts.quantile(Tier::Ack, 0.99),
                counts.success(Tier::Resume),
                counts.success(Tier::Send),
                counts.quantile(Tier::Send, 0.99),
                counts.success(Tier::Lookup),
                counts.success(Tier::FinishSignUp),
                counts.success(Tier::StartSignUp),
                counts.success(Tier::Background),
                view.limit,
                view.rho,
                view.capacity.map(|c| c as u32),
                view.queued,
                view.rung
            );
        };
        let counts = world.run(&mix(capacity * 0.5), 10 * SECOND);
        print("quiet ", &world, &counts, 10.0);
        for tick in 0..5 {
            let counts = world.run(&surge(capacity * 0.5, capacity * 12.0), SECOND / 10);
            print(&format!("step {tick}"), &world, &counts, 0.1);
        }
        let counts = world.run(&surge(capacity * 0.5, capacity * 12.0), 20 * SECOND);
        print("surge ", &world, &counts, 20.0);
        println!("   {:?}", counts.reasons);
        for tick in 0..3 {
            let counts = world.run(&mix(capacity * 0.5), SECOND / 10);
            print(&format!("gone {tick}"), &world, &counts, 0.1);
        }
        let counts = world.run(&mix(capacity * 0.5), 10 * SECOND);
        print("after ", &world, &counts, 10.0);
        println!("   {:?}", counts.reasons);
    }
}

#[test]
#[ignore = "explore"]
fn explore() {
    for (name, speed, work, capacity) in [
        ("cpu 300", CPU, 2.0 / 300.0, 300.0),
        ("cpu 3000", CPU, 2.0 / 3000.0, 3000.0),
        ("cpu 20000", CPU, 2.0 / 20000.0, 20000.0),
        ("lock 1000", LOCK, 0.001, 980.0),
        ("pool 1000", POOL, 0.05, 1000.0),
        ("sleep 50ms", SLEEP, 0.05, 4000.0),
    ] {
        if std::env::var("ONLY").is_ok_and(|only| only != name) {
            continue;
        }
        for bimodal in [false, true] {
            let mut world = World::new(Scenario { bimodal, ..scenario(speed, work) });
            println!("== {name} bimodal {bimodal}");
            for x in [0.5, 0.9, 1.5, 2.0, 4.0, 10.0, 0.9] {
                let counts =
                    world.run(&mix(capacity * x), Duration::from_secs(if x == 0.9 { 30 } else { 10 }));
                let view = world.admission.view();
                let secs = if x == 0.9 { 30.0 } else { 10.0 };
                println!(
                    "x {x:4} goodput {:.3} refused {:.6} ack {:.5} p99 {:.1} send {:.5} p99 {:.1} L {} rho {:.3} mu {:?} q {}",
                    counts.good_total() as f64 / secs / capacity,
                    counts.total(&counts.refused) as f64 / counts.total(&counts.offered) as f64,
                    counts.success(Tier::Ack),
                    counts.quantile(Tier::Ack, 0.99),
                    counts.success(Tier::Send),
                    counts.quantile(Tier::Send, 0.99),
                    view.limit,
                    view.rho,
                    view.capacity.map(|c| c as u32),
                    view.queued,
                );
                if x == 0.9 {
                    println!("   {:?}", counts.reasons);
                }
            }
        }
    }
}
