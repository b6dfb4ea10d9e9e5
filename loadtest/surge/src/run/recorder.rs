//! Second by second: what happened, for the report and for whoever watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{BEFORE, Plan, Run, what_is_played};
use crate::cohorts::Cohort;
use crate::curve::Replay;
use crate::events::{Event, EventKind};
use crate::gates::{Kind, Seen, Watch};
use crate::journal::{Journal, Told};
use crate::observe::Proc;
use crate::progress::{InRoom, Snapshot};
use crate::room::{SecondInRoom, Visit, by_second};
use crate::run_folder::RunFolderError;
use crate::stats::{Latency, Operation, Phase, Second, Stats, Totals};
use crate::summary::{EXISTING_SEND, SIGN_UP};
use crate::timeline::{CohortRow, OperationRow, RoomRow, Row, Timeline};
use crate::workers::{Progressed, Tie};

const TICK: Duration = Duration::from_millis(250);
/// Points of the little curve in the progress panel.
const CURVE_POINTS: u32 = 48;

/// What a recorder leaves.
pub(super) struct Finished {
    pub(super) rows: Vec<Row>,
    pub(super) room: Vec<SecondInRoom>,
    pub(super) watches: Vec<Watch>,
    pub(super) events: Vec<Event>,
    pub(super) aborted: bool,
    /// Why the folder does not have all of it.
    pub(super) unwritten: Option<RunFolderError>,
}

pub(super) struct Recorder {
    stats: Arc<Stats>,
    timeline: Timeline,
    replay: Replay,
    phases: Vec<Phase>,
    calm: Duration,
    ticks: Interval,
    collected_second: u64,
    proc: Proc,
    curve: Vec<f64>,
    planned: Duration,
    codes_before: u64,
    code_cost: f64,
    profile: String,
    /// Turns that had come when they were last shown, and when that was.
    turns_shown: (u64, Instant),
    turns_per_s: f64,
    journal: Journal,
    watches: Vec<Watch>,
    /// Set by the first gate that ends the run.
    aborted: bool,
    events: Vec<Event>,
    /// What was acknowledged and delivered before the run was continued.
    earlier: (u64, u64),
    /// Arrivals that were left out since it was last looked.
    left_out: u64,
    /// What cohorts had asked for when it was last looked.
    asked: BTreeMap<Cohort, CohortRow>,
}

/// Seconds that are over, with what was recorded in them.
type Collected = BTreeMap<(u64, Operation), Second>;

impl Recorder {
    pub(super) fn new(
        run: &Run,
        plan: &Plan,
        stats: Arc<Stats>,
        calm: Duration,
        codes_before: u64,
        journal: Journal,
    ) -> Self {
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let planned = calm + plan.load.duration();
        let curve = curve_of(plan, planned, run.options.calm);
        let mut recorder = Self {
            stats,
            timeline: Timeline::default(),
            replay: plan.replay.clone(),
            phases: plan.phases(calm),
            calm,
            ticks,
            collected_second: 0,
            proc: Proc::default(),
            curve,
            planned,
            codes_before,
            code_cost: run.options.code_cost,
            profile: what_is_played(&run.options),
            turns_shown: (0, Instant::now()),
            turns_per_s: 0.0,
            journal,
            watches: run.rules.iter().cloned().map(Watch::new).collect(),
            aborted: false,
            events: Vec::new(),
            earlier: (0, 0),
            left_out: 0,
            asked: BTreeMap::new(),
        };
        let from = recorder.now_s();
        recorder.collected_second = from;
        if let Some(continued) = &run.options.continued {
            let last = continued.earlier.rows().last();
            recorder.earlier = last.map_or((0, 0), |row| (row.acked, row.delivered));
            for row in continued.earlier.rows() {
                recorder.timeline.row(row.second).add(row.clone());
            }
            recorder.events.extend(continued.earlier.events().iter().cloned());
            recorder.event(Event {
                at_s: from as f64,
                kind: EventKind::Resumed,
                label: "continued".to_owned(),
                took_s: None,
                outcome: String::new(),
            });
        }
        let first = recorder.sample(run, from);
        recorder.timeline.row(from).add(first);
        recorder
    }

    fn now_s(&self) -> u64 {
        (Instant::now() - self.stats.started()).as_secs()
    }

    /// Whether a gate has ended the run.
    pub(super) fn is_aborted(&self) -> bool {
        self.aborted
    }

    pub(super) fn event(&mut self, event: Event) {
        self.journal.event(event.clone());
        self.events.push(event);
    }

