//! Rules, dashboards and runbooks beside what real processes expose. `promtool` checks their syntax and plays the rules;
//! here is what it cannot know: that a metric of that name, with that label, is there.

/// How many series there can be.
mod cardinality;
/// What `/metrics` says.
mod exposition;
/// The page of all metrics.
mod page;
/// Which series an expression reads.
mod promql;
/// The files, as far as they are looked at here.
mod shipped;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use spillway_client::DeviceSecret;

use super::start::{run, text};
use super::support::{Node, eventually, get};
pub(crate) use exposition::Exposition;
pub(crate) use page::not_on_the_page;
use promql::{Selector, selectors};
use shipped::{Expression, Rule};

/// Labels that Prometheus gives to whatever it scrapes.
const OF_TARGETS: [&str; 3] = ["namespace", "instance", "job"];

/// Only processes of a fleet have them.
const OF_FLEETS: [&str; 4] =
    ["spillway_nats_", "spillway_bus_", "spillway_cql_", "spillway_store_operation_seconds"];

/// Only a process with its own store has them.
const OF_THE_EMBEDDED_STORE: [&str; 4] = [
    "spillway_store_commit_seconds",
    "spillway_store_group_operations",
    "spillway_store_queue_operations",
    "spillway_store_disk_free_bytes",
];

/// What a minute of a test does not bring about, with the labels that it has.
const RARE: [(&str, &[&str]); 3] = [
    // Some time after a code was sent.
    ("spillway_provider_conversion_ratio", &["provider", "transport"]),
    // From providers that give receipts.
    ("spillway_provider_arrived_ratio", &["provider", "transport"]),
    ("spillway_provider_delay_seconds", &["provider", "transport"]),
];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every expression that Prometheus will be asked.
fn expressions() -> Vec<Expression> {
    let rules = shipped::rules().into_iter().map(|rule| Expression { at: rule.name, text: rule.expr });
    rules.chain(shipped::panels().into_iter().flat_map(|panel| panel.expressions)).collect()
}

