//! Outcomes as text.

use std::fmt::Write;

use crate::judge::Comparison;
use crate::outcome::{Outcome, Row, RunOutcome};
use crate::policy::Law;
use crate::scenario::Metric;
use crate::suite::SuiteOutcome;

/// Rows with PASS or the gap, then the goodput curves, then the comparison.
pub fn print(suite: &SuiteOutcome) -> String {
    let mut text = format!("suite {}, seed {}\n\n", suite.name, suite.seed);
    text += &rows(suite.outcomes.iter().flat_map(|outcome| &outcome.rows));
    for outcome in &suite.outcomes {
        text.push('\n');
        text += &curves(outcome);
    }
    text.push('\n');
    text += &comparisons(&suite.comparisons);
    let missed = suite.missed();
    let verdict = if missed == 0 { "PASS".to_owned() } else { format!("{missed} rows missed") };
    text += &format!("\n{verdict}\n");
    text
}

/// One line for each row.
pub fn rows<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let mut lines = vec![["", "", "must be", "was", "", "worst of its runs"].map(str::to_owned)];
    for row in rows {
        let bound = match (row.at_least, row.at_most) {
            (Some(least), _) => format!(">= {}", value(row.metric, Some(least))),
            (None, most) => format!("<= {}", value(row.metric, most)),
        };
        let policy =
            if row.policy == Law::OURS { String::new() } else { format!(" ({})", row.policy.name()) };
        lines.push([
            row.experiment.clone(),
            format!("{}{policy}", row.name),
            bound,
            value(row.metric, row.observed),
            verdict(row),
            format!("{} of {}", row.worst, row.runs),
        ]);
    }
    aligned(&lines)
}

/// `PASS`, or by how much it was missed.
pub fn verdict(row: &Row) -> String {
    if row.pass {
        return "PASS".to_owned();
    }
    let bound = row.at_least.or(row.at_most);
    match row.observed.zip(bound) {
        Some((observed, bound)) => format!("gap {}", value(row.metric, Some((observed - bound).abs()))),
        None => "never".to_owned(),
    }
}

/// A figure with as many digits as matter.
pub fn value(metric: Metric, value: Option<f64>) -> String {
    let Some(value) = value else { return "never".to_owned() };
    match metric {
        Metric::GoodputOverPeak | Metric::GoodputOverCeiling | Metric::JainIndex => format!("{value:.3}"),
        Metric::ExistingSuccess => format!("{:.3} %", 100.0 * value),
        Metric::SeenOverCapacity | Metric::AttemptsPerCall | Metric::ExistingP99OverQuiet => {
            format!("{value:.2}")
        }
        Metric::ExistingRecoveryMs => format!("{value:.0} ms"),
        Metric::ReturnSeconds => format!("{value:.1} s"),
        Metric::RefusedShare => format!("{value:.1e}"),
    }
}

/// The figure by which laws are compared, a column for each law.
pub fn curves(outcome: &Outcome) -> String {
    let mut text = String::new();
    let capacities: Vec<_> = outcome
        .capacities
        .iter()
        .map(|known| {
            format!("{} {:.0}/s at {}", known.service, known.capacity.per_s, known.capacity.limits[1])
        })
        .collect();
    // Writing to a string cannot fail.
    writeln!(text, "{} {} (capacity: {})", outcome.experiment, outcome.scenario, capacities.join(", ")).ok();
    let mut laws: Vec<_> = outcome.runs.iter().map(|run| run.key.policy).collect();
    laws.sort_unstable();
    laws.dedup();
    let mut head = vec![format!("{:?}", outcome.compare)];
    head.extend(laws.iter().map(|law| law.name().to_owned()));
    let mut lines = vec![head];
    let mut done: Vec<&RunOutcome> = Vec::new();
    for run in &outcome.runs {
        if done.iter().any(|other| other.key.same_but_policy(&run.key)) {
            continue;
        }
        done.push(run);
        let mut line = vec![run.key.label()];
        line.extend(laws.iter().map(|law| {
            let of_law =
                outcome.runs.iter().find(|r| r.key.policy == *law && r.key.same_but_policy(&run.key));
            of_law.map_or_else(String::new, |run| value(outcome.compare, brief(outcome.compare, run)))
        }));
        lines.push(line);
    }
    text + &aligned(&lines)
}

/// A figure that needs no other run.
pub fn brief(metric: Metric, run: &RunOutcome) -> Option<f64> {
    let figures = &run.figures;
    match metric {
        Metric::GoodputOverPeak => Some(figures.goodput_over_peak),
        Metric::GoodputOverCeiling => Some(figures.goodput_over_ceiling),
        Metric::SeenOverCapacity => Some(figures.seen_over_capacity),
        Metric::ExistingSuccess => figures.existing_success,
        Metric::ExistingP99OverQuiet | Metric::ExistingRecoveryMs => figures.existing_p99_ms,
        Metric::ReturnSeconds => figures.return_s,
        Metric::AttemptsPerCall => Some(figures.attempts_per_call),
        Metric::JainIndex => figures.jain_index,
        Metric::RefusedShare => Some(figures.refused_share),
    }
}

fn comparisons(comparisons: &[Comparison]) -> String {
    let head = ["against", "scenarios: better", "equal", "worse", "runs: better", "equal", "worse", ""];
    let mut lines = vec![head.map(str::to_owned)];
    for found in comparisons {
        let verdict = match (found.pass, found.runs.worse) {
            (true, _) => "PASS".to_owned(),
            (false, 0) => "not better in most scenarios".to_owned(),
            (false, _) => format!("worse in {}", found.worse_in.join("; ")),
        };
        let (scenarios, runs) = (found.scenarios, found.runs);
        let counts =
            [scenarios.better, scenarios.equal, scenarios.worse, runs.better, runs.equal, runs.worse];
        let [a, b, c, d, e, f] = counts.map(|count| count.to_string());
        lines.push([found.policy.name().to_owned(), a, b, c, d, e, f, verdict]);
    }
    aligned(&lines)
}

/// Columns as wide as their widest cell.
pub(crate) fn aligned<L: AsRef<[String]>>(lines: &[L]) -> String {
    let columns = lines.iter().map(|line| line.as_ref().len()).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.as_ref().get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.as_ref().iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}
