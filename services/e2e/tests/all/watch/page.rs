use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use tokio::sync::OnceCell;

use super::super::start::run;
use super::root;

/// One metric of the page.
struct Described {
    kind: String,
    /// One for each part that has it.
    helps: BTreeSet<String>,
    /// With all their values, where they are listed.
    labels: BTreeMap<String, Option<BTreeSet<String>>>,
}

/// Of the executable, which the page of the checkout must be equal to.
async fn printed() -> &'static str {
    static PRINTED: OnceCell<String> = OnceCell::const_new();
    let print = async || {
        let printed = run(&["--print-metrics"], &[]).await;
        assert!(printed.status.success(), "{printed:?}");
        String::from_utf8(printed.stdout).unwrap()
    };
    PRINTED.get_or_init(print).await
}

fn between_quotes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A metric may be in two parts, with values of a label in each.
fn described(page: &str) -> BTreeMap<String, Described> {
    let mut all = BTreeMap::<String, Described>::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').splitn(4, " | ").map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else { panic!("{line}") };
        let here = Described {
            kind: kind.trim_end_matches('*').to_owned(),
            helps: [help.replace("\\|", "|")].into(),
            labels: labels
                .split("; ")
                .filter(|label| !label.is_empty())
                .map(|label| {
                    let mut texts = between_quotes(label).map(str::to_owned);
                    let name = texts.next().unwrap();
                    (name, label.contains(':').then(|| texts.collect()))
                })
                .collect(),
        };
        let known = all.entry(name.trim_matches('`').to_owned()).or_insert_with(|| Described {
            kind: here.kind.clone(),
            helps: BTreeSet::new(),
            labels: here.labels.clone(),
        });
        known.helps.extend(here.helps);
        for (label, values) in here.labels {
            if let (Some(Some(known)), Some(values)) = (known.labels.get_mut(&label), values) {
                known.extend(values);
            }
        }
    }
    assert!(all.len() > 100, "{} metrics", all.len());
    all
}

/// Name, labels with their values; of a histogram, without `le` and the ending.
fn series(line: &str) -> (String, Vec<(String, String)>) {
    let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
    let pairs = rest.strip_prefix('{').and_then(|rest| rest.rsplit_once('}')).map_or("", |(pairs, _)| pairs);
    let pairs = pairs.split("\",").filter_map(|pair| pair.split_once("=\""));
    let pairs = pairs.map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned()));
    (name.to_owned(), pairs.filter(|(label, _)| label != "le").collect())
}

/// What a process exposes that the page does not have, or has otherwise.
pub(crate) async fn not_on_the_page(exposed: &str) -> Vec<String> {
    let described = described(printed().await);
    let mut wrong = BTreeSet::new();
    // A page of metrics names a family before its series.
    let mut family = String::new();
    for line in exposed.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            family = name.to_owned();
            if described.get(name).is_some_and(|known| !known.helps.contains(help)) {
                wrong.insert(format!("{name} says {help:?}"));
            }
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            if described.get(name).is_none_or(|known| known.kind != kind) {
                wrong.insert(format!("{name} is not there as a {kind}"));
            }
        } else if let Some(known) = described.get(&family) {
            for (label, value) in series(line).1 {
                match known.labels.get(&label) {
                    None => wrong.insert(format!("{family} has the label {label}")),
                    Some(Some(values)) if !values.contains(&value) => {
                        wrong.insert(format!("{family}: {label} is {value:?}"))
                    }
                    Some(_) => false,
                };
            }
        }
    }
    wrong.into_iter().collect()
}

#[tokio::test]
async fn the_page_of_metrics_is_what_the_code_registers() {
    let there = fs::read_to_string(root().join("deploy/metrics.md")).unwrap_or_default();
    assert!(
        there == printed().await,
        "deploy/metrics.md is stale: `cargo xtask metrics --write` writes it anew"
    );
}

#[tokio::test]
async fn what_is_not_on_the_page_is_noticed() {
    let exposed = "# HELP spillway_gateway_sends_total Sends by how they ended\n\
        # TYPE spillway_gateway_sends_total counter\n\
        spillway_gateway_sends_total{outcome=\"+4915112345678\"} 1\n\
        # HELP spillway_new_total New.\n# TYPE spillway_new_total counter\nspillway_new_total 1\n\
        # HELP spillway_gateway_acks_total Message ids acknowledged by devices\n\
        # TYPE spillway_gateway_acks_total gauge\nspillway_gateway_acks_total{user=\"a\"} 1\n";
    let wrong = not_on_the_page(exposed).await;
    assert_eq!(
        wrong,
        [
            "spillway_gateway_acks_total has the label user",
            "spillway_gateway_acks_total is not there as a gauge",
            "spillway_gateway_sends_total: outcome is \"+4915112345678\"",
            "spillway_new_total is not there as a counter",
        ]
    );
}
