//! The values that the chart is tried with: the files that it ships, as an operator would combine them, and those in `ci`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::chart;

/// Fewer would not show what the chart can do.
const CI_LEAST: usize = 6;

#[derive(Clone, Debug)]
pub(super) struct ValueSet {
    pub(super) name: String,
    /// Later ones come first.
    files: Vec<PathBuf>,
}

impl ValueSet {
    /// As Helm is told.
    pub(super) fn arguments(&self) -> impl Iterator<Item = String> {
        self.files.iter().map(|file| format!("--values={}", file.display()))
    }
}

/// All of them, or those whose name contains `only`.
pub(super) fn all(only: Option<&str>) -> Result<Vec<ValueSet>> {
    let folder = chart::folder();
    let set = |name: &str, files: &[&str]| ValueSet {
        name: name.to_owned(),
        files: files.iter().map(|file| folder.join(file)).collect(),
    };
    let mut sets = vec![
        set("dev", &["values-dev.yaml"]),
        set("prod", &["values-prod.yaml"]),
        // It says on top of what.
        set("surge", &["values-prod.yaml", "values-surge.yaml"]),
    ];
    let mut ci = Vec::new();
    for file in fs::read_dir(folder.join("ci")).context("the chart has no folder ci")? {
        let file = file?.path();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(name) = name.strip_suffix("-values.yaml") {
            ci.push(ValueSet { name: format!("ci-{name}"), files: vec![file.clone()] });
        }
    }
    ensure!(
        ci.len() >= CI_LEAST,
        "helm/spillway/ci has {} files *-values.yaml; {CI_LEAST} are wanted",
        ci.len()
    );
    ci.sort_by(|a, b| a.name.cmp(&b.name));
    sets.extend(ci);
    sets.retain(|set| only.is_none_or(|only| set.name.contains(only)));
    ensure!(!sets.is_empty(), "no set of values has {only:?} in its name");
    Ok(sets)
}
