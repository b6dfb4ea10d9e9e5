//! A run as a comment on a pull request.

use super::cohorts;
use crate::report::text::{count, maybe_millis, number, percent};
use crate::slo::{GateResult, Unit, Verdict};
use crate::summary::{Summary, WorkerSummary};

pub(crate) fn render(summary: &Summary) -> String {
    let word = match summary.verdict {
        Verdict::Pass => "PASS",
        Verdict::Fail => "FAIL",
        Verdict::Invalid => "INVALID",
        Verdict::Interrupted => "INTERRUPTED",
    };
    let mut text = format!(
        "## surge {}: {word}\n\n{}\n\n| | gate | wanted | seen |\n|---|---|---|---|\n",
        escape(&summary.profile),
        escape(&summary.headline)
    );
    for gate in &summary.gates {
        text += &format!(
            "| {} | `{}`<br>{} | {} {} | {} |\n",
            if gate.pass { "ok" } else { "**missed**" },
            escape(&gate.figure),
            escape(&gate.means),
            gate.comparison.sign(),
            value(gate, gate.threshold),
            value(gate, gate.observed)
        );
    }
    text += "\n| operation | offered | ok | refused | failed | p50 | p99 | p99.9 | service p99 |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for (name, figures) in &summary.operations {
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
            escape(name),
            count(figures.offered),
            count(figures.ok),
            count(figures.refused),
            count(figures.failed),
            maybe_millis(figures.response_ms.p50),
            maybe_millis(figures.response_ms.p99),
            maybe_millis(figures.response_ms.p999),
            maybe_millis(figures.service_ms.p99)
        );
    }
    text += &cohorts::markdown(summary);
    let ledger = &summary.ledger;
    text += &format!(
        "\n{} messages acknowledged, {} delivered, {} lost, {} duplicated, {} reordered.\n",
        count(ledger.acked),
        count(ledger.delivered),
        count(ledger.lost),
        count(ledger.duplicated),
        count(ledger.reordered)
    );
    for worker in &summary.workers {
        text += &format!("\n{}.\n", escape(&in_words(worker)));
    }
    for fault in &summary.faults {
        text += &format!("\n`{}` at {} s: {}.\n", escape(&fault.label), number(fault.at_s), fault.in_words());
    }
    text += &format!(
        "\nSeed {}, {} s, {}. Exit status {}.\n",
        summary.seed,
        number(summary.duration_s),
        summary.versions.git_commit.as_deref().unwrap_or("unknown commit"),
        u8::from(summary.exit_code)
    );
    text
}

/// One of those who played the run, in a line.
pub(crate) fn in_words(worker: &WorkerSummary) -> String {
    let lost = worker.lost_at_s.map_or_else(String::new, |second| format!(", lost at {second} s"));
    format!(
        "worker {} on {}: {} of the load, {} operations, lag p99 {}, clock {:+.3} ms{lost}",
        worker.number,
        worker.host,
        worker.share,
        count(worker.offered),
        maybe_millis(worker.lag_p99_ms),
        worker.clock_offset_ms
    )
}

/// A figure of a gate as people read it.
pub(crate) fn value(gate: &GateResult, value: Option<f64>) -> String {
    let Some(value) = value else { return "not measured".to_owned() };
    match gate.unit() {
        _ if value.is_infinite() => "no end".to_owned(),
        Unit::Ms => maybe_millis(Some(value)),
        Unit::Us => format!("{} µs", number(value)),
        Unit::Ratio => percent(value),
        Unit::PerSecond => format!("{}/s", number(value)),
        Unit::Bytes => format!("{} KiB", number(value / 1_024.0)),
        Unit::Count => number(value),
    }
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_reader_of_the_pull_request_sees_the_verdict_and_what_was_missed() {
        let (mut summary, _) = example::run();
        summary.gates[1].pass = false;
        summary.gates[1].means = "a | b".to_owned();
        let text = render(&summary);
        assert!(text.starts_with("## surge signal-2021: PASS\n"));
        assert_eq!(text.matches("**missed**").count(), 1);
        assert!(text.contains("a \\| b"));
        let cells =
            text.lines().find(|line| line.starts_with("| existing_send")).unwrap().matches('|').count();
        assert_eq!(cells, 10);
    }
}
