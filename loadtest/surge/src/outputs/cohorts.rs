//! Who did not behave and what they did to the others, in the terminal and on pull requests.

use crate::harm::Harm;
use crate::report::text::{count, maybe_millis, number, percent};
use crate::summary::{CohortSummary, Summary};

const COLUMNS: [&str; 10] =
    ["cohort", "people", "wanted", "attempts", "×", "ok", "refused", "failed", "ok/s", "p99"];

/// Of one cohort, as people read it.
fn cells(cohort: &CohortSummary) -> [String; 10] {
    [
        cohort.name.clone(),
        count(cohort.people),
        count(cohort.first_attempts),
        count(cohort.attempts),
        maybe(cohort.amplification),
        count(cohort.ok),
        count(cohort.refused),
        count(cohort.failed),
        maybe(cohort.goodput_per_s),
        maybe_millis(cohort.p99_ms),
    ]
}

fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), number)
}

/// With its sign: `+3.1 ms`.
pub(crate) fn signed_ms(ms: Option<f64>) -> String {
    match ms {
        Some(ms) => format!("{}{}", if ms < 0.0 { "-" } else { "+" }, maybe_millis(Some(ms.abs()))),
        None => "not measured".to_owned(),
    }
}

/// Nothing where everybody is polite.
pub(crate) fn print(summary: &Summary) {
    if summary.cohorts.is_empty() {
        return;
    }
    println!();
    for line in table(&summary.cohorts) {
        println!("  {line}");
    }
    for sentence in sentences(summary) {
        println!("  {sentence}");
    }
    println!();
}

/// Columns as wide as they must be.
fn table(cohorts: &[CohortSummary]) -> Vec<String> {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(cohorts.iter().map(cells));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
    let line = |row: &[String; 10]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect()
}

/// What is not in the table.
pub(crate) fn sentences(summary: &Summary) -> Vec<String> {
    let mut sentences = Vec::new();
    for cohort in summary.cohorts.iter().filter(|cohort| cohort.withheld > 0) {
        sentences.push(format!(
            "{} messages are still with the service for {} who did not take them ({}); they are not lost.",
            count(cohort.withheld),
            count(cohort.people),
            cohort.name
        ));
    }
    if summary.ledger.repeated > 0 {
        sentences.push(format!(
            "{} copies arrived that their senders had sent under ids of their own; they are no duplicates.",
            count(summary.ledger.repeated)
        ));
    }
    sentences.extend(summary.harm.iter().flat_map(harm));
    sentences
}

fn harm(harm: &Harm) -> [String; 2] {
    let (alone, together) = (&harm.alone, &harm.together);
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "not measured".to_owned(), percent);
    [
        format!(
            "harm to the polite: p99 of their sends {} with the rude, {} without: {}. In the calm before, without anybody rude: {} and {}: {}.",
            maybe_millis(together.p99_ms),
            maybe_millis(alone.p99_ms),
            signed_ms(harm.p99_ms),
            maybe_millis(together.calm_p99_ms),
            maybe_millis(alone.calm_p99_ms),
            signed_ms(harm.calm_p99_ms),
        ),
        format!(
            "of {} polite sends {} succeeded with the rude, of {} without {}; arrival p99 {} and {}. Without: {}",
            count(together.sends),
            ratio(together.success_ratio),
            count(alone.sends),
            ratio(alone.success_ratio),
            maybe_millis(together.deliver_p99_ms),
            maybe_millis(alone.deliver_p99_ms),
            harm.folder,
        ),
    ]
}

pub(super) fn markdown(summary: &Summary) -> String {
    if summary.cohorts.is_empty() {
        return String::new();
    }
    let mut text = format!("\n| {} |\n|---|{}\n", COLUMNS.join(" | "), "--:|".repeat(COLUMNS.len() - 1));
    for cohort in &summary.cohorts {
        text += &format!("| {} |\n", cells(cohort).join(" | "));
    }
    for sentence in sentences(summary) {
        text += &format!("\n{sentence}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harm::Seen;
    use crate::report::example;

    #[test]
    fn the_table_lines_up_and_harm_is_told_with_both_figures() {
        let (mut summary, _) = example::run();
        assert!(markdown(&summary).is_empty() && sentences(&summary).is_empty());
        let cohort = |name: &str, attempts| CohortSummary {
            name: name.to_owned(),
            people: 15,
            first_attempts: 300,
            attempts,
            amplification: Some(attempts as f64 / 300.0),
            withheld: 7,
            ..CohortSummary::default()
        };
        summary.cohorts = vec![cohort("polite", 300), cohort("hot-loop", 30_000)];
        let lines = table(&summary.cohorts);
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{lines:?}");
        assert!(lines[2].starts_with("hot-loop") && lines[2].contains("30,000") && lines[2].contains("100"));
        let seen = |p99| Seen { p99_ms: Some(p99), calm_p99_ms: Some(4.0), ..Seen::default() };
        summary.harm = Some(Harm::between("folder".to_owned(), seen(5.0), seen(12.5)));
        let text = markdown(&summary);
        assert!(text.contains("12.5 ms with the rude, 5 ms without: +7.5 ms"), "{text}");
        assert!(
            text.contains("7 messages are still with the service for 15 who did not take them (hot-loop)")
        );
        summary.harm = Some(Harm::between("folder".to_owned(), seen(5.0), seen(4.0)));
        assert!(markdown(&summary).contains("-1 ms"));
    }
}