    /// Counts arrivals that did not go out, because too many were under way.
    pub(super) fn leave_out(&mut self, arrivals: u64) {
        self.left_out += arrivals;
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
            let collected = self.stats.collect(now);
            self.keep(run, collected, self.collected_second..second, BTreeMap::new());
            self.collected_second = second;
        }
        self.count_turns(run, now);
        let snapshot = self.snapshot(run, now);
        run.progress.show(&snapshot).ok();
    }

    /// Keeps what was collected: here, in the folder, and for the gates. `over` are the seconds that are new, of which the last one has `last`.
    fn keep(
        &mut self,
        run: &Run,
        collected: Collected,
        over: std::ops::Range<u64>,
        last: BTreeMap<String, CohortRow>,
    ) {
        let mut written: BTreeMap<u64, Row> = BTreeMap::new();
        for ((second, operation), figures) in &collected {
            let row = written.entry(*second).or_insert_with(|| Row { second: *second, ..Row::default() });
            row.operations.insert(operation.0.to_owned(), figures.into());
        }
        for second in over.clone() {
            let sampled = self.sample(run, second);
            written.entry(second).or_insert_with(|| Row { second, ..Row::default() }).add(sampled);
        }
        if let Some(row) = over.clone().next_back().and_then(|second| written.get_mut(&second)) {
            row.add(Row { second: row.second, cohorts: last, ..Row::default() });
        }
        for (second, row) in &written {
            self.timeline.row(*second).add(row.clone());
        }
        let seconds = over.end;
        self.judge(&collected, over);
        let rows = written.into_values().collect();
        match &run.tie {
            Some(tie) => self.journal.seconds_told(rows, collected, self.told(run, tie, seconds)),
            None => self.journal.seconds(rows, collected),
        }
    }

    /// What a worker says beside its figures.
    fn told(&self, run: &Run, tie: &Tie, seconds: u64) -> Told {
        // First whether anything is under way, then what came of everything that was: whoever hears that nothing is has heard it all.
        let quiet = tie.quiet();
        let crossings = run.world.ledger.take_crossings();
        let counts = run.world.ledger.counts();
        let lag_p99_ms = self.stats.lag().quantile_ms(0.99);
        Told { crossings, progressed: Progressed { seconds, counts, lag_p99_ms, step: tie.step(), quiet } }
    }

    fn judge(&mut self, collected: &Collected, over: std::ops::Range<u64>) {
        if self.watches.is_empty() {
            return;
        }
        for ((second, operation), figures) in collected {
            let add = |kind: Kind, latency: &mut Latency| match kind {
                Kind::Response => latency.add(&figures.response),
                Kind::Service => latency.add(&figures.service),
                Kind::Lag => latency.add(&figures.lag),
            };
            let phase = phase(&self.phases, Duration::from_secs(*second));
            let row = OperationRow::from(figures);
            let seen = Seen { second: *second, phase, operation: operation.0, row: &row, add: &add };
            self.watches.iter_mut().for_each(|watch| watch.add(&seen));
        }
        let mut ended_by = None;
        for second in over {
            let phase = phase(&self.phases, Duration::from_secs(second));
            for watch in &mut self.watches {
                if watch.close(second, phase) && !self.aborted {
                    self.aborted = true;
                    ended_by = Some((second, watch.rule().text.clone()));
                }
            }
        }
        if let Some((second, rule)) = ended_by {
            self.event(Event {
                at_s: second as f64,
                kind: EventKind::Aborted,
                label: "ended by a gate".to_owned(),
                took_s: None,
                outcome: rule,
            });
        }
    }

    /// Everything, with what `visits` to the room were like.
    pub(super) fn finish(mut self, run: &Run, visits: &[Visit]) -> Finished {
        let now = self.now_s();
        let collected = self.stats.collect_all();
        self.keep(run, collected, self.collected_second..now + 1, withheld(run));
        let seconds = self.timeline.last().map_or(0, |row| row.second as usize + 1);
        let room = by_second(visits, seconds);
        if !visits.is_empty() {
            let mut late = Vec::new();
            for (second, seen) in room.iter().enumerate() {
                let kept = self.timeline.row(second as u64);
                kept.room = Some(RoomRow {
                    entered: seen.entered,
                    turns: seen.turns,
                    waiting: seen.waiting,
                    told_s: seen.told_s,
                    waited_s: seen.waited_s,
                    ..kept.room.unwrap_or_default()
                });
                late.push(Row { second: second as u64, room: kept.room, ..Row::default() });
            }
            self.journal.seconds(late, BTreeMap::new());
        }
        // A disk that is full takes nothing away from what was seen.
        let unwritten = self.journal.finish().err();
        Finished {
            rows: self.timeline.into_rows(),
            room,
            watches: self.watches,
            events: self.events,
            aborted: self.aborted,
            unwritten,
        }
    }

    /// What is known of a second beside its operations, at its end.
    fn sample(&mut self, run: &Run, second: u64) -> Row {
        let from = Duration::from_secs(second);
        let in_surge = from.checked_sub(self.calm).filter(|at| *at < self.replay.curve.duration());
        let planned_sign_ups = in_surge
            .map_or(0.0, |at| self.replay.curve.count_between(at, at + Duration::from_secs(1)))
            .round();
        let counts = run.world.ledger.counts();
        let room = run.admin.seen().map(|said| RoomRow {
            rate_per_s: said.rate_per_s,
            frozen: said.frozen,
            ..RoomRow::default()
        });
        Row {
            second,
            phase: phase(&self.phases, from).to_owned(),
            replayed: in_surge.and_then(|at| self.replay.hour_at(at)).map(|hour| hour.utc.clone()),
            planned_sign_ups: run.of_own(planned_sign_ups),
            codes: run.world.phones.arrived() - self.codes_before,
            room,
            dropped: std::mem::take(&mut self.left_out),
            cohorts: self.newly_asked(run),
            acked: self.earlier.0 + counts.acked,
            delivered: self.earlier.1 + counts.delivered,
            // Not on Linux, or the server is gone: the charts leave the gap.
            server: run.observer.process(),
            observed: Some(run.observer.observed(second, run.admin.seen().and_then(|said| said.sessions))),
            generator: self.proc.own().ok(),
            host: self.proc.host().ok(),
            ..Row::default()
        }
    }

    /// What cohorts asked for since it was last looked.
    fn newly_asked(&mut self, run: &Run) -> BTreeMap<String, CohortRow> {
        let crowd = &run.world.crowd;
        if !crowd.has_rude() {
            return BTreeMap::new();
        }
        let mut newly = BTreeMap::new();
        for cohort in Cohort::ALL {
            let (tally, before) = (crowd.tally(cohort), self.asked.entry(cohort).or_default());
            // A repetition is noted before it is asked for, so what was wanted falls by one for a moment.
            let wanted = tally.first_attempts().max(before.wanted);
            let attempts = tally.attempts().max(before.attempts);
            let asked = CohortRow {
                wanted: wanted - before.wanted,
                attempts: attempts - before.attempts,
                withheld: 0,
            };
            (before.wanted, before.attempts) = (wanted, attempts);
            if !asked.is_nothing() {
                newly.insert(cohort.name().to_owned(), asked);
            }
        }
        newly
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
            phase: phase(&self.phases, elapsed).to_owned(),
            elapsed,
            planned: self.planned,
            replayed: last.and_then(|row| row.replayed.clone()),
            curve: self.curve.clone(),
            offered_per_s: of(SIGN_UP.0).map_or(0.0, |row: &OperationRow| row.offered as f64),
            completed_per_s: of(SIGN_UP.0).map_or(0.0, |row| row.ok as f64),
            sends_offered_per_s: of(EXISTING_SEND.0).map_or(0.0, |row| row.offered as f64),
            sends_per_s: of(EXISTING_SEND.0).map_or(0.0, |row| row.ok as f64),
            room: self.room(run),
            codes: run.world.phones.arrived() - self.codes_before,
            code_cost: self.code_cost,
            refused: sign_up.refused + existing.refused,
            failed: sign_up.failed + existing.failed,
            sign_ups_in_flight: in_flight(&sign_up),
            sends_in_flight: in_flight(&existing),
            existing_p50_ms: of(EXISTING_SEND.0).and_then(|row| row.response_p50_ms),
            existing_p99_ms: of(EXISTING_SEND.0).and_then(|row| row.response_p99_ms),
            existing_p999_ms: of(EXISTING_SEND.0).and_then(|row| row.response_p999_ms),
            existing_p99_before_ms: p99(&self.stats.totals_in(EXISTING_SEND, BEFORE)),
            existing_success_ratio: existing.served_ratio(),
            acked: counts.acked,
            delivered: counts.delivered,
            on_their_way: counts.lost,
            duplicated: counts.duplicated,
            lag_p99_ms: self.stats.lag().quantile_ms(0.99),
            gates: self.watches.iter().map(Watch::now).collect(),
        }
    }
}

