//! The report of a run: one HTML file that needs no network, for people who were not there.
//!
//! It is drawn from the summary and the rows alone, so an old run folder can be rendered again. Plots are SVG that
//! stretches with the page while their text is HTML that does not, so it stays readable on a telephone.

mod axis;
mod chart;
mod charts;
mod cohorts;
mod faults;
mod header;
mod room;
mod scale;
mod scatter;
mod simulation;
mod tables;
pub(crate) mod text;
mod workers;

#[cfg(test)]
pub(crate) mod example;

use crate::summary::Summary;
use crate::timeline::Row;
use text::escape;

const STYLE: &str = include_str!("report/style.css");
const HOVER: &str = include_str!("report/hover.js");

pub use room::render as render_room;
pub use simulation::render as render_simulation;

/// The whole page.
pub fn render(summary: &Summary, rows: &[Row]) -> String {
    let title = escape(&format!("{} · surge {}", summary.headline, summary.profile));
    let body = [
        header::verdict(summary),
        header::key_figures(summary),
        section("Gates", "What had to hold, and what was seen.", &tables::gate_table(&summary.gates)),
        charts::sign_ups(summary, rows),
        charts::waiting_room(summary, rows),
        charts::existing_users(summary, rows),
        cohorts::section(summary),
        charts::against_load(rows),
        faults::faults(summary),
        charts::sign_up_response(summary, rows),
        section("Refusals and failures", tables::REASONS_NOTE, &tables::reasons(summary)),
        faults::amplification(summary),
        section("Message ledger", tables::LEDGER_NOTE, &tables::ledger(summary)),
        section("Latency by operation", tables::LATENCY_NOTE, &tables::latency(summary)),
        charts::server(summary, rows),
        charts::generator(summary, rows),
        workers::section(summary),
        section(
            "How to repeat it",
            "The same seed and configuration offer the same load.",
            &tables::repeat(summary),
        ),
    ]
    .concat();
    page(&title, &body)
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><main>{body}</main>\n<script>{HOVER}</script></body></html>\n"
    )
}

fn section(title: &str, note: &str, body: &str) -> String {
    format!("<section><h2>{}</h2><p class=\"note\">{}</p>{body}</section>\n", escape(title), escape(note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::{ExitCode, Verdict};

    /// Set `SURGE_EXAMPLE_REPORT` to a path to look at the page in a browser.
    #[test]
    fn the_page_stands_alone_and_is_small() {
        let (summary, rows) = example::run();
        let page = render(&summary, &rows);
        if let Some(path) = std::env::var_os("SURGE_EXAMPLE_REPORT") {
            std::fs::write(path, &page).unwrap();
        }
        assert!(page.len() < 2_000_000, "{}", page.len());
        for outside in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("<h1>Existing users did not notice.</h1>"));
        assert!(page.contains(">15 Jan<"));
        assert!(page.contains("<h2>Faults</h2>") && page.contains("class=\"fault\""));
        assert!(page.contains("<h2>Latency against load</h2>") && page.contains("class=\"dot\""));
        assert!(page.contains("<h2>Waiting room</h2>") && page.contains("still wait, with a place"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn a_day_of_seconds_still_fits() {
        let (summary, rows) = example::run();
        let days = rows.iter().cycle().take(86_400).zip(0..);
        let day: Vec<_> = days.map(|(row, second)| Row { second, ..row.clone() }).collect();
        let page = render(&summary, &day);
        assert!(page.len() < 2_000_000, "{}", page.len());
    }

    #[test]
    fn a_run_that_measured_nothing_still_has_a_page() {
        let (mut summary, _) = example::run();
        summary.verdict = Verdict::Interrupted;
        summary.exit_code = ExitCode::Interrupted;
        summary.operations.clear();
        summary.room = Some(Default::default());
        summary.codes = Default::default();
        summary.existing = Default::default();
        summary.server = Default::default();
        summary.generator = Default::default();
        summary.duration_s = 0.0;
        let page = render(&summary, &[]);
        assert!(page.contains("INTERRUPTED") && !page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn a_run_without_a_room_has_no_page_of_it() {
        let (mut summary, rows) = example::run();
        summary.room = None;
        assert!(!render(&summary, &rows).contains("<h2>Waiting room</h2>"));
    }

    #[test]
    fn names_from_outside_cannot_become_markup() {
        let (mut summary, rows) = example::run();
        summary.profile = "<script>alert(1)</script>".to_owned();
        summary.configuration.insert("target".to_owned(), "<b>&\"".to_owned());
        let page = render(&summary, &rows);
        assert!(!page.contains("<script>alert") && !page.contains("<b>&"));
    }
}
