//! Prints runs of a scenario file second by second: `dump FILE [SEED]`.

use spillway_simulator::{Scenario, run};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("a file");
    let seed = arguments.next().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let text = std::fs::read_to_string(&name).expect("it can be read");
    let scenario = Scenario::parse(&text, &name).unwrap_or_else(|error| panic!("{error}"));
    let outcome = run(&scenario, seed);
    for run in &outcome.runs {
        println!("== {} {}", run.key.policy.name(), run.key.label());
        println!("{:?}", run.figures);
        for tier in &run.tiers {
            println!("{tier:?}");
        }
        let series = &run.series;
        for (second, start) in (0..series.ok.len()).step_by(10).enumerate() {
            let sum = |values: &[u32]| values[start..(start + 10).min(values.len())].iter().sum::<u32>();
            let p99 =
                series.existing_p99_ms[start..(start + 10).min(series.ok.len())].iter().flatten().copied();
            println!(
                "{second:3} s offered {:6} attempts {:6} ok {:6} refused {:6} p99 {:.0}",
                sum(&series.offered),
                sum(&series.attempts),
                sum(&series.ok),
                sum(&series.refused),
                p99.fold(0.0, f32::max)
            );
        }
    }
}
