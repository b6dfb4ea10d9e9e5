//! The alert and recording rules that the chart ships, by promtool.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{cargo, chart, tools};

pub(super) fn check() -> Result<()> {
    let folder = chart::folder().join("files/rules");
    let (rules, tests) = (yaml_files(&folder), yaml_files(&folder.join("tests")));
    if rules.is_empty() {
        eprintln!("\n=== promtool: there are no rules in {}", folder.display());
        return Ok(());
    }
    cargo::step("promtool check rules", tools::PROMTOOL.command().args(["check", "rules"]).args(&rules))?;
    if tests.is_empty() {
        anyhow::bail!(
            "{} has no tests: every alert needs a case that fires and one that must not",
            folder.display()
        );
    }
    cargo::step("promtool test rules", tools::PROMTOOL.command().args(["test", "rules"]).args(&tests))
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|ending| ending == "yaml")).collect();
    files.sort();
    files
}
