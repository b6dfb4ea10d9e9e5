//! The result, for people.

use std::time::Duration;

use super::footprint::Footprint;

/// One case and what came of it.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub(super) figures: Figures,
    /// Why it failed; empty when it passed.
    pub problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) acked: u64,
    /// Sends that their senders gave up, after retries.
    pub(super) failed: u64,
    /// Acknowledged, and not delivered at all.
    pub(super) lost: u64,
    /// Acknowledged, and not delivered in time to a device that was online.
    pub(super) late: u64,
    /// After the client's de-duplication.
    pub(super) duplicates: u64,
    pub(super) bad_seconds: u64,
    /// The slowest, when there was more than one fault.
    pub(super) recovery: Duration,
    pub(super) before: Footprint,
    pub(super) after: Footprint,
}

impl Row {
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }

    /// As in the table.
    pub fn line(&self) -> String {
        let figures = &self.figures;
        let (before, after) = (figures.before, figures.after);
        format!(
            "{:<40} {:>7} {:>6} {:>5} {:>5} {:>5} {:>6} {:>9.1} {:>11} {:>13}  {}",
            self.name,
            figures.acked,
            figures.failed,
            figures.lost,
            figures.late,
            figures.duplicates,
            figures.bad_seconds,
            figures.recovery.as_secs_f64(),
            format!("{}>{}", before.resident_bytes >> 20, after.resident_bytes >> 20),
            format!("{}>{}", before.subscriptions, after.subscriptions),
            if self.passed() { "PASS" } else { "FAIL" }
        )
    }
}

/// Prints a table with a line for each case, and below it what failed.
pub fn print(rows: &[Row]) {
    println!(
        "\n{:<40} {:>7} {:>6} {:>5} {:>5} {:>5} {:>6} {:>9} {:>11} {:>13}  verdict",
        "case", "acked", "failed", "lost", "late", "twice", "bad s", "recovery", "memory MB", "subscribed"
    );
    for row in rows {
        println!("{}", row.line());
    }
    for row in rows {
        for problem in &row.problems {
            println!("{}: {problem}", row.name);
        }
    }
}
