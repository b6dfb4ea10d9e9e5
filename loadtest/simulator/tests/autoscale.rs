//! Who adds pods in a surge, and how much is refused until they are there. Orders are asserted, not figures: delays are drawn.

use spillway_simulator::autoscale::{Curve, Figures, Kind, Setting, play, table};

const SEEDS: [u64; 3] = [1, 2, 3];

/// Of the hours from `from` to `until` of January 2021, reconciled.
fn january(name: &str, hours: std::ops::Range<usize>, hour_s: f64) -> Curve {
    let profile = include_str!("../../surge/profiles/signal-2021.csv");
    let multiple = |line: &str| line.split(',').nth(4).unwrap().parse::<f64>().unwrap();
    let all: Vec<_> = profile.lines().skip(1).map(multiple).collect();
    Curve::of_hours(name, &all[hours], hour_s)
}

/// 8 January, on which nothing happened yet, and the 9th; 14 and 15 January; and the whole month at a minute an hour.
fn curves() -> [Curve; 4] {
    [
        january("8 and 9 January 2021", 7 * 24..9 * 24, 3_600.0),
        january("14 and 15 January 2021", 13 * 24..15 * 24, 3_600.0),
        january("January 2021, an hour in 15 s", 0..744, 15.0),
        Curve::october_2021(),
    ]
}

fn all(curve: &Curve, setting: &Setting, seed: u64) -> Vec<Figures> {
    let figures: Vec<_> = Kind::ALL.iter().map(|kind| play(curve, *kind, setting, seed)).collect();
    println!("seed {seed}\n{}", table(&figures));
    figures
}

#[test]
fn demand_refuses_less_than_processors_and_a_burst_less_than_demand() {
    for curve in curves() {
        for seed in SEEDS {
            if std::env::var("LOOK").is_ok() {
                all(&curve, &Setting::default(), seed);
                all(&curve, &Setting { buffer: 0, ..Setting::default() }, seed);
                continue;
            }
            let figures = all(&curve, &Setting::default(), seed);
            let refused =
                |kind: Kind| figures.iter().find(|of| of.autoscaler == kind.name()).unwrap().refused_share();
            for demand in [Kind::Demand, Kind::Keda] {
                for cpu in [Kind::Cpu, Kind::CpuEqual] {
                    assert!(refused(demand) < refused(cpu), "{} seed {seed}", curve.name);
                }
            }
            assert!(refused(Kind::KedaBurst) < refused(Kind::Keda), "{} seed {seed}", curve.name);
            assert!(refused(Kind::KedaBurst) < refused(Kind::Demand), "{} seed {seed}", curve.name);
            assert!(refused(Kind::Fixed) > refused(Kind::Cpu));
        }
    }
}