/// What is wrong with the expressions, given what is exposed.
pub(crate) fn unknown(exposed: &Exposition, is_here: impl Fn(&str) -> bool) -> Vec<String> {
    let sources = sources();
    let recorded: BTreeSet<String> = shipped::rules().into_iter().map(|rule| rule.name).collect();
    let mut wrong = Vec::new();
    for Expression { at, text } in expressions() {
        for selector in selectors(&text) {
            let name = selector.name.as_str();
            if let Some((_, labels)) = RARE.iter().find(|(rare, _)| *rare == name) {
                let labels = labels.iter().map(|label| (*label).to_owned()).collect();
                wrong.extend(
                    complaints(&selector, &labels, exposed, &sources).map(|what| format!("{at}: {what}")),
                );
                if !sources.contains(&format!("\"{name}\"")) {
                    wrong.push(format!("{at}: {name} is in no source"));
                }
            } else if name.starts_with("spillway:") {
                if !recorded.contains(name) {
                    wrong.push(format!("{at}: no rule records {name}"));
                }
            } else if is_here(name) {
                match exposed.labels(name) {
                    None => wrong.push(format!("{at}: {name} is not exposed")),
                    Some(labels) => {
                        let found = complaints(&selector, labels, exposed, &sources);
                        wrong.extend(found.map(|what| format!("{at}: {what}")));
                    }
                }
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

/// Labels that the metric does not have, and values that it neither has nor could have.
fn complaints<'a>(
    selector: &'a Selector,
    labels: &'a BTreeSet<String>,
    exposed: &'a Exposition,
    sources: &'a str,
) -> impl Iterator<Item = String> + 'a {
    let name = &selector.name;
    let own = selector.matchers.iter().filter(|matcher| !OF_TARGETS.contains(&matcher.label.as_str()));
    own.flat_map(move |matcher| {
        let label = &matcher.label;
        if !labels.contains(label) {
            return vec![format!("{name} has no label {label}")];
        }
        let unheard =
            |value: &&str| !exposed.has_value(label, value) && !sources.contains(&format!("\"{value}\""));
        matcher
            .literals()
            .into_iter()
            .filter(unheard)
            .map(|value| format!("{name}: {label} is never {value:?}"))
            .collect()
    })
}

/// The code of the service, where label values are literals.
fn sources() -> String {
    fn add(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().unwrap() != "tests" {
                add(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut all = String::new();
    add(&root().join("services"), &mut all);
    all
}

pub(crate) fn is_of_fleets(name: &str) -> bool {
    OF_FLEETS.iter().any(|prefix| name.starts_with(prefix))
}

pub(crate) fn is_of_the_embedded_store(name: &str) -> bool {
    OF_THE_EMBEDDED_STORE.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether control has heard the fleet for long enough to say what it has to do.
pub(crate) fn has_listened(exposed: &Exposition) -> bool {
    ["spillway_control_room_bound", "spillway_control_demand_seats"]
        .iter()
        .all(|name| exposed.labels(name).is_some())
}

/// Exposed where there is a budget.
pub(crate) fn is_of_a_budget(name: &str) -> bool {
    name.starts_with("spillway_verification_budget_")
}

/// Exposed where the public port has a certificate.
pub(crate) fn is_of_tls(name: &str) -> bool {
    name.starts_with("spillway_tls_")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_exposes_what_rules_and_dashboards_ask_for() {
    let settings = [("REGISTRATION__BUDGET__HOUR", "1000000"), ("REGISTRATION__BUDGET__DAY", "1000000")];
    let node = Node::start("watch", &settings).await;
    let [alice, bob] = node.people().await;
    alice.reaches(&bob).await;
    node.client().await.enter(&DeviceSecret::from_bytes(&[7; 32])).await.ok();
    let page = || async { Exposition::parse(&get(&node.server.admin, "/metrics").await.1) };
    eventually("the control role has figures", || async { has_listened(&page().await) }).await;
    assert_eq!(unknown(&page().await, |name| !is_of_fleets(name) && !is_of_tls(name)), [""; 0]);
    let text = get(&node.server.admin, "/metrics").await.1;
    assert_eq!(not_on_the_page(&text).await, [""; 0]);
}

#[test]
fn each_alert_has_a_page_and_a_test_that_fires_and_one_that_does_not() {
    let alerts: Vec<Rule> = shipped::rules().into_iter().filter(|rule| rule.is_alert).collect();
    assert!(alerts.len() > 50, "{} alerts", alerts.len());
    let tested = shipped::tested();
    let mut wrong = Vec::new();
    for alert in &alerts {
        let name = &alert.name;
        for (fires, what) in [(true, "fires"), (false, "does not fire")] {
            if !tested.contains(&(name.clone(), fires)) {
                wrong.push(format!("{name}: no test in which it {what}"));
            }
        }
        if !shipped::runbooks().join(format!("{name}.md")).is_file() {
            wrong.push(format!("{name}: no page in deploy/runbooks"));
        }
        let field =
            |key: &str| alert.fields.iter().find(|(field, _)| field == key).map(|(_, value)| value.as_str());
        if !matches!(field("severity"), Some("page" | "ticket")) {
            wrong.push(format!("{name}: severity is page or ticket"));
        }
        if field("summary").is_none() || field("description").is_none() {
            wrong.push(format!("{name}: no summary or no description"));
        }
        if !field("runbook_url").is_some_and(|url| url.ends_with(&format!("/{name}.md"))) {
            wrong.push(format!("{name}: runbook_url is not its page"));
        }
    }
    let names: BTreeSet<_> = alerts.iter().map(|alert| alert.name.clone()).collect();
    if names.len() < alerts.len() {
        wrong.push("two alerts have one name".to_owned());
    }
    for (alert, _) in &tested {
        if !names.contains(alert) {
            wrong.push(format!("{alert} is tested, and is no alert"));
        }
    }
    let index = fs::read_to_string(shipped::runbooks().join("README.md")).unwrap();
    for (page, text) in shipped::pages() {
        if !names.contains(&page) {
            wrong.push(format!("{page}.md is the page of no alert"));
        }
        if !index.contains(&format!("({page}.md)")) {
            wrong.push(format!("{page}.md is not in the index"));
        }
        for section in ["**What it means.**", "**Who notices.**", "## Look first", "## Do\n", "## Do not"] {
            if !text.contains(section) {
                wrong.push(format!("{page}.md has no {section:?}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// Somebody who was woken looks for the panel of which the page speaks.
#[test]
fn panels_that_pages_name_are_there() {
    let titles: BTreeSet<String> = shipped::panels().into_iter().map(|panel| panel.title).collect();
    let mut wrong = Vec::new();
    for (page, text) in shipped::pages() {
        for line in text.lines().filter(|line| line.contains("dashboard")) {
            // Every second piece is between quotes.
            for quoted in line.split('"').skip(1).step_by(2) {
                if !titles.contains(quoted) {
                    wrong.push(format!("{page}.md: no panel {quoted:?}"));
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn dashboards_can_be_read_by_people() {
    let mut uids = BTreeSet::new();
    let mut wrong = Vec::new();
    for (file, dashboard) in shipped::dashboards() {
        let uid = dashboard["uid"].as_str().unwrap_or_default().to_owned();
        if uid.is_empty() || !uids.insert(uid) {
            wrong.push(format!("{file}: its uid is missing or another's"));
        }
        // Grafana gives them; in a file they collide.
        if !dashboard["id"].is_null() {
            wrong.push(format!("{file}: it has an id"));
        }
        if dashboard["editable"] != Value::Bool(false) || dashboard["description"].as_str().is_none() {
            wrong.push(format!("{file}: it can be edited, or has no description"));
        }
    }
    for panel in shipped::panels() {
        let shipped::Panel { file, title, json, expressions } = panel;
        let at = format!("{file}, {title}");
        if json["description"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{at}: no description"));
        }
        if json["fieldConfig"]["defaults"]["unit"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{at}: no unit"));
        }
        if expressions.is_empty() {
            wrong.push(format!("{at}: it asks nothing"));
        }
        let targets = json["targets"].as_array().cloned().unwrap_or_default();
        if targets.iter().chain([&json]).any(|asks| asks["datasource"]["uid"] != "${datasource}") {
            wrong.push(format!("{at}: the data source is not the one that is chosen above"));
        }
        for Expression { text, .. } in expressions {
            if !text.contains("$namespace") {
                wrong.push(format!("{at}: {text} is of all namespaces"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// The environment of each service in compose.yaml, with its role.
#[tokio::test]
async fn the_settings_of_compose_can_be_used() {
    let deploy = root().join("deploy");
    let compose = fs::read_to_string(deploy.join("compose.yaml")).unwrap();
    let file = deploy.join("compose.toml");
    let mut roles = BTreeSet::new();
    for command in compose.lines().filter(|line| line.contains("--roles")) {
        let words = command.split(['[', ']', ',']).map(str::trim);
        let role = words.skip_while(|word| *word != "--roles").nth(1).unwrap();
        roles.insert(role.to_owned());
    }
    assert_eq!(roles.len(), 5, "{roles:?}");
    let settings: Vec<(&str, &str)> = compose
        .lines()
        .filter_map(|line| line.trim().strip_prefix("SPILLWAY_")?.split_once(": "))
        .filter(|(key, _)| key.contains("__"))
        .collect();
    assert!(settings.len() >= 12, "{settings:?}");
    for role in roles {
        let checked = run(&["--config", text(&file), "--roles", &role, "--check-config"], &settings).await;
        assert!(checked.status.success(), "{role}: {checked:?}");
    }
}

/// Longer than any drain, by the settings in force.
#[tokio::test]
async fn compose_waits_for_the_longest_drain() {
    let deploy = root().join("deploy");
    let printed = run(&["--config", text(&deploy.join("compose.toml")), "--print-config"], &[]).await;
    let printed: toml::Table = String::from_utf8(printed.stdout).unwrap().parse().unwrap();
    let seconds = |path: &[&str]| {
        let value = path.iter().fold(None, |at: Option<&toml::Value>, key| match at {
            None => printed.get(*key),
            Some(value) => value.get(*key),
        });
        let text = value.and_then(toml::Value::as_str).unwrap_or_else(|| panic!("no {path:?}"));
        text.strip_suffix('s').and_then(|number| number.parse().ok()).map(Duration::from_secs).unwrap()
    };
    let calls = seconds(&["node", "drain_calls"]);
    let sessions = seconds(&["gateway", "session", "migrate_spread"])
        + seconds(&["gateway", "session", "migrate_grace"]);
    // The steps in `spillway/src/app.rs`: notice, sessions, connections, roles, bus, store, the rest.
    let longest = seconds(&["node", "drain_notice"])
        + Duration::from_secs(1)
        + sessions
        + 2 * calls
        + Duration::from_secs(2 + 10 + 2);
    let compose = fs::read_to_string(deploy.join("compose.yaml")).unwrap();
    let grace =
        compose.lines().find_map(|line| line.trim().strip_prefix("stop_grace_period: ")?.strip_suffix('s'));
    let grace = Duration::from_secs(grace.unwrap().parse().unwrap());
    assert!(grace > longest, "{grace:?} is no longer than {longest:?}");
}
