//! What a reader sees first: the verdict, what happened, and the four figures that matter.

use super::text::{count, escape, maybe_millis, mebibytes, millis, number, percent};
use crate::slo::Verdict;
use crate::summary::Summary;

pub(super) fn verdict(summary: &Summary) -> String {
    let (word, class) = match summary.verdict {
        Verdict::Pass => ("PASS", "good"),
        Verdict::Fail => ("FAIL", "bad"),
        Verdict::Invalid => ("INVALID", "warn"),
        Verdict::Interrupted => ("INTERRUPTED", "warn"),
    };
    format!(
        "<header><p class=\"eyebrow\">surge<span>{}</span><span>{}</span></p>\
         <h1>{}</h1><p class=\"lede\"><b class=\"pill {class}\">{word}</b> {}</p></header>\n",
        escape(&summary.profile),
        escape(&summary.started_utc.replace('T', " ").replace('Z', " UTC")),
        escape(&summary.headline),
        story(summary),
    )
}

/// The run in two or three sentences.
fn story(summary: &Summary) -> String {
    let mut story = format!(
        "At the peak {} people a second signed up, in a run of {} seconds. ",
        number(summary.peak.achieved_sign_ups_per_s),
        number(summary.duration_s)
    );
    if let Some(room) = &summary.room {
        story += &format!("{} came through the waiting room, ", count(room.entered));
        story += &match room.wait_ms.p99 {
            Some(p99) if room.most_waiting > 0 => {
                format!(
                    "where up to {} waited, 99 in 100 for {} at most. ",
                    count(room.most_waiting),
                    millis(p99)
                )
            }
            _ => "which let everybody in at once. ".to_owned(),
        };
    }
    let existing = &summary.existing;
    if let (Some(ratio), Some(p99)) = (existing.send_success_ratio, existing.send_p99_ms) {
        story += &format!(
            "Meanwhile {} of the messages of {} existing users were accepted, 99 in 100 of them within {}",
            percent(ratio),
            count(existing.users),
            millis(p99)
        );
        story += &existing
            .send_p99_ms_before_surge
            .map_or_else(String::new, |ms| format!(" ({} before)", millis(ms)));
        story += ". ";
    }
    let ledger = &summary.ledger;
    story += &match (ledger.lost, ledger.duplicated) {
        (0, 0) => format!("All {} acknowledged messages arrived, none of them twice.", count(ledger.acked)),
        (lost, twice) => format!(
            "Of {} acknowledged messages {} did not arrive; {} arrived again.",
            count(ledger.acked),
            count(lost),
            count(twice)
        ),
    };
    story
}

pub(super) fn key_figures(summary: &Summary) -> String {
    let figure = |name: &str, value: String, beside: String| {
        format!("<div><dt>{name}</dt><dd>{value}<small>{beside}</small></dd></div>")
    };
    let peak = &summary.peak;
    let probed =
        peak.probed_sign_ups_per_s.map_or_else(String::new, |probed| format!(" · probe {}", number(probed)));
    let server = &summary.server;
    format!(
        "<dl class=\"figures\">{}{}{}{}</dl>\n",
        figure(
            "Sign-ups a second, at best",
            number(peak.achieved_sign_ups_per_s),
            format!("planned {}{probed}", number(peak.planned_sign_ups_per_s)),
        ),
        figure(
            "Existing users’ send, p99",
            maybe_millis(summary.existing.send_p99_ms),
            format!("before {}", maybe_millis(summary.existing.send_p99_ms_before_surge)),
        ),
        figure(
            "Messages lost",
            count(summary.ledger.lost),
            format!("of {} acknowledged", count(summary.ledger.acked))
        ),
        figure(
            "Server CPU an operation",
            server.cpu_us_per_op.map_or_else(|| "–".to_owned(), |us| format!("{} µs", number(us))),
            server
                .rss_peak_bytes
                .map_or_else(|| "memory not seen".to_owned(), |b| format!("memory {}", mebibytes(b))),
        ),
    )
}
