//! Who played a run, where several did.

use super::text::{count, escape, maybe_millis, number};
use crate::summary::{Summary, WorkerSummary};

const NOTE: &str = "Each planned all of the run and offered its own part; what they recorded was added up without loss, so percentiles are those of all \
    samples. The clock is what was added to the machine's own, known to half of the round trip. Lag is how late a worker sent.";

/// Nothing where one process played it.
pub(super) fn section(summary: &Summary) -> String {
    if summary.workers.is_empty() {
        return String::new();
    }
    let head: String =
        ["worker", "machine", "cores", "share", "people", "operations", "lag p99", "clock", "round trip", ""]
            .map(|name| format!("<th>{name}</th>"))
            .concat();
    let rows: String = summary.workers.iter().map(row).collect();
    let table = format!(
        "<div class=\"wide\"><table class=\"latency\"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    );
    super::section("Workers", NOTE, &table)
}

fn row(worker: &WorkerSummary) -> String {
    let (from, to) = worker.users;
    let people = if to > from { format!("{from}–{}", to - 1) } else { "–".to_owned() };
    let cells = [
        count(u64::from(worker.cores)),
        escape(&worker.share),
        people,
        count(worker.offered),
        maybe_millis(worker.lag_p99_ms),
        signed_ms(worker.clock_offset_ms),
        format!("{} ms", number(worker.round_trip_ms)),
        worker.lost_at_s.map_or_else(String::new, |second| format!("lost at {second} s")),
    ];
    let cells = cells.map(|cell| format!("<td class=\"n\">{cell}</td>")).concat();
    format!("<tr><td>{}</td><td>{}</td>{cells}</tr>", worker.number, escape(&worker.host))
}

fn signed_ms(ms: f64) -> String {
    format!("{}{} ms", if ms < 0.0 { "-" } else { "+" }, number(ms.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn each_worker_has_a_row_with_its_part_and_its_clock() {
        let (mut summary, rows) = example::run();
        assert!(section(&summary).is_empty(), "one process has no workers");
        let worker = WorkerSummary {
            number: 2,
            host: "load<2>".to_owned(),
            share: "1/4".to_owned(),
            users: (75, 150),
            clock_offset_ms: -3.5,
            lost_at_s: Some(12),
            ..WorkerSummary::default()
        };
        summary.workers = vec![worker];
        let page = super::super::render(&summary, &rows);
        for said in ["<h2>Workers</h2>", "load&lt;2&gt;", "1/4", "75–149", "-3.5 ms", "lost at 12 s"] {
            assert!(page.contains(said), "{said}");
        }
    }
}
