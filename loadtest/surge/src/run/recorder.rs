//! Second by second: what happened, for the report and for whoever watches.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{BEFORE, Plan, Run, SETTLING, SURGE, what_is_played};
use crate::curve::Replay;
use crate::observe::Proc;
use crate::progress::{InRoom, Snapshot};
use crate::room::{SecondInRoom, Visit, by_second};
use crate::stats::{Stats, Totals};
use crate::summary::{EXISTING_SEND, SIGN_UP};
use crate::timeline::{OperationRow, RoomRow, Row, Timeline};

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
    codes_before: u64,
    code_cost: f64,
    profile: String,
    /// Turns that had come when they were last shown, and when that was.
    turns_shown: (u64, Instant),
    turns_per_s: f64,
}

impl Recorder {
    pub(super) fn new(run: &Run, plan: &Plan, stats: Arc<Stats>, calm: Duration, codes_before: u64) -> Self {
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let planned = calm + plan.load.duration();
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
            codes_before,
            code_cost: run.options.code_cost,
            profile: what_is_played(&run.options),
            turns_shown: (0, Instant::now()),
            turns_per_s: 0.0,
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
        self.count_turns(run, now);
        let snapshot = self.snapshot(run, now);
        run.progress.show(&snapshot).ok();
    }

    /// The rows, with what `visits` were like in them.
    pub(super) fn finish(mut self, run: &Run, visits: &[Visit]) -> (Vec<Row>, Vec<SecondInRoom>) {
        self.timeline.absorb(self.stats.collect_all());
        self.sample(run, (Instant::now() - self.stats.started()).as_secs());
        let mut rows = self.timeline.into_rows();
        let seconds = rows.last().map_or(0, |row| row.second as usize + 1);
        let room = by_second(visits, seconds);
        if visits.is_empty() {
            return (rows, room);
        }
        for row in &mut rows {
            let Some(seen) = room.get(row.second as usize) else { continue };
            row.room = Some(RoomRow {
                entered: seen.entered,
                turns: seen.turns,
                waiting: seen.waiting,
                told_s: seen.told_s,
                waited_s: seen.waited_s,
                ..row.room.unwrap_or_default()
            });
        }
        (rows, room)
    }

    fn sample(&mut self, run: &Run, second: u64) {
        let from = Duration::from_secs(second);
        let in_surge = from.checked_sub(self.calm).filter(|at| *at < self.replay.curve.duration());
        let counts = run.world.ledger.counts();
        let codes = run.world.phones.arrived() - self.codes_before;
        let room = run.admin.seen().map(|said| RoomRow {
            rate_per_s: said.rate_per_s,
            frozen: said.frozen,
            ..RoomRow::default()
        });
        let row = self.timeline.row(second);
        row.phase = phase(from, self.calm, self.planned).to_owned();
        row.replayed = in_surge.and_then(|at| self.replay.hour_at(at)).map(|hour| hour.utc.clone());
        row.planned_sign_ups = in_surge
            .map_or(0.0, |at| self.replay.curve.count_between(at, at + Duration::from_secs(1)))
            .round();
        row.codes = codes;
        row.room = room;
        row.acked = counts.acked;
        row.delivered = counts.delivered;
        // Not on Linux, or the server is gone: the charts leave the gap.
        row.server = self.proc.processes(&self.pids).ok();
        row.generator = self.proc.own().ok();
        row.host = self.proc.host().ok();
    }

    /// Over a second and more, because fewer come in a quarter of one than tell anything.
    fn count_turns(&mut self, run: &Run, now: Instant) {
        let (before, at) = self.turns_shown;
        let passed = now.saturating_duration_since(at);
        if passed >= Duration::from_secs(1) {
            let admitted = run.world.room().now().admitted;
            self.turns_per_s = (admitted - before) as f64 / passed.as_secs_f64();
            self.turns_shown = (admitted, now);
        }
    }

    fn room(&self, run: &Run) -> Option<InRoom> {
        let room = run.world.room().now();
        let said = run.admin.seen();
        (room.entered > 0).then(|| InRoom {
            waiting: room.waiting,
            come_in_per_s: self.turns_per_s,
            rate_per_s: said.and_then(|said| said.rate_per_s),
            frozen: said.is_some_and(|said| said.frozen),
            told_and_waited_s: room.told_and_waited_s,
        })
    }

    fn snapshot(&self, run: &Run, now: Instant) -> Snapshot {
        let elapsed = now - self.stats.started();
        let counts = run.world.ledger.counts();
        let last = self.timeline.last();
        let of = |operation: &str| last.and_then(|row| row.operations.get(operation));
        let (sign_up, existing) = (self.stats.totals(SIGN_UP), self.stats.totals(EXISTING_SEND));
        Snapshot {
            profile: self.profile.clone(),
            phase: phase(elapsed, self.calm, self.planned).to_owned(),
            elapsed,
            planned: self.planned,
            replayed: last.and_then(|row| row.replayed.clone()),
            curve: self.curve.clone(),
            offered_per_s: of(SIGN_UP.0).map_or(0.0, |row: &OperationRow| row.offered as f64),
            completed_per_s: of(SIGN_UP.0).map_or(0.0, |row| row.ok as f64),
            room: self.room(run),
            codes: run.world.phones.arrived() - self.codes_before,
            code_cost: self.code_cost,
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