/// What is with the service because cohorts did not take it.
fn withheld(run: &Run) -> BTreeMap<String, CohortRow> {
    let mut all: BTreeMap<String, CohortRow> = BTreeMap::new();
    for (receiver, withheld) in run.world.ledger.withheld().into_iter().filter(|(_, count)| *count > 0) {
        let cohort = run.world.crowd.of(receiver).name().to_owned();
        all.entry(cohort).or_default().add(CohortRow { withheld, ..CohortRow::default() });
    }
    all
}

fn in_flight(totals: &Totals) -> u64 {
    totals.offered.saturating_sub(totals.ok + totals.refused + totals.failed + totals.waiting)
}

/// The rate of sign-ups over the whole run, for the panel.
pub(super) fn curve_of(plan: &Plan, planned: Duration, calm_s: u64) -> Vec<f64> {
    let whole = plan.replay.curve.after(Duration::from_secs(calm_s));
    (0..CURVE_POINTS).map(|point| whole.rate_at(planned * point / CURVE_POINTS)).collect()
}

/// The last one that has begun.
pub(super) fn phase(phases: &[Phase], at: Duration) -> &'static str {
    phases.iter().rev().find(|phase| phase.from <= at).map_or(BEFORE, |phase| phase.name)
}

fn p99(totals: &Totals) -> Option<f64> {
    totals.response.quantile_ms(0.99)
}
