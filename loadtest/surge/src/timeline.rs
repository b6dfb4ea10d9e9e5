//! The run, second by second: the rows of `timeseries.ndjson` and of the report's charts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::observe::{HostSample, Observed, ProcessSample};
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
    /// Arrivals that were left out because too many were under way (`--on-overflow shed`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// Where somebody is rude: what was asked for in this second, by cohort.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cohorts: BTreeMap<String, CohortRow>,
    /// Codes that had been sent by the end of this second.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub codes: u64,
    /// Counts of the ledger at the end of this second.
    pub acked: u64,
    pub delivered: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ProcessSample>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
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

/// What a cohort asked for in one second. Differences, so that seconds, and load tools beside each other, add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CohortRow {
    /// Things that were wanted.
    pub wanted: u64,
    /// How often they were asked for.
    pub attempts: u64,
    /// In the last second only: messages that were acknowledged for its members and that they did not take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub withheld: u64,
}

impl CohortRow {
    pub(crate) fn add(&mut self, other: Self) {
        self.wanted += other.wanted;
        self.attempts += other.attempts;
        self.withheld += other.withheld;
    }

    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl RoomRow {
    /// With the people of another load tool, who stood in the same room. Times are those of more people.
    pub(crate) fn beside(self, other: Self) -> Self {
        let more = if self.turns >= other.turns { self } else { other };
        Self {
            entered: self.entered + other.entered,
            turns: self.turns + other.turns,
            waiting: self.waiting + other.waiting,
            told_s: more.told_s.or(self.told_s).or(other.told_s),
            waited_s: more.waited_s.or(self.waited_s).or(other.waited_s),
            rate_per_s: self.rate_per_s.or(other.rate_per_s),
            frozen: self.frozen || other.frozen,
        }
    }
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
    /// Why operations were refused or failed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u64>,
    pub response_p50_ms: Option<f64>,
    pub response_p99_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_p999_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_p99_ms: Option<f64>,
    pub lag_p99_ms: Option<f64>,
}

impl OperationRow {
    /// Later percentiles stand for both: what is late is a handful, and the histograms have all of it.
    pub(crate) fn add(&mut self, other: Self) {
        self.offered += other.offered;
        self.ok += other.ok;
        self.refused += other.refused;
        self.failed += other.failed;
        self.waiting += other.waiting;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        self.response_p50_ms = other.response_p50_ms.or(self.response_p50_ms);
        self.response_p99_ms = other.response_p99_ms.or(self.response_p99_ms);
        self.response_p999_ms = other.response_p999_ms.or(self.response_p999_ms);
        self.service_p99_ms = other.service_p99_ms.or(self.service_p99_ms);
        self.lag_p99_ms = other.lag_p99_ms.or(self.lag_p99_ms);
    }
}

impl From<&Second> for OperationRow {
    fn from(second: &Second) -> Self {
        let reasons = second.reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count));
        Self {
            offered: second.offered,
            ok: second.ok,
            refused: second.refused,
            failed: second.failed,
            waiting: second.waiting,
            reasons: reasons.collect(),
            response_p50_ms: second.response.quantile_ms(0.5),
            response_p99_ms: second.response.quantile_ms(0.99),
            response_p999_ms: second.response.quantile_ms(0.999),
            service_p99_ms: second.service.quantile_ms(0.99),
            lag_p99_ms: second.lag.quantile_ms(0.99),
        }
    }
}

impl Row {
    /// Adds what was written of the same second later. Operations and cohorts add up; of everything else the newer word counts.
    pub fn add(&mut self, later: Row) {
        for (operation, figures) in later.operations {
            self.operations.entry(operation).or_default().add(figures);
        }
        for (cohort, asked) in later.cohorts {
            self.cohorts.entry(cohort).or_default().add(asked);
        }
        self.dropped += later.dropped;
        if !later.phase.is_empty() {
            self.phase = later.phase;
        }
        if later.planned_sign_ups != 0.0 {
            self.planned_sign_ups = later.planned_sign_ups;
        }
        self.replayed = later.replayed.or(self.replayed.take());
        self.room = later.room.or(self.room);
        self.codes = self.codes.max(later.codes);
        self.acked = self.acked.max(later.acked);
        self.delivered = self.delivered.max(later.delivered);
        self.server = later.server.or(self.server);
        self.observed = later.observed.or(self.observed);
        self.generator = later.generator.or(self.generator);
        self.host = later.host.or(self.host);
    }
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
            self.add(second, operation, &figures);
        }
    }

    /// Adds what one operation did in a second.
    pub fn add(&mut self, second: u64, operation: Operation, figures: &Second) {
        let row = self.row(second).operations.entry(operation.0.to_owned()).or_default();
        row.add(figures.into());
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
