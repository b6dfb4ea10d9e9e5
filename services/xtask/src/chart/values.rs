//! `values.yaml` with its comments: what each value is for, and what its schema says beside its default.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::yaml;

/// How the title of a section begins.
const TITLE: &str = "# == ";

/// A value of the chart, or a map of them.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The comment above it; empty where the name says all.
    pub(super) about: String,
    /// What the line `@schema` adds.
    pub(super) schema: Option<Value>,
    pub(super) default: Value,
    pub(super) entries: Vec<Entry>,
}

/// Values under a title.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) title: String,
    pub(super) entries: Vec<Entry>,
}

pub(super) fn parse(text: &str) -> Result<Vec<Section>> {
    let lines: Vec<&str> = text.lines().collect();
    let titles: Vec<(usize, &str)> = lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| line.strip_prefix(TITLE).map(|title| (at + 1, title)))
        .collect();
    let mut sections: Vec<Section> =
        titles.iter().map(|(_, title)| Section { title: (*title).to_owned(), entries: Vec::new() }).collect();
    for parsed in yaml::entries(text)? {
        let section = titles.iter().rposition(|(line, _)| *line < parsed.line);
        let section =
            section.with_context(|| format!("{} stands above the first `# == Title`", parsed.key))?;
        let entry = entry(parsed, &lines, "")?;
        sections[section].entries.push(entry);
    }
    Ok(sections)
}

fn entry(parsed: yaml::Entry, lines: &[&str], path: &str) -> Result<Entry> {
    let path = if path.is_empty() { parsed.key.clone() } else { format!("{path}.{}", parsed.key) };
    let (about, schema) = comment(lines, parsed.line);
    let schema = schema
        .map(|text| {
            serde_json::from_str(text).with_context(|| format!("the @schema of {path} is not JSON: {text}"))
        })
        .transpose()?;
    let entries =
        parsed.entries.into_iter().map(|inner| entry(inner, lines, &path)).collect::<Result<_>>()?;
    Ok(Entry { key: parsed.key, about, schema, default: parsed.value, entries })
}

/// The comment that ends above a line (counted from 1), and its line `@schema`.
fn comment<'a>(lines: &[&'a str], line: usize) -> (String, Option<&'a str>) {
    let above = lines.get(..line.saturating_sub(1)).unwrap_or_default();
    let is_comment = |line: &str| line.trim_start().starts_with('#') && !line.starts_with(TITLE);
    let start = above.iter().rposition(|line| !is_comment(line)).map_or(0, |last| last + 1);
    let mut about = Vec::new();
    let mut schema = None;
    for line in above.get(start..).unwrap_or_default() {
        let text = line.trim_start().trim_start_matches('#').trim();
        match text.strip_prefix("@schema ") {
            Some(json) => schema = Some(json),
            None => about.push(text),
        }
    }
    (about.join(" "), schema)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_belong_to_the_key_below() {
        let text = "# of the file\n\n# == First\n\n# What it is,\n# and why.\n# @schema {\"minimum\": 1}\na: 1\nb:\n  # inner\n  c: []\n\n# == Second\n\nd: x\n";
        let sections = parse(text).unwrap();
        let titles: Vec<_> = sections.iter().map(|section| section.title.as_str()).collect();
        assert_eq!(titles, ["First", "Second"]);
        let a = &sections[0].entries[0];
        assert_eq!(
            (a.about.as_str(), a.schema.clone()),
            ("What it is, and why.", Some(json!({"minimum": 1})))
        );
        assert_eq!(sections[0].entries[1].entries[0].about, "inner");
        assert_eq!(sections[1].entries[0].about, "");
    }

    #[test]
    fn a_wrong_annotation_names_its_key() {
        let error = parse("# == A\na:\n  # @schema {oops\n  b: 1\n").unwrap_err();
        assert!(error.to_string().contains("a.b"), "{error}");
    }
}
