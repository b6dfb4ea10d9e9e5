use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::load::{BaseRates, Load};

const ONE: BaseRates = BaseRates { sign_up: 1.0, send: 1.0, discover: 1.0, people: 1.0, offline: 1.0 };

fn load(text: &str) -> Load {
    Expression::parse(text).unwrap_or_else(|error| panic!("{error}")).load(&ONE).unwrap()
}

fn error(text: &str) -> String {
    Expression::parse(text).expect_err(text).to_string()
}

#[test]
fn stages_are_plateaus_and_lines() {
    let load = load("30s@50,1m@200..100");
    assert_eq!((load.duration(), load.total()), (Duration::from_secs(90), 30.0 * 50.0 + 60.0 * 150.0));
    assert_eq!(load.rate_at(Op::SignUp, Duration::from_secs(60)), 150.0);
    let rates = BaseRates { send: 7.0, ..ONE };
    let sends = Expression::parse("send(1m30s@2x) + 10s@5/s").unwrap().load(&rates).unwrap();
    assert_eq!(sends.rate_at(Op::Send, Duration::from_secs(80)), 14.0);
    assert_eq!(sends.rate_at(Op::SignUp, Duration::from_secs(9)), 5.0);
}

#[test]
fn then_binds_less_than_plus_and_plus_less_than_factors() {
    let total = |text| load(text).total();
    assert_eq!(total("10s@1 then 10s@2 + 10s@4 x 2"), 10.0 + 20.0 + 80.0);
    assert_eq!(load("10s@1 then 10s@2 + 10s@4").duration().as_secs(), 20);
    assert_eq!(total("(10s@1 then 10s@2 + 10s@4) × 2.5"), 175.0);
    assert_eq!(total("(10s@1 then 10s@2) x2 in 10s"), 30.0);
    assert_eq!(total("10s@1 * 3"), 30.0);
    assert_eq!(total("10S@1 THEN 10s@1"), 20.0);
}

#[test]
fn profiles_have_names_and_parameters() {
    let spike = load("spike(to=20x, hold=10s)");
    let peak = spike.curve(Op::SignUp).unwrap().peak_per_s();
    assert_eq!(peak, 20.0);
    assert!(load("spike").duration() > spike.duration());
    assert_eq!(load("send(spike)").curve(Op::SignUp).map(crate::curve::Curve::total), None);
    assert!(Expression::parse("refugees").unwrap().alone().is_some());
    assert!(Expression::parse("refugees x 2").unwrap().alone().is_none());
    assert_eq!(Expression::parse("spike then flap").unwrap().entries().len(), 2);
    // `flap` is a profile and an operation.
    assert!(load("flap(for=10s)").curve(Op::Flap).is_some());
    assert_eq!(load("flap(10s@0.2)").total(), 2.0);
}

#[test]
fn errors_point_and_suggest() {
    assert_eq!(
        error("10s@5 then spik"),
        "there is no profile `spik`; do you mean `spike`?\n  10s@5 then spik\n             ^^^^"
    );
    assert_eq!(
        error("spike(too=20x)"),
        "`spike` has no parameter `too`; do you mean `to`?\n  spike(too=20x)\n        ^^^"
    );
    assert_eq!(
        error("spike(hold=20x)"),
        "`hold` is a time such as `10s`\n  spike(hold=20x)\n             ^^^"
    );
    assert_eq!(error("(10s@5"), "this parenthesis is never closed\n  (10s@5\n  ^");
    assert_eq!(
        error("10s@"),
        "a rate is expected here: `50` a second, or `20x` the base rate\n  10s@\n      ^"
    );
    assert_eq!(error("10q@5"), "`q` is no unit: ms, s, m, h and d are, and x is a multiple\n  10q@5\n    ^");
    assert_eq!(
        error("spike × zwei"),
        "a factor such as `2.5` is expected after `x`\n  spike × zwei\n          ^^^^"
    );
    for (text, part) in [
        ("", "a profile's name"),
        ("then", "a profile's name"),
        ("50", "a stage begins with a time"),
        ("10s 5", "`@` and a rate"),
        ("10s@5 10s@6", "is missing before this"),
        ("10s@5)", "never opened"),
        ("0s@5", "must take some time"),
        ("spike in 0s", "no time"),
        ("send", "`send(30s@50)`"),
        ("send(refugees)", "cannot be made one of `send`"),
        ("send(discover(1s@1))", "another one"),
        ("pumping then spike", "a world of its own"),
        ("spike(to=1x,to=2x)", "given before"),
        ("spike(to=1x", "never closed"),
        ("steady(for=10s) & ramp", "means nothing here"),
        ("teleport", "`surge profiles` lists them"),
        ("broadcast(share=300%)", "at most 100%"),
        ("999999999d@1", "century"),
    ] {
        let error = error(text);
        assert!(error.contains(part), "{text:?}: {error}");
    }
    assert_eq!(Expression::parse("spike × zwei").unwrap_err().column(), 9);
    assert!(Expression::parse(&"(".repeat(10_000)).is_err(), "and does not overflow the stack");
}

prop_compose! {
    fn any_stages()(stages in prop::collection::vec((1..300u32, 0..500u32, 0..500u32), 1..4)) -> String {
        let stages: Vec<_> =
            stages.iter().map(|(length, from, to)| format!("{length}s@{from}..{to}")).collect();
        stages.join(",")
    }
}

proptest! {
    #[test]
    fn totals_follow_the_laws_of_arithmetic(a in any_stages(), b in any_stages(), k in 1..90u32) {
        let near = |x: f64, y: f64| (x - y).abs() <= 1e-6 * (1.0 + x.abs());
        let k = f64::from(k) / 10.0;
        let (total_a, total_b) = (load(&a).total(), load(&b).total());
        for (text, total) in [
            (format!("{a} then {b}"), total_a + total_b),
            (format!("({a}) + ({b})"), total_a + total_b),
            (format!("({a}) x {k}"), total_a * k),
            (format!("(({a}) then ({b})) x {k}"), (total_a + total_b) * k),
        ] {
            prop_assert!(near(load(&text).total(), total), "{}", text);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-z0-9@.,()x×+=%/ -]{0,40}") {
        if let Err(error) = Expression::parse(&text) {
            prop_assert!(error.column() >= 1);
            let _shown = error.to_string();
        }
    }
}
