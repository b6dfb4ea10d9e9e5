//! The scenarios that ship with the simulator.

use super::error::likest;
use super::{Scenario, ScenarioError};

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*]
    };
}

/// Name and text, in the order of the experiments.
const SHIPPED: &[(&str, &str)] = shipped![
    "e1-goodput",
    "bursts",
    "e2-cooperating",
    "e4-step",
    "e5-priority",
    "e7-metastability",
    "e7-infinite",
    "e9-amplification",
    "e11-elephants",
    "e13-false-positives",
    "misbehaving",
    "autoscaler",
    "scale",
];

/// A shipped scenario by its name, or all of them.
pub fn shipped(name: Option<&str>) -> Result<Vec<Scenario>, ScenarioError> {
    let parse = |(name, text): &(&str, &str)| Scenario::parse(text, &format!("{name}.toml"));
    let Some(name) = name else { return SHIPPED.iter().map(parse).collect() };
    match SHIPPED.iter().find(|(known, _)| *known == name) {
        Some(file) => parse(file).map(|scenario| vec![scenario]),
        None => {
            let valid: Vec<_> = SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect();
            let suggestion = likest(name, &valid);
            Err(ScenarioError::NoSuchScenario { name: name.to_owned(), suggestion, valid })
        }
    }
}
