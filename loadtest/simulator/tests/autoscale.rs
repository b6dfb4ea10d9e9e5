//! Who adds pods in a surge, and how much is refused until they are there. Orders are asserted, not figures: delays are drawn.

use proptest::prelude::*;
use spillway_simulator::autoscale::{Comparison, Curve, Figures, Kind, Limits, Setting, seconds};

/// Hours of January 2021, reconciled.
fn january(name: &str, hours: std::ops::Range<usize>, hour_s: f64) -> Curve {
    let profile = include_str!("../../surge/profiles/signal-2021.csv");
    let multiple = |line: &str| line.split(',').nth(4).and_then(|field| field.parse::<f64>().ok());
    let all: Vec<_> = profile.lines().skip(1).filter_map(multiple).collect();
    assert_eq!(all.len(), 744);
    Curve::of_hours(name, &all[hours], hour_s)
}

fn october(kind: Kind, setting: &Setting) -> f64 {
    let runs = (1..=5).map(|seed| Figures::of(&Curve::october_2021(), kind, setting, seed));
    Figures::of_all(runs.collect()).expect("five runs").refused_share()
}

#[test]
fn demand_refuses_less_than_processors_and_a_burst_less_than_demand() {
    let curves = [
        january("8 and 9 January 2021", 7 * 24..9 * 24, 3_600.0),
        january("January 2021, an hour in 15 s", 0..744, 15.0),
        Curve::october_2021(),
    ];
    let comparison = Comparison::of(&curves, &Setting::default(), 1);
    println!("{}", comparison.print());
    let orders = comparison.orders();
    assert!(orders.len() > 12, "too little was refused to compare: {orders:?}");
    for order in orders {
        assert!(order.holds, "{order:?}");
    }
}

/// What it gains is not only that its own autoscaler, which is told the whole demand too, orders all of it once more.
#[test]
fn a_burst_that_stays_at_its_minimum_is_still_worth_it() {
    let small = Setting { burst_most: Setting::default().burst_least, ..Setting::default() };
    let [keda, burst] = [Kind::Keda, Kind::KedaBurst].map(|kind| october(kind, &small));
    println!(
        "without {keda}, twelve at most {burst}, sixty {}",
        october(Kind::KedaBurst, &Setting::default())
    );
    assert!(burst < keda, "{burst} {keda}");
}

/// With clients that do not listen a refusal costs six times as much.
#[test]
fn the_order_does_not_hang_on_what_a_refusal_costs() {
    let limits = Limits { refusal_cost: 0.1, ..Setting::default().limits };
    let setting = Setting { limits, ..Setting::default() };
    let [cpu, keda, burst] =
        [Kind::CpuEqual, Kind::Keda, Kind::KedaBurst].map(|kind| october(kind, &setting));
    assert!(burst < keda && keda < cpu, "{burst} {keda} {cpu}");
}

#[test]
fn room_that_is_kept_warm_spares_refusals() {
    let cold = Setting { buffer: 0, ..Setting::default() };
    for kind in [Kind::CpuEqual, Kind::Demand, Kind::Keda, Kind::KedaBurst] {
        assert!(october(kind, &Setting::default()) < october(kind, &cold), "{kind:?}");
    }
}

/// From the second in which everybody comes: when more is ordered for the first time.
#[test]
fn each_orders_as_late_as_it_sees_and_looks() {
    let curve = Curve::of_hours("a step", &[1.0, 100.0], 600.0);
    let ordered_after = |kind, seed| {
        let (mut now, mut at) = (0, None);
        seconds(&curve, kind, &Setting::default(), seed, |state| {
            let more = state.replicas.main > Setting::default().least || state.replicas.burst > 0;
            at = at.or(more.then_some(now));
            now += 1;
        });
        at.map(|at: u64| at - 600)
    };
    for seed in 0..20 {
        assert!(
            ordered_after(Kind::KedaBurst, seed).is_some_and(|after| after <= 3),
            "pushed: 2 s to know, 1 s to write"
        );
        assert!(ordered_after(Kind::Keda, seed).is_some_and(|after| after <= 2 + 15), "and up to a look");
        assert!(ordered_after(Kind::Demand, seed).is_some_and(|after| after <= 2 + 5 + 15), "and a scrape");
        // What it reads at first is the mean of a span of which a part was quiet.
        assert!(
            ordered_after(Kind::Cpu, seed).is_some_and(|after| after <= 2 * 15 + 15),
            "two reads and a look"
        );
        assert_eq!(ordered_after(Kind::CpuWaiting, seed), None);
        assert_eq!(ordered_after(Kind::Fixed, seed), None);
    }
}

#[test]
fn the_same_seed_gives_the_same() {
    let of = |seed| Figures::of(&Curve::october_2021(), Kind::KedaBurst, &Setting::default(), seed);
    assert_eq!(of(7), of(7));
    assert_ne!(of(7).refused, of(8).refused);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes: nobody is lost between being served and being refused, and no autoscaler leaves its bounds.
    #[test]
    fn sums_and_bounds_hold(
        multiples in proptest::collection::vec(0.0_f64..100.0, 1..12),
        kind in 0..Kind::ALL.len(),
        cost in 0.0_f64..0.5,
        sign_ups_pods in 0.0_f64..300.0,
        seed in any::<u64>(),
    ) {
        let curve = Curve::of_hours("any", &[&[1.0], &multiples[..]].concat(), 300.0);
        let limits = Limits { refusal_cost: cost, ..Setting::default().limits };
        let setting = Setting { limits, sign_ups_pods, ..Setting::default() };
        let mut wrong = Vec::new();
        seconds(&curve, Kind::ALL[kind], &setting, seed, |state| {
            let second = state.second;
            let all = (second.served + second.refused - second.offered).abs() <= 1e-9 * second.offered;
            let some = second.served >= 0.0 && second.refused >= 0.0 && (0.0..=1.0).contains(&second.busy);
            let main = (setting.least..=setting.most).contains(&state.replicas.main);
            let burst = state.replicas.burst;
            let burst = burst == 0 || (setting.burst_least..=setting.burst_most).contains(&burst);
            if !(all && some && main && burst) {
                wrong.push(*state);
            }
        });
        prop_assert!(wrong.is_empty(), "{:?}", wrong.first());
    }
}
