//! How long existing users felt a fault.

use serde::{Deserialize, Serialize};

use crate::events::{Event, EventKind};
use crate::timeline::{OperationRow, Row};

/// Seconds before a fault that say what is usual.
const USUAL_S: u64 = 10;
/// A fault that does no harm within this long has done none.
const HARM_WITHIN_S: u64 = 5;
/// It is over when so many seconds in a row were as before.
const CALM_S: u64 = 3;
/// The share of a second's sends that succeed in it.
const SUCCESS_MIN: f64 = 0.99;

/// What a fault did to one operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    pub at_s: f64,
    pub label: String,
    /// What came of the command.
    pub outcome: String,
    pub usual_p99_ms: Option<f64>,
    /// Slowest second until it was over.
    pub worst_p99_ms: Option<f64>,
    /// From the fault to the end of the last second that was not as before. 0: nobody felt it. `None`: it was not over when the run was.
    pub recovered_after_s: Option<f64>,
    /// Calls that failed, or were refused, until it was over.
    pub failed: u64,
    pub refused: u64,
}

impl Recovery {
    /// Nobody felt it, and the command failed: whether the service would have recovered from it is not known.
    pub fn never_happened(&self) -> bool {
        self.recovered_after_s == Some(0.0) && !matches!(self.outcome.as_str(), "done" | "")
    }

    pub fn in_words(&self) -> String {
        let felt = match self.recovered_after_s {
            Some(0.0) if self.never_happened() => "its command failed, so it shows nothing".to_owned(),
            Some(0.0) => "nobody felt it".to_owned(),
            Some(after) => format!("sends were as before after {after:.1} s"),
            None => "sends were not as before until the end of the run".to_owned(),
        };
        let harm = match (self.failed, self.refused) {
            (0, 0) => String::new(),
            (failed, refused) => format!(", {failed} failed and {refused} were refused meanwhile"),
        };
        let outcome = match self.outcome.as_str() {
            "done" | "" => String::new(),
            other => format!(" (the command: {other})"),
        };
        format!("{felt}{harm}{outcome}")
    }
}

/// The recovery of `operation` after each fault. A second is as before while 99 % succeed and p99 is at most twice the
/// usual one plus 50 ms, as the gate on existing users has it.
pub fn recoveries(events: &[Event], rows: &[Row], operation: &str) -> Vec<Recovery> {
    let faults: Vec<_> = events.iter().filter(|event| event.kind == EventKind::Fault).collect();
    let until = |index: usize| faults.get(index + 1).map_or(f64::MAX, |next| next.at_s);
    faults.iter().enumerate().map(|(index, fault)| recovery(fault, rows, operation, until(index))).collect()
}

fn recovery(fault: &Event, rows: &[Row], operation: &str, until_s: f64) -> Recovery {
    let at = fault.at_s as u64;
    let usual_p99_ms = usual(rows, operation, at);
    let limit = usual_p99_ms.map(|usual| 2.0 * usual + 50.0);
    let mut recovery = Recovery {
        at_s: fault.at_s,
        label: fault.label.clone(),
        outcome: fault.outcome.clone(),
        usual_p99_ms,
        ..Recovery::default()
    };
    let (mut last_bad, mut calm, mut over) = (None, 0, false);
    // Until nobody is sent for any more, or something else is done.
    let offered = |row: &Row| row.operations.get(operation).is_some_and(|seen| seen.offered > 0);
    let last = rows.iter().rev().find(|row| offered(row)).map_or(0, |row| row.second);
    for second in at..=last {
        if second as f64 >= until_s {
            break;
        }
        let row = rows.iter().find(|row| row.second == second);
        let seen = row.and_then(|row| row.operations.get(operation));
        let counted = seen.cloned().unwrap_or_default();
        recovery.failed += counted.failed;
        recovery.refused += counted.refused;
        if as_before(seen, limit) {
            calm += 1;
            let begun = last_bad.is_some() || second >= at + HARM_WITHIN_S;
            if calm >= CALM_S && begun {
                over = true;
                break;
            }
        } else {
            (calm, last_bad) = (0, Some(second));
            recovery.worst_p99_ms =
                recovery.worst_p99_ms.into_iter().chain(counted.response_p99_ms).reduce(f64::max);
        }
    }
    recovery.recovered_after_s = match last_bad {
        None => Some(0.0),
        Some(second) if over || calm > 0 => Some((second + 1) as f64 - fault.at_s),
        Some(_) => None,
    };
    recovery
}

