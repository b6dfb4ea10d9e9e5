use std::collections::{BTreeMap, BTreeSet};

/// Series by name, in the text format.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    labels: BTreeMap<String, BTreeSet<String>>,
    /// Of all metrics: methods and codes are in some before a call has put them into others.
    values: BTreeSet<(String, String)>,
}

impl Exposition {
    pub(crate) fn parse(text: &str) -> Self {
        let mut all = Self::default();
        all.add(text);
        all
    }

    pub(crate) fn add(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap_or_default().to_owned();
            let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
            let known = self.labels.entry(name).or_default();
            // No value of ours has a quote in it.
            for pair in labels.map(|(pairs, _)| pairs).unwrap_or_default().split("\",") {
                if let Some((label, value)) = pair.split_once("=\"") {
                    known.insert(label.to_owned());
                    self.values.insert((label.to_owned(), value.trim_end_matches('"').to_owned()));
                }
            }
        }
    }

    /// `None` if there is no such series.
    pub(crate) fn labels(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.labels.get(name)
    }

    pub(crate) fn has_value(&self, label: &str, value: &str) -> bool {
        self.values.contains(&(label.to_owned(), value.to_owned()))
    }
}

#[test]
fn names_labels_and_values_are_found() {
    let text = "# HELP a b\na_total{x=\"1\",y=\"two, three\"} 4\nb 5\n";
    let exposed = Exposition::parse(text);
    assert!(exposed.has_value("y", "two, three") && exposed.has_value("x", "1"));
    assert!(exposed.labels("b").unwrap().is_empty() && exposed.labels("c").is_none());
}
