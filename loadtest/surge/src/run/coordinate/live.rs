//! What the workers have told so far, for whoever watches.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Coordinator;
use super::watching::Watching;
use crate::gates::Watch;
use crate::progress::Snapshot;
use crate::recording::{Figures, Interval};
use crate::run::recorder::{curve_of, phase};
use crate::run::{BEFORE, Plan, what_is_played};
use crate::stats::Latency;
use crate::summary::{EXISTING_SEND, SIGN_UP};
use crate::timeline::{OperationRow, Row};

/// Seconds that are kept one by one: who is further behind than that is shown without rates.
const KEPT_S: u64 = 30;

/// Counts of the whole run, and of its last seconds.
#[derive(Debug, Default)]
pub(super) struct Live {
    all: BTreeMap<String, Figures>,
    /// By second and operation.
    last: BTreeMap<u64, BTreeMap<String, OperationRow>>,
    /// Of existing users' sends: of each second, and in the calm.
    responses: BTreeMap<u64, Latency>,
    calm: Latency,
    replayed: BTreeMap<u64, String>,
}

impl Live {
    /// Adds what one worker told. `phase` is that of a second.
    pub(super) fn add(&mut self, rows: &[Row], intervals: &[Interval], phase: impl Fn(u64) -> &'static str) {
        for row in rows {
            if let Some(replayed) = &row.replayed {
                self.replayed.insert(row.second, replayed.clone());
            }
            for (operation, figures) in &row.operations {
                self.all.entry(operation.clone()).or_default().add_row(figures);
                let second = self.last.entry(row.second).or_default();
                second.entry(operation.clone()).or_default().add(figures.clone());
            }
        }
        let of_sends = format!("{}.response", EXISTING_SEND.0);
        for (second, _, latency) in intervals.iter().filter(|(_, tag, _)| *tag == of_sends) {
            self.responses.entry(*second).or_default().add(latency);
            if phase(*second) == BEFORE {
                self.calm.add(latency);
            }
        }
        let newest = self.last.keys().next_back().copied().unwrap_or(0);
        let from = newest.saturating_sub(KEPT_S);
        self.last = self.last.split_off(&from);
        self.responses = self.responses.split_off(&from);
        self.replayed = self.replayed.split_off(&from);
    }

    /// What is known at the end of a second, of which everybody has told.
    pub(super) fn at(&self, second: u64) -> Snapshot {
        let of = |operation: &str| self.last.get(&second).and_then(|row| row.get(operation));
        let whole = |operation: &str| self.all.get(operation).cloned().unwrap_or_default();
        let (sign_up, send) = (whole(SIGN_UP.0), whole(EXISTING_SEND.0));
        let response = self.responses.get(&second).cloned().unwrap_or_default();
        Snapshot {
            replayed: self.replayed.get(&second).cloned(),
            offered_per_s: of(SIGN_UP.0).map_or(0.0, |row| row.offered as f64),
            completed_per_s: of(SIGN_UP.0).map_or(0.0, |row| row.ok as f64),
            sends_offered_per_s: of(EXISTING_SEND.0).map_or(0.0, |row| row.offered as f64),
            sends_per_s: of(EXISTING_SEND.0).map_or(0.0, |row| row.ok as f64),
            refused: sign_up.refused + send.refused,
            failed: sign_up.failed + send.failed,
            sign_ups_in_flight: in_flight(&sign_up),
            sends_in_flight: in_flight(&send),
            existing_p50_ms: response.quantile_ms(0.5),
            existing_p99_ms: response.quantile_ms(0.99),
            existing_p999_ms: response.quantile_ms(0.999),
            existing_p99_before_ms: self.calm.quantile_ms(0.99),
            existing_success_ratio: send.served_ratio(),
            ..Snapshot::default()
        }
    }
}

fn in_flight(figures: &Figures) -> u64 {
    figures.offered.saturating_sub(figures.ok + figures.refused + figures.failed + figures.waiting)
}

impl Coordinator {
    pub(super) fn snapshot(&self, plan: &Plan, watching: &Watching) -> Snapshot {
        let elapsed = Instant::now().saturating_duration_since(watching.started);
        let counts = self.staff.counts();
        let lags = self.staff.here().filter_map(|worker| worker.progressed.lag_p99_ms);
        Snapshot {
            profile: what_is_played(&self.run.options),
            phase: phase(&watching.phases, elapsed).to_owned(),
            elapsed,
            planned: watching.planned,
            curve: curve_of(plan, watching.planned, self.run.options.calm),
            codes: self.run.world.phones.arrived(),
            code_cost: self.run.options.code_cost,
            acked: counts.acked,
            delivered: counts.delivered,
            on_their_way: counts.lost,
            duplicated: counts.duplicated,
            // The worst of them: who is late is late alone.
            lag_p99_ms: lags.reduce(f64::max),
            gates: watching.watches.iter().map(Watch::now).collect(),
            ..watching.live.at(self.staff.seconds().saturating_sub(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::run::SURGE;

    fn told(second: u64, operation: &str, offered: u64, ok: u64, failed: u64) -> Row {
        let row = OperationRow { offered, ok, failed, ..OperationRow::default() };
        Row { second, operations: [(operation.to_owned(), row)].into(), ..Row::default() }
    }

    fn took(second: u64, ms: u64) -> Interval {
        let mut latency = Latency::default();
        latency.record(Duration::from_millis(ms));
        (second, format!("{}.response", EXISTING_SEND.0), latency)
    }

    fn phase(second: u64) -> &'static str {
        if second < 2 { BEFORE } else { SURGE }
    }

    #[test]
    fn rates_are_of_one_second_and_of_all_workers_and_counts_of_the_whole_run() {
        let mut live = Live::default();
        live.add(&[told(1, "existing_send", 20, 20, 0)], &[took(1, 5)], phase);
        // Two workers, one of which comes later, and a line about what was late.
        live.add(&[told(5, "existing_send", 50, 40, 0), told(5, "sign_up", 10, 0, 0)], &[took(5, 8)], phase);
        live.add(&[told(5, "existing_send", 30, 25, 2), told(5, "sign_up", 6, 0, 0)], &[took(5, 80)], phase);
        live.add(&[told(5, "existing_send", 0, 3, 0)], &[], phase);
        let now = live.at(5);
        assert_eq!((now.sends_offered_per_s, now.sends_per_s), (80.0, 68.0));
        assert_eq!((now.offered_per_s, now.sign_ups_in_flight), (16.0, 16));
        assert_eq!((now.failed, now.sends_in_flight), (2, 100 - 88 - 2));
        assert!((now.existing_p99_ms.unwrap() - 80.0).abs() < 0.1, "of both: {now:?}");
        assert!((now.existing_p99_before_ms.unwrap() - 5.0).abs() < 0.1);
        assert_eq!(live.at(3).sends_per_s, 0.0, "nobody has told of that one");
        // It does not grow with the run.
        (6..500).for_each(|second| {
            live.add(&[told(second, "existing_send", 1, 1, 0)], &[took(second, 1)], phase)
        });
        assert!(live.last.len() <= KEPT_S as usize + 1 && live.responses.len() <= KEPT_S as usize + 1);
        assert_eq!(live.at(499).sends_in_flight, 10);
    }
}