/// The median of the p99 of the seconds before.
fn usual(rows: &[Row], operation: &str, at: u64) -> Option<f64> {
    let before = rows.iter().filter(|row| row.second + USUAL_S >= at && row.second < at);
    let mut p99: Vec<_> = before.filter_map(|row| row.operations.get(operation)?.response_p99_ms).collect();
    p99.sort_by(f64::total_cmp);
    p99.get(p99.len() / 2).copied()
}

/// A second in which work was offered and nothing came back was not as before.
fn as_before(seen: Option<&OperationRow>, limit: Option<f64>) -> bool {
    let Some(seen) = seen else { return false };
    let answered = seen.ok + seen.failed + seen.refused;
    let enough = answered > 0 && seen.ok as f64 >= SUCCESS_MIN * answered as f64;
    enough && seen.response_p99_ms.zip(limit).is_none_or(|(p99, limit)| p99 <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row a second: how many succeeded of ten, and the p99.
    fn rows(seconds: &[(u64, f64)]) -> Vec<Row> {
        let row = |(at, (ok, p99)): (usize, &(u64, f64))| {
            let seen = OperationRow {
                offered: 10,
                ok: *ok,
                failed: 10 - ok,
                response_p99_ms: Some(*p99),
                ..OperationRow::default()
            };
            Row { second: at as u64, operations: [("send".to_owned(), seen)].into(), ..Row::default() }
        };
        seconds.iter().enumerate().map(row).collect()
    }

    fn fault(at_s: f64) -> Event {
        Event {
            at_s,
            kind: EventKind::Fault,
            label: "kill".to_owned(),
            took_s: None,
            outcome: "done".to_owned(),
        }
    }

    #[test]
    fn recovery_is_counted_to_the_last_bad_second() {
        let good = (10, 5.0);
        let seconds =
            [good, good, good, good, (0, 900.0), (4, 2_000.0), good, (10, 80.0), good, good, good, good];
        let seen = recoveries(&[fault(3.5)], &rows(&seconds), "send");
        assert_eq!(seen[0].recovered_after_s, Some(4.5), "80 ms are more than 2 × 5 + 50");
        assert_eq!(
            (seen[0].failed, seen[0].worst_p99_ms, seen[0].usual_p99_ms),
            (16, Some(2_000.0), Some(5.0))
        );
    }

    #[test]
    fn what_nobody_felt_took_no_time_and_what_does_not_end_has_none() {
        let good = (10, 5.0);
        assert_eq!(recoveries(&[fault(3.0)], &rows(&[good; 20]), "send")[0].recovered_after_s, Some(0.0));
        let ends_badly = [vec![good; 5], vec![(0, 900.0); 5]].concat();
        assert_eq!(recoveries(&[fault(5.0)], &rows(&ends_badly), "send")[0].recovered_after_s, None);
        // A second without any answer is the worst.
        let mut silent = rows(&[good; 12]);
        silent.retain(|row| !(5..8).contains(&row.second));
        assert_eq!(recoveries(&[fault(5.0)], &silent, "send")[0].recovered_after_s, Some(3.0));
    }

    #[test]
    fn harm_after_the_next_fault_is_the_next_one_s() {
        let good = (10, 5.0);
        let seconds = [vec![good; 10], vec![(0, 9.0); 2], vec![good; 8]].concat();
        let seen = recoveries(&[fault(2.0), fault(10.0)], &rows(&seconds), "send");
        assert_eq!(seen[0].recovered_after_s, Some(0.0));
        assert_eq!(seen[1].recovered_after_s, Some(2.0));
    }

    #[test]
    fn a_command_that_failed_and_that_nobody_felt_shows_nothing() {
        let of = |outcome: &str, recovered_after_s| Recovery {
            outcome: outcome.to_owned(),
            recovered_after_s,
            ..Recovery::default()
        };
        let failed = of("exit status: 2: no such process", Some(0.0));
        assert!(failed.never_happened() && failed.in_words().starts_with("its command failed"));
        assert!(!of("done", Some(0.0)).never_happened());
        // It did something before it failed.
        assert!(
            !of("exit status: 1: ", Some(3.0)).never_happened()
                && !of("exit status: 1: ", None).never_happened()
        );
    }
}
