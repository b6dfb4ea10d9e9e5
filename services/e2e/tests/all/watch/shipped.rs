use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::root;

pub(crate) struct Expression {
    pub(crate) at: String,
    pub(crate) text: String,
}

/// A rule that records or alerts.
#[derive(Debug, Default)]
pub(crate) struct Rule {
    pub(crate) is_alert: bool,
    pub(crate) name: String,
    pub(crate) expr: String,
    /// Labels and annotations.
    pub(crate) fields: Vec<(String, String)>,
}

pub(crate) struct Panel {
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) json: Value,
    pub(crate) expressions: Vec<Expression>,
}

fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let folder = root().join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| (stem(&path), fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Read line by line, because the files are ours and their form is what `promtool` checks.
pub(crate) fn rules() -> Vec<Rule> {
    files("helm/spillway/files/rules", "yaml").iter().flat_map(|(_, text)| rules_of(text)).collect()
}

fn rules_of(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    // The indentation of `expr`, while its lines follow.
    let mut block = None;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let (Some(of_expr), Some(rule)) = (block, rules.last_mut()) {
            if trimmed.is_empty() || indent > of_expr {
                rule.expr.push_str(trimmed);
                rule.expr.push('\n');
                continue;
            }
            block = None;
        }
        let Some((key, value)) = trimmed.split_once(':') else { continue };
        let value = value.trim();
        match (key, rules.last_mut()) {
            ("- record" | "- alert", _) => {
                let (is_alert, name) = (key == "- alert", value.to_owned());
                rules.push(Rule { is_alert, name, ..Rule::default() });
            }
            ("expr", Some(_)) if value.starts_with('|') => block = Some(indent),
            ("expr", Some(rule)) => rule.expr = value.trim_matches('\'').to_owned(),
            (_, Some(rule)) if !value.is_empty() => rule.fields.push((key.to_owned(), value.to_owned())),
            _ => {}
        }
    }
    rules
}

/// Which alerts have tests: with the name, whether it fires in one.
pub(crate) fn tested() -> BTreeSet<(String, bool)> {
    let mut tested = BTreeSet::new();
    for (_, text) in files("helm/spillway/files/rules/tests", "yaml") {
        let mut alert = None;
        for line in text.lines() {
            if let Some(name) = line.trim().strip_prefix("- alertname: ") {
                alert = Some(name.to_owned());
            } else if let Some(rest) = line.trim().strip_prefix("exp_alerts:") {
                tested.insert((alert.take().expect("an alert is named before"), rest.trim() != "[]"));
            }
        }
    }
    tested
}

pub(crate) fn runbooks() -> PathBuf {
    root().join("deploy/runbooks")
}

/// Of alerts: the index is none.
pub(crate) fn pages() -> Vec<(String, String)> {
    files("deploy/runbooks", "md").into_iter().filter(|(name, _)| name != "README").collect()
}

pub(crate) fn dashboards() -> Vec<(String, Value)> {
    let files = files("helm/spillway/files/dashboards", "json");
    files.into_iter().map(|(name, text)| (name, serde_json::from_str(&text).unwrap())).collect()
}

/// Without the headings between them.
pub(crate) fn panels() -> Vec<Panel> {
    let mut panels = Vec::new();
    for (file, dashboard) in dashboards() {
        for json in dashboard["panels"].as_array().unwrap() {
            if json["type"] == "row" {
                continue;
            }
            let title = json["title"].as_str().unwrap_or_default().to_owned();
            let targets = json["targets"].as_array().cloned().unwrap_or_default();
            let expressions = targets
                .iter()
                .filter_map(|target| target["expr"].as_str())
                .map(|text| Expression { at: format!("{file}, {title}"), text: text.to_owned() })
                .collect();
            panels.push(Panel { file: file.clone(), title, json: json.clone(), expressions });
        }
    }
    panels
}

#[test]
fn rules_are_read() {
    let text = "groups:\n  - name: x\n    rules:\n      # Why.\n      - record: a:b\n        expr: vector(1)\n        labels:\n          \
                slo: c\n      - alert: D\n        expr: |-\n          e\n          > 1\n        for: 5m\n        annotations:\n          \
                summary: 'f: g'\n";
    let [record, alert] = rules_of(text).try_into().unwrap();
    assert_eq!((record.name.as_str(), record.expr.as_str(), record.is_alert), ("a:b", "vector(1)", false));
    assert_eq!((alert.name.as_str(), alert.expr.as_str(), alert.is_alert), ("D", "e\n> 1\n", true));
    assert_eq!(alert.fields.last().unwrap(), &("summary".to_owned(), "'f: g'".to_owned()));
}
