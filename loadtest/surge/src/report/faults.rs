//! What was done to the service, what it did to people, and what was asked twice.

use super::section;
use super::text::{count, escape, maybe_millis, number, words};
use crate::events::EventKind;
use crate::faults::Recovery;
use crate::summary::Summary;
use crate::workload::{
    CHECK_CODE, ENTER_ROOM, FINISH_SIGN_UP, RECEIVE_CODE, RESEND_CODE, START_VERIFICATION,
};

/// Nothing where nothing was done.
pub(super) fn faults(summary: &Summary) -> String {
    let others = summary.events.iter().filter(|event| event.kind != EventKind::Fault);
    let others: String = others
        .map(|event| {
            let outcome = match event.outcome.is_empty() {
                true => String::new(),
                false => format!(": {}", escape(&event.outcome)),
            };
            format!("<p class=\"note\">At {} s: {}{outcome}.</p>", number(event.at_s), escape(&event.label))
        })
        .collect();
    if summary.faults.is_empty() && others.is_empty() {
        return String::new();
    }
    let rows: String = summary.faults.iter().map(row).collect();
    let head: String =
        ["at", "what was done", "sends as before after", "p99 before", "worst second", "failed", "refused"]
            .map(|name| format!("<th>{name}</th>"))
            .concat();
    let table = match summary.faults.is_empty() {
        true => String::new(),
        false => format!(
            "<div class=\"wide\"><table class=\"faults\"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        ),
    };
    let lost = match summary.ledger.lost {
        0 => "No acknowledged message was lost over the whole run.".to_owned(),
        lost => format!("{} acknowledged messages were lost over the whole run.", count(lost)),
    };
    section(
        "Faults",
        &format!(
            "What was done to the service on purpose, and how long existing users felt it: a second is as before while 99 % of sends succeed \
             and their p99 is at most twice the usual one plus 50 ms. {lost}"
        ),
        &(table + &others),
    )
}

fn row(fault: &Recovery) -> String {
    let (class, after) = match fault.recovered_after_s {
        Some(0.0) => ("good", "nobody felt it".to_owned()),
        Some(after) => ("", format!("{} s", number(after))),
        None => ("bad", "not in this run".to_owned()),
    };
    let outcome = match fault.outcome.as_str() {
        "done" | "" => String::new(),
        outcome => format!("<small class=\"warn\">{}</small>", escape(outcome)),
    };
    format!(
        "<tr><td class=\"n\">{} s</td><td>{}{outcome}</td><td class=\"n {class}\">{after}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        number(fault.at_s),
        escape(&fault.label),
        maybe_millis(fault.usual_p99_ms),
        maybe_millis(fault.worst_p99_ms),
        count(fault.failed),
        count(fault.refused),
    )
}

/// What was asked more often than it had to be.
pub(super) fn amplification(summary: &Summary) -> String {
    let offered = |name: &str| summary.operations.get(name).map_or(0, |operation| operation.offered);
    let pairs = [
        ("asking for a code", offered(START_VERIFICATION.0), offered(FINISH_SIGN_UP.0)),
        ("codes", offered(RECEIVE_CODE.0) + offered(RESEND_CODE.0), offered(RECEIVE_CODE.0)),
        ("checking a code", offered(CHECK_CODE.0), offered(RECEIVE_CODE.0)),
        ("asking for a place", offered(ENTER_ROOM.0), summary.room.as_ref().map_or(0, |room| room.entered)),
    ];
    let rows: String = pairs
        .into_iter()
        .filter(|(_, attempts, first)| *attempts > 0 && *first > 0 && attempts >= first)
        .map(|(name, attempts, first)| {
            format!(
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">× {}</td></tr>",
                words(name),
                count(attempts),
                count(first),
                number(attempts as f64 / first as f64)
            )
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    section(
        "Asked again",
        "How often something was asked for, over how often it was wanted. What the client library repeats within one call is not counted here.",
        &format!(
            "<table class=\"latency\"><thead><tr><th></th><th>asked</th><th>wanted</th><th>amplification</th></tr></thead><tbody>{rows}</tbody></table>"
        ),
    )
}
