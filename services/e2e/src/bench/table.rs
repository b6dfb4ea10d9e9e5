//! The result: a table for people, a file for machines.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde::Serialize;

/// Which side of the target is good.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What it is compared with, in the same unit and the same run.
    pub(crate) floor: Option<f64>,
    /// Value over floor.
    pub(crate) ratio: Option<f64>,
    /// For the ratio where there is one, else for the value.
    pub(crate) target: Target,
    pub(crate) pass: bool,
}

impl Row {
    pub(crate) fn ratio(
        name: &'static str,
        value: f64,
        unit: &'static str,
        floor: f64,
        target: Target,
    ) -> Self {
        let ratio = value / floor;
        Self { name, value, unit, floor: Some(floor), ratio: Some(ratio), target, pass: target.is_met(ratio) }
    }

    pub(crate) fn value(name: &'static str, value: f64, unit: &'static str, target: Target) -> Self {
        Self { name, value, unit, floor: None, ratio: None, target, pass: target.is_met(value) }
    }
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    suite: &'static str,
    commit: Option<String>,
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(suite: &'static str) -> Self {
        Self { suite, commit: commit(), rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn extend(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.rows.extend(rows);
    }

    /// Prints the table, writes the file, and tells whether every row met its target.
    pub(crate) fn finish(self, out: &Path) -> Result<ExitCode> {
        println!(
            "\n{:<46} {:>12} {:>12} {:>8} {:>9}  verdict",
            format!("suite {}", self.suite),
            "value",
            "floor",
            "ratio",
            "target"
        );
        for row in &self.rows {
            let number = |value: Option<f64>| value.map_or("-".to_owned(), significant);
            println!(
                "{:<46} {:>12} {:>12} {:>8} {:>9}  {}",
                format!("{} ({})", row.name, row.unit),
                significant(row.value),
                number(row.floor),
                number(row.ratio),
                row.target.text(),
                if row.pass { "PASS" } else { "MISSED" }
            );
        }
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let file = out.join(format!("{}.json", self.suite));
        std::fs::write(&file, serde_json::to_vec_pretty(&self)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("\nwritten to {}", file.display());
        Ok(if self.rows.iter().all(|row| row.pass) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn significant(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn commit() -> Option<String> {
    let output =
        Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
