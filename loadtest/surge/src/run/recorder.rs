//! Second by second: what happened, for the report and for whoever watches.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{BEFORE, Plan, Run, SETTLING, SURGE};
use crate::curve::{Replay, SIGNAL_2021};
use crate::observe::Proc;
use crate::progress::Snapshot;
use crate::stats::{Stats, Totals};
use crate::summary::{EXISTING_SEND, SIGN_UP};
use crate::timeline::{OperationRow, Row, Timeline};

const TICK: Duration = Duration::from_millis(250);
/// Points of the little curve in the progress panel.
const CURVE_POINTS: u32 = 48;

pub(super) struct Recorder {
    stats: Arc<Stats>,
    timeline: Timeline,
    replay: Replay,
    calm: Duration,
    ticks: Interval,
    collected_second: u64,
    proc: Proc,
    pids: Vec<u32>,
    curve: Vec<f64>,
    planned: Duration,
}

impl Recorder {
    pub(super) fn new(run: &Run, plan: &Plan, stats: Arc<Stats>, calm: Duration) -> Self {
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let planned = calm + run.options.surge();
        let whole = plan.replay.curve.after(calm);
        let curve = (0..CURVE_POINTS).map(|point| whole.rate_at(planned * point / CURVE_POINTS)).collect();
        let mut recorder = Self {
            stats,
            timeline: Timeline::default(),
            replay: plan.replay.clone(),
            calm,
            ticks,
            collected_second: 0,
            proc: Proc::default(),
            pids: run.target.pids.clone(),
            curve,
            planned,
        };
        recorder.sample(run, 0);
        recorder
    }

    /// Resolves a few times a second. Cancel-safe.
    pub(super) async fn tick(&mut self) {
        self.ticks.tick().await;
    }

    /// Collects what is over and shows where the run stands.
    pub(super) fn show(&mut self, run: &mut Run) {
        let now = Instant::now();
        let second = (now - self.stats.started()).as_secs();
        if second > self.collected_second {
            self.timeline.absorb(self.stats.collect(now));
            for over in self.collected_second..second {
                self.sample(run, over);
            }
            self.collected_second = second;
        }
        let snapshot = self.snapshot(run, now);
        run.progress.show(&snapshot).ok();
    }

    pub(super) fn finish(mut self, run: &Run) -> Vec<Row> {
        self.timeline.absorb(self.stats.collect_all());
        self.sample(run, (Instant::now() - self.stats.started()).as_secs());
        self.timeline.into_rows()
    }

    fn sample(&mut self, run: &Run, second: u64) {
        let from = Duration::from_secs(second);
        let in_surge = from.checked_sub(self.calm).filter(|at| *at < self.replay.curve.duration());
        let counts = run.world.ledger.counts();
        let row = self.timeline.row(second);
        row.phase = phase(from, self.calm, self.planned).to_owned();
        row.replayed = in_surge.and_then(|at| self.replay.hour_at(at)).map(|hour| hour.utc.clone());
        row.planned_sign_ups = in_surge
            .map_or(0.0, |at| self.replay.curve.count_between(at, at + Duration::from_secs(1)))
            .round();
        row.acked = counts.acked;
        row.delivered = counts.delivered;
        // Not on Linux, or the server is gone: the charts leave the gap.
        row.server = self.proc.processes(&self.pids).ok();
        row.generator = self.proc.own().ok();
        row.host = self.proc.host().ok();
    }

    fn snapshot(&self, run: &Run, now: Instant) -> Snapshot {
        let elapsed = now - self.stats.started();
        let counts = run.world.ledger.counts();
        let last = self.timeline.last();
        let of = |operation: &str| last.and_then(|row| row.operations.get(operation));
        let (sign_up, existing) = (self.stats.totals(SIGN_UP), self.stats.totals(EXISTING_SEND));
        Snapshot {
            profile: SIGNAL_2021.to_owned(),
            phase: phase(elapsed, self.calm, self.planned).to_owned(),
            elapsed,
            planned: self.planned,
            replayed: last.and_then(|row| row.replayed.clone()),
            curve: self.curve.clone(),
            offered_per_s: of(SIGN_UP.0).map_or(0.0, |row: &OperationRow| row.offered as f64),
            completed_per_s: of(SIGN_UP.0).map_or(0.0, |row| row.ok as f64),
            refused: sign_up.refused + existing.refused,
            failed: sign_up.failed + existing.failed,
            existing_p99_ms: of(EXISTING_SEND.0).and_then(|row| row.response_p99_ms),
            existing_p99_before_ms: p99(&self.stats.totals_in(EXISTING_SEND, BEFORE)),
            existing_success_ratio: existing.success_ratio(),
            acked: counts.acked,
            delivered: counts.delivered,
            on_their_way: counts.lost,
            duplicated: counts.duplicated,
            lag_p99_ms: self.stats.lag().quantile_ms(0.99),
        }
    }
}

fn phase(at: Duration, calm: Duration, planned: Duration) -> &'static str {
    match (at < calm, at < planned) {
        (true, _) => BEFORE,
        (false, true) => SURGE,
        (false, false) => SETTLING,
    }
}

fn p99(totals: &Totals) -> Option<f64> {
    totals.response.quantile_ms(0.99)
}
