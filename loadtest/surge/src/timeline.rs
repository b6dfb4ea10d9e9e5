//! The run, second by second: the rows of `timeseries.ndjson` and of the report's charts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::observe::{HostSample, ProcessSample};
use crate::stats::{Operation, Second};

/// One second of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Since the start of the run.
    pub second: u64,
    pub phase: String,
    /// The recorded hour that is being replayed, such as `2021-01-15T15:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<String>,
    /// Sign-ups that the curve plans for this second.
    pub planned_sign_ups: f64,
    pub operations: BTreeMap<String, OperationRow>,
    /// Where people had to come through the waiting room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomRow>,
    /// Codes that had been sent by the end of this second.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub codes: u64,
    /// Counts of the ledger at the end of this second.
    pub acked: u64,
    pub delivered: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ProcessSample>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<ProcessSample>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostSample>,
}

/// The waiting room in one second, as people saw it, and what the service said of it where that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoomRow {
    /// Got a place.
    pub entered: u64,
    /// Whose turn came.
    pub turns: u64,
    /// At the end of the second.
    pub waiting: u64,
    /// Of those whose turn came: the middle of the first range they were told, and what they waited from then, on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_s: Option<f64>,
    /// What the service means to let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// Nobody is let in, so that existing users are served.
    #[serde(default)]
    pub frozen: bool,
}

/// One operation in one second: offered counts by planned time, everything else by the time it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OperationRow {
    pub offered: u64,
    pub ok: u64,
    pub refused: u64,
    pub failed: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waiting: u64,
    pub response_p50_ms: Option<f64>,
    pub response_p99_ms: Option<f64>,
    pub lag_p99_ms: Option<f64>,
}

const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Rows in order of time. Kept whole until the end of the run, because what is late is added to its own second;
/// an hour takes a few megabytes.
#[derive(Clone, Debug, Default)]
pub struct Timeline(BTreeMap<u64, Row>);

impl Timeline {
    /// The row of a second, made when it is not there.
    pub fn row(&mut self, second: u64) -> &mut Row {
        self.0.entry(second).or_insert_with(|| Row { second, ..Row::default() })
    }

    /// Adds what [`Stats::collect`](crate::stats::Stats::collect) returned.
    pub fn absorb(&mut self, collected: BTreeMap<(u64, Operation), Second>) {
        for ((second, operation), figures) in collected {
            let row = self.row(second).operations.entry(operation.0.to_owned()).or_default();
            row.offered += figures.offered;
            row.ok += figures.ok;
            row.refused += figures.refused;
            row.failed += figures.failed;
            row.waiting += figures.waiting;
            row.response_p50_ms = figures.response.quantile_ms(0.5).or(row.response_p50_ms);
            row.response_p99_ms = figures.response.quantile_ms(0.99).or(row.response_p99_ms);
            row.lag_p99_ms = figures.lag.quantile_ms(0.99).or(row.lag_p99_ms);
        }
    }

    /// The newest second that is over, for live progress.
    pub fn last(&self) -> Option<&Row> {
        self.0.values().next_back()
    }

    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.0.values()
    }

    pub fn into_rows(self) -> Vec<Row> {
        self.0.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_late_is_added_to_its_own_second() {
        let send = Operation("send");
        let mut second = Second { offered: 5, ok: 4, ..Second::default() };
        second.response.record(Duration::from_millis(8));
        let mut timeline = Timeline::default();
        timeline.absorb(BTreeMap::from([((3, send), second)]));
        timeline.absorb(BTreeMap::from([((3, send), Second { offered: 2, ..Second::default() })]));
        let row = &timeline.row(3).operations["send"];
        assert_eq!((row.offered, row.ok), (7, 4));
        assert!((row.response_p50_ms.unwrap() - 8.0).abs() < 0.01);
    }
}
