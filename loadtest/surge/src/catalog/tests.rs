use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::curve::Curve;
use crate::language::{Expression, in_words};
use crate::schedule::{Arrivals, Schedule};

const ONE: BaseRates = BaseRates { sign_up: 1.0, send: 1.0, discover: 1.0, people: 1.0, offline: 1.0 };

fn load(entry: &Entry) -> Load {
    Expression::parse(entry.name).unwrap().load(&ONE).unwrap()
}

fn playable() -> impl Iterator<Item = &'static Entry> {
    ENTRIES.iter().filter(|entry| !entry.is_scene())
}

/// Every profile as text: multiples of the base rates in 25 equal parts of its time.
fn drawn() -> String {
    let mut text = String::new();
    for entry in playable() {
        let load = load(entry);
        writeln!(text, "{} {}", entry.name, in_words(load.duration())).unwrap();
        for (op, curve) in load.curves() {
            let part = load.duration() / 25;
            let mean = |n: u32| curve.count_between(part * n, part * (n + 1)) / part.as_secs_f64();
            let rates: Vec<_> = (0..25).map(|n| format!("{:.3}", mean(n))).collect();
            writeln!(text, "  {op}: total {:.2}, peak {:.3}", curve.total(), curve.peak_per_s()).unwrap();
            writeln!(text, "    {}", rates.join(" ")).unwrap();
        }
        for word in load.behaviour.words() {
            writeln!(text, "  {word}").unwrap();
        }
    }
    text
}

/// A curve that changed was meant to, or was not. `SURGE_WRITE_GOLDEN=1` writes the file anew.
#[test]
fn curves_are_as_they_were() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/curves.txt");
    let drawn = drawn();
    if std::env::var_os("SURGE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (line, (found, expected)) in drawn.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of profiles/curves.txt", line + 1);
    }
    assert_eq!(drawn.lines().count(), golden.lines().count());
}

#[test]
fn names_are_unique_and_every_profile_says_why_and_from_where() {
    for (at, entry) in ENTRIES.iter().enumerate() {
        assert!(std::ptr::eq(find(entry.name).unwrap(), entry), "{}", entry.name);
        assert!(ENTRIES[..at].iter().all(|other| other.name != entry.name));
        assert!(entry.purpose.ends_with(['.', '?']), "{}", entry.name);
        assert!(!entry.evidence.is_empty(), "{}", entry.name);
        assert!(entry.evidence.iter().all(|evidence| !evidence.source.is_empty()), "{}", entry.name);
    }
    assert!(find("Rolling_Restart").is_some());
    assert!(find("rolling").is_none());
}

#[test]
fn what_the_evidence_says_is_what_is_played() {
    let peak = |name: &str, op| load(find(name).unwrap()).curve(op).unwrap().peak_per_s();
    assert_eq!(peak("spike", Op::SignUp), 10.0);
    assert_eq!(peak("refugees", Op::SignUp), 30.0);
    assert_eq!(peak("signal-2021", Op::SignUp), 362.66);
    assert_eq!(peak("signal-2021", Op::Send), 2.0);
    assert_eq!(peak("ban-wave", Op::Send), 14.0);
    assert_eq!(peak("celebrity", Op::SignUp), 50.0);
    assert_eq!(peak("midnight", Op::Send), 8.0);
    let total = |text: &str, op| {
        Expression::parse(text).unwrap().load(&ONE).unwrap().curve(op).map_or(0.0, Curve::total)
    };
    let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
    assert!(near(total("reconnect-storm", Op::Reconnect), 1.0), "everybody, once");
    assert!(near(total("rolling-restart(parts=7)", Op::Reconnect), 1.0), "everybody, once");
    assert!(near(total("broadcast", Op::Wake), 0.3));
    assert!(near(total("heaviside(people=1000, for=20s)", Op::SignUp), 1_000.0));
    // A fifth of what flaps in a minute is what Centrifugo replaced of all; here it is a twentieth of the people.
    assert!(near(total("flap", Op::Flap), 0.05 * 60.0 / 25.0));
    assert!((load(find("diurnal").unwrap()).curve(Op::Send).unwrap().total() / 86_400.0 - 1.0).abs() < 1e-3);
    assert!((load(find("azure-burst").unwrap()).total() / 86_400.0 - 1.0).abs() < 1e-6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Of every profile, in any window.
    #[test]
    fn even_arrivals_are_the_integral_give_or_take_one(
        which: prop::sample::Index, seed: u64, a in 0.0..1.0f64, b in 0.0..1.0f64
    ) {
        let entries: Vec<_> = playable().collect();
        let load = load(entries[which.index(entries.len())]);
        for (op, curve) in load.curves() {
            // A few thousand arrivals of each.
            let curve = curve.times(2_000.0 / curve.total()).unwrap();
            let (from, to) = (load.duration().mul_f64(a.min(b)), load.duration().mul_f64(a.max(b)));
            let planned = Schedule::new((), Arc::new(curve.clone()), Arrivals::Uniform, seed);
            let inside = planned.filter(|arrival| (from..to).contains(&arrival.at)).count() as f64;
            let integral = curve.count_between(from, to);
            prop_assert!((inside - integral).abs() <= 1.0 + 1e-3, "{op}: {inside} for {integral}");
        }
    }
}
