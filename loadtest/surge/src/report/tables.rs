//! The tables of the report.

use super::text::{count, escape, maybe_millis, words};
use crate::outputs::markdown;
use crate::slo::GateResult;
use crate::summary::Summary;

pub(super) const REASONS_NOTE: &str =
    "A refusal is an answer by design: come back later. A failure is everything else that was not success.";
pub(super) const LEDGER_NOTE: &str = "Every message carries its number and a checksum from sender to receiver. \
    Lost means acknowledged and never delivered. A send that got no answer may still have arrived.";
pub(super) const LATENCY_NOTE: &str = "Response counts from the planned start, as a person would; service from the \
    moment of sending. Refusals are not timed, nor is who still waits for a turn.";

pub(super) fn gate_table(gates: &[GateResult]) -> String {
    let rows: String = gates.iter().map(gate).collect();
    table(&["", "gate", "must be", "was"], &rows, "gates")
}

fn gate(gate: &GateResult) -> String {
    let sign = gate.comparison.sign();
    let value = |value: Option<f64>| markdown::value(gate, value);
    let (class, mark) = if gate.pass { ("good", "✓") } else { ("bad", "✗") };
    let spoken = if gate.pass { "passed" } else { "missed" };
    let means = escape(&gate.means);
    let advice = gate.advice.as_deref();
    let advice = advice
        .map_or_else(String::new, |advice| format!("<small class=\"warn\">{}.</small>", escape(advice)));
    let mut letters = means.chars();
    let means =
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect());
    format!(
        "<tr><td class=\"{class}\" aria-label=\"{spoken}\">{mark}</td><td>{means}<small>{}</small>{advice}</td>\
         <td class=\"n\">{sign} {}</td><td class=\"n {class}\">{}</td></tr>",
        escape(&gate.figure),
        value(gate.threshold),
        value(gate.observed),
    )
}

pub(super) fn reasons(summary: &Summary) -> String {
    let mut reasons: Vec<_> = summary
        .operations
        .iter()
        .flat_map(|(operation, figures)| {
            figures.reasons.iter().map(move |(reason, n)| (*n, operation, reason))
        })
        .collect();
    if reasons.is_empty() {
        return "<p class=\"nothing\">Nothing was refused and nothing failed.</p>".to_owned();
    }
    reasons.sort_by(|a, b| b.cmp(a));
    let most = reasons.first().map_or(1, |(n, ..)| *n).max(1);
    let row = |(n, operation, reason): (u64, &String, &String)| {
        let width = 100.0 * n as f64 / most as f64;
        format!(
            "<li><span>{} <small>{}</small></span><i style=\"width:{width:.1}%\"></i><b>{}</b></li>",
            words(reason),
            words(operation),
            count(n)
        )
    };
    let bars: String = reasons.into_iter().map(row).collect();
    format!("<ul class=\"bars\">{bars}</ul>")
}

pub(super) fn ledger(summary: &Summary) -> String {
    let counts = &summary.ledger;
    let figure = |name: &str, n: u64, fault: bool| {
        let class = if !fault {
            ""
        } else if n == 0 {
            "good"
        } else {
            "bad"
        };
        format!("<div><dt>{name}</dt><dd class=\"{class}\">{}</dd></div>", count(n))
    };
    format!(
        "<dl class=\"ledger\">{}{}{}{}{}{}</dl>",
        figure("acknowledged", counts.acked, false),
        figure("delivered", counts.delivered, false),
        figure("lost", counts.lost, true),
        figure("duplicated", counts.duplicated, true),
        figure("reordered", counts.reordered, true),
        figure("corrupted", counts.corrupted, true),
    )
}

pub(super) fn latency(summary: &Summary) -> String {
    let mut rows = String::new();
    for (operation, figures) in &summary.operations {
        let (response, service) = (&figures.response_ms, &figures.service_ms);
        let cell = |text: String| format!("<td class=\"n\">{text}</td>");
        rows += &format!("<tr><td>{}</td>", words(operation));
        for n in [figures.offered, figures.ok, figures.refused, figures.failed, figures.waiting] {
            rows += &cell(count(n));
        }
        for ms in
            [response.p50, response.p90, response.p99, response.p999, response.max, service.p50, service.p99]
        {
            rows += &cell(maybe_millis(ms));
        }
        rows += "</tr>";
    }
    let columns = [
        "operation",
        "offered",
        "ok",
        "refused",
        "failed",
        "waiting",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "service p50",
        "service p99",
    ];
    format!("<div class=\"wide\">{}</div>", table(&columns, &rows, "latency"))
}

pub(super) fn repeat(summary: &Summary) -> String {
    let versions = &summary.versions;
    let unknown = || "unknown".to_owned();
    let mut rows = vec![
        ("seed".to_owned(), summary.seed.to_string()),
        ("profile".to_owned(), summary.profile.clone()),
        ("target".to_owned(), versions.target.clone()),
        ("surge".to_owned(), versions.surge.clone()),
        ("server".to_owned(), versions.server.clone().unwrap_or_else(unknown)),
        ("git commit".to_owned(), versions.git_commit.clone().unwrap_or_else(unknown)),
    ];
    rows.extend(summary.configuration.iter().map(|(name, value)| (name.clone(), value.clone())));
    let rows = rows.into_iter().map(|(name, value)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(&name.replace('_', " ")), escape(&value))
    });
    let rows: String = rows.collect();
    let exit = u8::from(summary.exit_code);
    format!("<dl class=\"facts\">{rows}</dl><p class=\"end-note\">Exit status {exit}.</p>")
}

fn table(columns: &[&str], rows: &str, class: &str) -> String {
    let head: String = columns.iter().map(|column| format!("<th>{column}</th>")).collect();
    format!("<table class=\"{class}\"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
}
