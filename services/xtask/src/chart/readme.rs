//! The table of values in the chart's README, between two markers.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

use super::values::{Entry, Section};

const BEGIN: &str = "<!-- values: made from values.yaml by `cargo xtask chart docs` -->\n";
const END: &str = "<!-- end of values -->";

pub(super) fn with_table(readme: &str, sections: &[Section]) -> Result<String> {
    let (before, rest) =
        readme.split_once(BEGIN).with_context(|| format!("README.md lacks the line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("README.md lacks the line {END}"))?;
    Ok(format!("{before}{BEGIN}{}\n{END}{after}", table(sections)))
}

fn table(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        // Writing to a string cannot fail.
        writeln!(text, "\n### {}\n\n| value | default | what it is |\n|---|---|---|", section.title).ok();
        for entry in &section.entries {
            rows(&mut text, "", entry);
        }
    }
    text
}

fn rows(text: &mut String, path: &str, entry: &Entry) {
    let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
    let is_map = !entry.entries.is_empty() && !is_free(entry);
    if !is_map || !entry.about.is_empty() {
        let default = if is_map { String::new() } else { format!("`{}`", shown(&entry.default)) };
        writeln!(text, "| `{path}` | {default} | {} |", entry.about.replace('|', "\\|")).ok();
    }
    if is_map {
        for inner in &entry.entries {
            rows(text, &path, inner);
        }
    }
}

/// A map whose keys are the user's: its default is shown whole.
fn is_free(entry: &Entry) -> bool {
    entry.schema.as_ref().is_some_and(|schema| schema.get("additionalProperties").is_some())
}

fn shown(default: &Value) -> String {
    match default {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.replace('|', "\\|"),
        other => other.to_string().replace('|', "\\|"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::parse;
    use super::*;

    #[test]
    fn the_table_replaces_what_is_between_the_markers() {
        let sections = parse("# == One\n# A | b.\na: \"\"\n# Map.\nb:\n  c: [1]\n").unwrap();
        let readme = format!("top\n{BEGIN}old\n{END}\nbottom\n");
        let made = with_table(&readme, &sections).unwrap();
        assert!(
            made.contains("| `a` | `\"\"` | A \\| b. |\n| `b` |  | Map. |\n| `b.c` | `[1]` |  |\n"),
            "{made}"
        );
        assert!(made.starts_with("top\n") && made.ends_with("bottom\n") && !made.contains("old"));
        assert_eq!(with_table(&made, &sections).unwrap(), made);
        assert!(with_table("nothing", &sections).is_err());
    }
}
