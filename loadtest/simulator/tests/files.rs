//! Scenario files: what is wrong with one is said with its place and with what was probably meant.

use spillway_simulator::{Scenario, ScenarioError, shipped, suite};

fn wrong(change: (&str, &str)) -> String {
    let text = include_str!("../scenarios/e5-priority.toml");
    assert!(text.contains(change.0), "{}", change.0);
    Scenario::parse(&text.replacen(change.0, change.1, 1), "mine.toml").expect_err("it is wrong").to_string()
}

#[test]
fn every_shipped_file_is_read_and_says_what_it_is_about() {
    for scenario in shipped(None).unwrap() {
        assert!(!scenario.about.is_empty(), "{}", scenario.name);
        assert!(scenario.reduced().is_none_or(|small| !small.policies.is_empty()), "{}", scenario.name);
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_likest_one() {
    let error = wrong(("refusal_us", "refuse_us"));
    assert_eq!(error, "mine.toml, line 12: there is no key `refuse_us` here; did you mean `refusal_us`?");
}

#[test]
fn an_unknown_value_is_named_with_the_likest_one() {
    let error = wrong(("open-loop = 1.0", "openloop = 1.0"));
    assert!(error.ends_with("there is no value `openloop` here; did you mean `open-loop`?"), "{error}");
    let error = wrong(("\"existing-success\"", "\"goodput\""));
    assert!(error.contains("`goodput`"), "{error}");
}

#[test]
fn numbers_that_mean_nothing_are_refused() {
    assert_eq!(wrong(("cores = 4", "cores = 0")), "mine.toml: `gateways.cores` must be above 0");
    assert_eq!(wrong(("factors = [0, 12]", "factors = []")), "mine.toml: `factors` must not be empty");
    assert_eq!(wrong(("tier = 1", "tier = 8")), "mine.toml: `classes.tier` must be between 1 and 7");
    assert!(wrong(("cores = 4", "cores = \"four\"")).starts_with("mine.toml, line 11: invalid type"));
}

#[test]
fn an_unknown_suite_is_named_with_the_others() {
    let error = suite("acceptence", 1).unwrap_err();
    assert!(matches!(error, ScenarioError::NoSuchSuite { .. }));
    assert_eq!(error.to_string(), "no suite is called `acceptence`; did you mean `acceptance`?");
}
