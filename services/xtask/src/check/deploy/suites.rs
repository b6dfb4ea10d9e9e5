//! Each template of the chart has a suite of unit tests that names it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{chart, yaml};

pub(super) fn check() -> Result<()> {
    let folder = chart::folder();
    let mut templates = BTreeSet::new();
    collect(&folder.join("templates"), "", &mut templates)?;
    for file in fs::read_dir(folder.join("tests")).context("the chart has no folder tests")? {
        let file = file?.path();
        if file.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let suite =
            yaml::document(&fs::read_to_string(&file)?).with_context(|| format!("{}", file.display()))?;
        for template in suite["templates"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            templates.remove(template);
        }
    }
    let untested: Vec<_> = templates.into_iter().collect();
    ensure!(
        untested.is_empty(),
        "no suite in helm/spillway/tests names under `templates:`: {}",
        untested.join(", ")
    );
    Ok(())
}

/// Files that Helm renders: those with an underscore only define.
fn collect(folder: &Path, below: &str, templates: &mut BTreeSet<String>) -> Result<()> {
    for file in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if file.file_type()?.is_dir() {
            collect(&file.path(), &path, templates)?;
        } else if !name.starts_with('_') {
            templates.insert(path);
        }
    }
    Ok(())
}
