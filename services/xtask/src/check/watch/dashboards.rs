//! Every expression of every dashboard, asked over the time of the run.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::prometheus::Prometheus;
use super::shorten;
use crate::chart;

/// What such a run does not bring about: what is in the expression, and why it has no data.
const SILENT: [(&str, &str); 15] = [
    ("spillway_tls_", "the public port has no certificate here"),
    ("spillway_drain_step_seconds", "nobody drains"),
    ("spillway_admission_ladder_steered", "nobody holds the ladder yet"),
    ("spillway_admission_shadow_refused_total", "overload control is enforced"),
    ("spillway_provider_arrived_ratio", "the sandbox gives no receipts"),
    ("spillway_provider_delay_seconds", "the sandbox gives no receipts"),
    ("spillway_provider_conversion_ratio", "known only when the time to type the codes is over"),
    ("spillway_nats_connected{namespace=~\".*\", instance=~\".*\"} == 0", "no connection is lost"),
    ("outcome!=\"allowed\"", "no limit refuses anybody"),
    ("code!~\"ok|cancelled\"", "nothing fails"),
    ("outcome!=\"ok\"}", "the store fails nobody"),
    ("spillway_control_room_frozen{namespace=~\".*\"}) > 0", "the room does not stand still"),
    ("spillway_admission_refused_total", "nobody is refused where there is no overload"),
    ("spillway:room_estimates_wrong", "waits are too short here to be told a range of"),
    ("externalscaler.ExternalScaler", "no autoscaler asks"),
];

/// Of a fleet, and so not of one process.
const OF_FLEETS: [&str; 4] =
    ["spillway_nats_", "spillway_bus_", "spillway_cql_", "spillway_store_operation_seconds"];
/// Of one process, and so not of a fleet.
const OF_ONE: [&str; 4] = [
    "spillway_store_commit_seconds",
    "spillway_store_group_operations",
    "spillway_store_queue_operations",
    "spillway_store_disk_free_bytes",
];

struct Asked {
    at: String,
    expression: String,
}

pub(super) async fn check(prometheus: &Prometheus, began: f64, is_fleet: bool) -> Result<()> {
    let now = prometheus.now().await?;
    let asked = asked()?;
    ensure!(asked.len() > 100, "{} expressions", asked.len());
    let elsewhere: &[&str] = if is_fleet { &OF_ONE } else { &OF_FLEETS };
    let (mut answered, mut excused, mut silent) = (0, 0, Vec::new());
    for Asked { at, expression } in &asked {
        let (series, values) =
            prometheus.range(expression, began, now).await.with_context(|| format!("{at}: {expression}"))?;
        if series > 0 && values > 0 {
            answered += 1;
        } else if let Some((_, why)) = SILENT.iter().find(|(part, _)| expression.contains(part)) {
            excused += 1;
            eprintln!("    without data: {at}: {why}");
        } else if elsewhere.iter().any(|part| expression.contains(part)) {
            excused += 1;
        } else {
            silent.push(format!("{at}: {expression}"));
        }
    }
    if !silent.is_empty() {
        bail!("expressions that nothing answered:\n  {}", silent.join("\n  "));
    }
    println!(
        "    {} expressions: {answered} answered with data, {excused} not, for reasons that are known",
        asked.len()
    );
    Ok(())
}

fn asked() -> Result<Vec<Asked>> {
    let folder = chart::folder().join("files/dashboards");
    let mut asked = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let file = entry?.path();
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
        for panel in dashboard["panels"].as_array().into_iter().flatten() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().context("a target without an expression")?;
                let at = format!("{name}, {}", panel["title"].as_str().unwrap_or_default());
                asked.push(Asked { at, expression: filled(expression) });
            }
        }
    }
    asked.sort_by(|one, other| one.at.cmp(&other.at));
    Ok(asked)
}

/// As Grafana would, with everything selected; and with the windows of the shortened rules.
fn filled(expression: &str) -> String {
    let all = expression.replace("$namespace", ".*").replace("$instance", ".*");
    shorten::windows(&all.replace("$__rate_interval", "5m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_is_found_and_filled() {
        let asked = asked().unwrap();
        assert!(asked.len() > 100, "{}", asked.len());
        for Asked { at, expression } in &asked {
            assert!(!expression.contains('$'), "{at}: {expression}");
        }
    }

    /// An excuse for nothing would hide something later.
    #[test]
    fn every_excuse_is_for_an_expression_that_is_there() {
        let asked = asked().unwrap();
        let parts = SILENT.iter().map(|(part, _)| part).chain(&OF_FLEETS).chain(&OF_ONE);
        for part in parts {
            assert!(asked.iter().any(|asked| asked.expression.contains(part)), "{part}");
        }
    }
}
