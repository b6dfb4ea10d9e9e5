//! A run that several workers play: planned and judged here, offered there.

use std::collections::BTreeMap;
use std::time::Duration;

use spillway_types::{Clock, SystemClock, random_bytes};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::arrivals::{begin_faults, happened_in};
use super::recorder::phase;
use super::{
    Beginning, Plan, QUIET_MAX, Run, RunError, SETTLE_MAX, conclusion, folder_name, own_server, room,
};
use super::{check_shared_target, shares, stop, what_is_played};
use crate::cli::{LostWorker, RunOptions};
use crate::codes::Phones;
use crate::events::{Event, EventKind};
use crate::gates::{Kind, Rule, Seen, Watch};
use crate::offer::{self, Offer, SignUps};
use crate::profile::Profile;
use crate::progress::Snapshot;
use crate::recording::Recording;
use crate::retold::{self, Ended, Whole};
use crate::run_folder::{RunFolder, RunFolderError};
use crate::slo::{ExitCode, Verdict};
use crate::stats::{Latency, Phase};
use crate::summary::{EXISTING_SEND, SIGN_UP, Summary};
use crate::target::Target;
use crate::timeline::Row;
use crate::workers::wire::{Assignment, Step};
use crate::workers::{Link, LocalWorkers, OwnNats, Part, Staff, Worker, WorkersError, check_people, hash_of};

/// The least time between the word and the start, so that everybody has heard it and opened what has to be open.
const START_AHEAD: Duration = Duration::from_secs(3);
/// For a server that was named.
const SERVER_WITHIN: Duration = Duration::from_secs(5);
/// What workers may take at the end to write their folders and to say that they have.
const DONE_WITHIN: Duration = Duration::from_secs(45);
/// Between two words about who is still missing.
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// Runs with `count` workers and writes the run folder. The options have a seed.
///
/// # Errors
///
/// When the run could not take place.
pub(super) async fn measure(options: &RunOptions, count: u32) -> Result<(Summary, RunFolder), RunError> {
    let asked = options.asked.read()?;
    let shares = shares(options, &asked);
    shares.members(options.existing, options.seed())?;
    check_shared(options, count)?;
    check_shared_target(options).await?;
    // Refused before anything is started, as far as it can be known.
    Offer::of(options, SignUps::without_probe(options))?;
    let drawn = || format!("{:08x}", u32::from_be_bytes(random_bytes()));
    let name = options.workers.run.clone().unwrap_or_else(drawn);
    let credentials = options.workers.nats_creds.as_deref();
    let named = match &options.workers.nats[..] {
        [] if options.workers.local_workers.is_some() => None,
        [] => return Err(WorkersError::NoNats.into()),
        addresses => {
            let link = connect(addresses, credentials, &name).await?;
            link.refuse_bus_of_a_service().await.map_err(WorkersError::from)?;
            Some(link)
        }
    };
    let started = SystemClock.now();
    let folder = RunFolder::create(&options.out, started, &folder_name(options))?;
    let mut own_nats = None;
    let mut addresses = options.workers.nats.join(",");
    let link = match named {
        Some(link) => link,
        None => {
            let nats: &OwnNats = own_nats.insert(OwnNats::start(folder.path()).await?);
            addresses.clone_from(&nats.address);
            connect(std::slice::from_ref(&nats.address), None, &name).await?
        }
    };
    let local = match options.workers.local_workers {
        Some(count) => Some(LocalWorkers::start(count, &name, &addresses, credentials, folder.path())?),
        None => None,
    };

    let mut server = None;
    let target = if options.target.is_empty() {
        let own = own_server::start(options, &folder, None).await?;
        let target = own_server::target(&own);
        server = Some(own);
        target
    } else {
        let (pids, admin) = (options.server_pid.clone(), options.admin.clone());
        Target { public: options.target.join(","), codes: options.codes.clone(), admin, pids }
    };
    let beginning = Beginning {
        started,
        target,
        carrier: None,
        phones: Phones::default(),
        tasks: JoinSet::new(),
        asked,
        tie: None,
    };
    let run = Run::new(options.clone(), beginning).await?;
    let staff = Staff::new(link, count as usize, options.existing, run.world.newcomers_from).await?;
    let mut coordinator = Coordinator { run, staff, local, name };
    let measured = coordinator.go(&folder).await;
    match &measured {
        Ok(_) => coordinator.staff.close().await,
        Err(error) => coordinator.staff.call_off(&error.to_string()).await,
    }
    let Coordinator { local, .. } = coordinator;
    if let Some(local) = local {
        local.end(Duration::from_secs(10)).await;
    }
    if let Some(server) = server {
        stop(server).await;
    }
    Ok((measured?, folder))
}

async fn connect(
    addresses: &[String],
    credentials: Option<&std::path::Path>,
    name: &str,
) -> Result<Link, WorkersError> {
    Ok(Link::connect(addresses, credentials, name, SERVER_WITHIN).await?)
}

/// Whether it is something that several can play.
fn check_shared(options: &RunOptions, count: u32) -> Result<(), RunError> {
    if options.profile.plays_provider() {
        return Err(
            WorkersError::NotShared("a profile in which the load tool is the provider of codes").into()
        );
    }
    if options.profile == Profile::RoomMillion {
        return Err(WorkersError::NotShared("a profile in virtual time").into());
    }
    if options.continued.is_some() {
        return Err(WorkersError::NotShared("the rest of a run that was killed").into());
    }
    if offer::is_to_be_probed(options)? {
        return Err(WorkersError::Probe.into());
    }
    check_people(&vec![1; count as usize], options.existing)?;
    Ok(())
}

struct Coordinator {
    run: Run,
    staff: Staff,
    local: Option<LocalWorkers>,
    name: String,
}

/// What goes on while the workers play.
struct Watching {
    started: Instant,
    phases: Vec<Phase>,
    /// Of the part with load.
    planned: Duration,
    watches: Vec<Watch>,
    /// Seconds below were judged.
    judged: u64,
    events: Vec<Event>,
    /// What the workers do not see.
    own: Recording,
    sampled: u64,
    /// Since when the workers settle, or are quiet, or go home.
    step_since: Instant,
    aborted: bool,
    /// The word about a worker that ended the run.
    failed: Option<String>,
}

impl Coordinator {
    async fn go(&mut self, folder: &RunFolder) -> Result<Summary, RunError> {
        let what = what_is_played(&self.run.options);
        let (target, seed) = (self.run.target.public.clone(), self.run.seed);
        self.run.say(&format!("surge: {what} against {target}, seed {seed}, run `{}`", self.name));
        self.gather().await?;
        let plan = self.run.plan().await?;
        room::open(&self.run).await?;
        self.run.empty = self.run.memory_and_sessions();
        self.prepare().await?;
        room::pace(&mut self.run, &plan).await?;
        let mut manifest = conclusion::manifest(&self.run, &plan);
        manifest.workers = self.staff.summaries();
        folder.write_manifest(&manifest)?;
        let at = SystemClock.now().saturating_add(START_AHEAD);
        let begins = Instant::now() + START_AHEAD;
        self.staff.start(at).await?;
        let watching = self.play(&plan, begins, folder).await;
        room::let_go(&self.run).await;
        self.conclude(watching, folder, manifest)
    }

    /// Waits until all workers are there.
    async fn gather(&mut self) -> Result<(), RunError> {
        let mut looks = interval(crate::workers::LOOK_EVERY);
        let mut reminded: Option<Instant> = None;
        while !self.staff.is_complete() {
            tokio::select! {
                _ = self.staff.hear() => {}
                _ = looks.tick() => {
                    self.staff.forget_silent();
                    self.check()?;
                }
            }
            if reminded.is_none_or(|at| at.elapsed() > REMIND_EVERY) && !self.staff.is_complete() {
                reminded = Some(Instant::now());
                let missing =
                    self.run.options.workers.count().unwrap_or(0) as usize - self.staff.workers.len();
                let command = format!("surge worker --nats {} --run {}", self.staff.address(), self.name);
                self.run.say(&format!("waiting for {missing} more workers: {command}"));
            }
        }
        self.staff.share_out()?;
        for worker in self.staff.summaries() {
            self.run.say(&format!(
                "worker {} on {}, {} cores: {} of the load, people {} to {}, clock {:+.3} ms",
                worker.number,
                worker.host,
                worker.cores,
                worker.share,
                worker.users.0,
                worker.users.1.saturating_sub(1),
                worker.clock_offset_ms
            ));
        }
        Ok(())
    }

    /// Has everybody's people sign up and know each other.
    async fn prepare(&mut self) -> Result<(), RunError> {
        let options = &self.run.options;
        let text = |argument: &std::ffi::OsString| argument.to_string_lossy().into_owned();
        let assignment = Assignment {
            worker: 0,
            of_workers: self.staff.workers.len() as u32,
            part: Part::WHOLE,
            arguments: options.command_line.iter().map(text).collect(),
            seed: self.run.seed,
            started_micros: self.run.started.as_micros(),
            target: self.run.target.public.clone(),
            codes: self.run.target.codes.clone(),
            cohorts: self.run.shares.text().to_owned(),
            trace: options.load.trace.as_ref().and_then(hash_of),
            owned: options.i_own_this_target,
            gates: self.run.rules.iter().map(Rule::check).collect(),
        };
        self.staff
            .assign(|worker| Assignment { worker: worker.number, part: worker.part, ..assignment.clone() })
            .await?;
        let wanted = self.run.options.existing;
        self.run.say(&format!("the workers sign up {wanted} existing users"));
        let mut looks = interval(crate::workers::LOOK_EVERY);
        while !self.staff.are_ready() {
            tokio::select! {
                _ = self.staff.hear() => {}
                _ = looks.tick() => self.check()?,
            }
        }
        self.staff.introduce().await?;
        Ok(())
    }

    fn check(&mut self) -> Result<(), RunError> {
        if self.run.is_interrupted() {
            return Err(WorkersError::Interrupted.into());
        }
        if let Some(local) = &mut self.local {
            local.check()?;
        }
        self.staff.check_preparation()?;
        Ok(())
    }

    /// Listens until all workers are done, or lost.
    async fn play(&mut self, plan: &Plan, begins: Instant, folder: &RunFolder) -> Watching {
        let calm = Duration::from_secs(self.run.options.calm);
        let mut watching = Watching {
            started: begins,
            phases: plan.phases(calm),
            planned: calm + plan.load.duration(),
            watches: self.run.rules.iter().cloned().map(Watch::new).collect(),
            judged: 0,
            events: Vec::new(),
            own: Recording::default(),
            sampled: 0,
            step_since: begins + calm + plan.load.duration(),
            aborted: false,
            failed: None,
        };
        let mut faults = begin_faults(&self.run, begins, Duration::ZERO, folder);
        let mut interrupted = self.run.interrupted.clone();
        let mut looks = interval(crate::workers::LOOK_EVERY);
        let mut stopped = false;
        while !(self.staff.step() == Step::Over && self.staff.are_done()) {
            tokio::select! {
                heard = self.staff.hear() => {
                    if let Some(seconds) = heard {
                        watching.add(&seconds.rows, &seconds.intervals);
                    }
                }
                _ = looks.tick() => {
                    self.sample(&mut watching);
                    self.look_for_silence(&mut watching);
                    watching.judge(&self.staff);
                    self.step(&mut watching);
                    let snapshot = self.snapshot(plan, &watching);
                    self.run.progress.show(&snapshot).ok();
                }
                Some(done) = faults.join_next(), if !faults.is_empty() => {
                    if let Some(event) = happened_in(&mut self.run, done) {
                        watching.events.push(event);
                    }
                }
                _ = interrupted.wait_for(|interrupted| *interrupted), if !stopped => {
                    stopped = true;
                    self.end_load(&mut watching);
                }
            }
            let is_late = self.staff.step() == Step::Over && watching.step_since.elapsed() > DONE_WITHIN;
            if is_late || self.staff.here().next().is_none() {
                break;
            }
        }
        watching
    }

    /// No more arrivals.
    fn end_load(&self, watching: &mut Watching) {
        if self.staff.step() == Step::Running {
            self.staff.order(|control| control.step = Step::Closing);
            watching.step_since = Instant::now();
        }
    }

    fn second(&self, watching: &Watching) -> u64 {
        Instant::now().saturating_duration_since(watching.started).as_secs()
    }

    /// What only the coordinator sees of the seconds that are over.
    fn sample(&self, watching: &mut Watching) {
        let now = self.second(watching);
        for second in watching.sampled..now {
            let said = self.run.admin.seen();
            let room = said.map(|said| crate::timeline::RoomRow {
                rate_per_s: said.rate_per_s,
                frozen: said.frozen,
                ..Default::default()
            });
            watching.own.add_row(Row {
                second,
                phase: phase(&watching.phases, Duration::from_secs(second)).to_owned(),
                server: self.run.observer.process(),
                observed: Some(self.run.observer.observed(second, said.and_then(|said| said.sessions))),
                room,
                ..Row::default()
            });
        }
        watching.sampled = now;
    }

    /// What becomes of the run when a worker is not heard of.
    fn look_for_silence(&mut self, watching: &mut Watching) {
        let limit = self.run.options.workers.lost_after;
        if Instant::now() < watching.started + limit {
            return;
        }
        for number in self.staff.silent(limit) {
            let second = self.second(watching);
            let heard = self.staff.workers.iter().find(|worker| worker.number == number);
            let until = heard.map_or(0, |worker| worker.progressed.seconds);
            let name = self.staff.give_up(number, second);
            let outcome = match self.run.options.workers.lost_worker {
                LostWorker::Fail => {
                    watching.failed.get_or_insert_with(|| {
                        format!("{name} was not heard of any more at {second} s, which ended the run.")
                    });
                    self.end_load(watching);
                    "the run was ended".to_owned()
                }
                _ if self.staff.step() > Step::Running => "the load was over".to_owned(),
                LostWorker::Continue => format!("its part is missing from second {until} on"),
                LostWorker::Redistribute => match self.staff.pass_on(number, second) {
                    Some(from_s) => format!(
                        "the others offer its part from second {from_s} on; seconds {until} to {from_s} of it are missing"
                    ),
                    None => "nobody is left".to_owned(),
                },
            };
            self.run.say(&format!("{second} s: {name} is not heard of any more: {outcome}"));
            watching.events.push(Event {
                at_s: second as f64,
                kind: EventKind::LostWorker,
                label: format!("{name} lost"),
                took_s: None,
                outcome,
            });
        }
    }

    /// From the load to the end, when everybody is so far, or after a time.
    fn step(&self, watching: &mut Watching) {
        if watching.aborted {
            self.end_load(watching);
        }
        let waited = watching.step_since.elapsed();
        let next = match self.staff.step() {
            // Not by the time: nothing is left out because somebody is late.
            Step::Running if self.staff.have_reached(Step::Closing) => Step::Closing,
            Step::Closing if self.staff.is_quiet(Step::Closing) || waited > SETTLE_MAX => Step::Quiet,
            Step::Quiet if self.staff.is_quiet(Step::Quiet) || waited > QUIET_MAX => Step::Over,
            _ => return,
        };
        self.staff.order(|control| control.step = next);
        watching.step_since = Instant::now();
    }

    fn snapshot(&self, plan: &Plan, watching: &Watching) -> Snapshot {
        let elapsed = Instant::now().saturating_duration_since(watching.started);
        let counts = self.staff.counts();
        let second = self.staff.seconds().saturating_sub(1);
        let mut response = Latency::default();
        let mut snapshot = Snapshot {
            profile: what_is_played(&self.run.options),
            phase: phase(&watching.phases, elapsed).to_owned(),
            elapsed,
            planned: watching.planned,
            codes: self.run.world.phones.arrived(),
            code_cost: self.run.options.code_cost,
            acked: counts.acked,
            delivered: counts.delivered,
            on_their_way: counts.lost,
            duplicated: counts.duplicated,
            gates: watching.watches.iter().map(Watch::now).collect(),
            ..Snapshot::default()
        };
        let whole = plan.replay.curve.after(Duration::from_secs(self.run.options.calm));
        snapshot.curve = (0..48_u32).map(|point| whole.rate_at(watching.planned * point / 48)).collect();
        for worker in self.staff.here() {
            if let Some(row) = worker.recording.row(second) {
                let of = |operation: &str| row.operations.get(operation);
                snapshot.offered_per_s += of(SIGN_UP.0).map_or(0.0, |row| row.offered as f64);
                snapshot.completed_per_s += of(SIGN_UP.0).map_or(0.0, |row| row.ok as f64);
                snapshot.failed += row.operations.values().map(|row| row.failed).sum::<u64>();
                snapshot.refused += row.operations.values().map(|row| row.refused).sum::<u64>();
            }
            if let Some(sparse) = worker.recording.histogram(second, &format!("{}.response", EXISTING_SEND.0))
            {
                response.add_sparse(sparse);
            }
            let lag = worker.progressed.lag_p99_ms;
            snapshot.lag_p99_ms = [snapshot.lag_p99_ms, lag].into_iter().flatten().reduce(f64::max);
        }
        snapshot.existing_p50_ms = response.quantile_ms(0.5);
        snapshot.existing_p99_ms = response.quantile_ms(0.99);
        snapshot.existing_p999_ms = response.quantile_ms(0.999);
        snapshot
    }

    fn conclude(
        &mut self,
        watching: Watching,
        folder: &RunFolder,
        mut manifest: crate::manifest::Manifest,
    ) -> Result<Summary, RunError> {
        let Watching { mut own, events, aborted, failed, .. } = watching;
        for worker in &self.staff.workers {
            own.merge(&worker.recording);
        }
        own.add_events(events);
        manifest.workers = self.staff.summaries();
        folder.write_manifest(&manifest)?;
        folder.write_recording(&own, self.run.started)?;
        let nobody_is_left = self.staff.here().next().is_none();
        let missing = nobody_is_left || self.staff.here().any(|worker| worker.done.is_none());
        let withheld = self.staff.withheld(&self.run.world.crowd);
        let (counts, interrupted) = (self.staff.counts(), self.run.is_interrupted());
        let alone = self.run.options.alone.clone();
        let whole = Whole { counts, interrupted, aborted, withheld, alone };
        let mut summary = retold::summary(&manifest, &own, &Ended::Whole(whole)).map_err(|error| {
            RunFolderError::Gate { path: folder.path().to_owned(), error: Box::new(error) }
        })?;
        let missing = missing.then(|| "A worker did not tell how its part ended.".to_owned());
        let is_cut = |worker: &&Worker| worker.done.as_ref().is_some_and(|done| done.interrupted);
        let cut = self.staff.here().find(is_cut).map(|worker| {
            format!(
                "Worker {} on {} was stopped before the end of its part.",
                worker.number, worker.hello.host
            )
        });
        let missing = missing.or(cut);
        if let Some(headline) = failed.or(missing)
            && summary.exit_code != ExitCode::Interrupted
        {
            (summary.verdict, summary.exit_code) = (Verdict::Invalid, ExitCode::Partial);
            summary.headline = headline;
            summary.generator.valid = false;
        }
        // The panel is done: a terminal that went away no longer matters.
        self.run.progress.finish().ok();
        let rows: Vec<Row> = own.into_rows();
        folder.write(&summary, &rows)?;
        Ok(summary)
    }
}

impl Watching {
    /// For the gates: what one worker saw.
    fn add(&mut self, rows: &[Row], intervals: &[(u64, String, Latency)]) {
        if self.watches.is_empty() {
            return;
        }
        let latencies: BTreeMap<(u64, &str), &Latency> =
            intervals.iter().map(|(second, tag, latency)| ((*second, tag.as_str()), latency)).collect();
        for row in rows {
            let phase = phase(&self.phases, Duration::from_secs(row.second));
            for (operation, figures) in &row.operations {
                let add = |kind: Kind, latency: &mut Latency| {
                    let tag = format!("{operation}.{}", kind.name());
                    if let Some(seen) = latencies.get(&(row.second, tag.as_str())) {
                        latency.add(seen);
                    }
                };
                let seen = Seen { second: row.second, phase, operation, row: figures, add: &add };
                self.watches.iter_mut().for_each(|watch| watch.add(&seen));
            }
        }
    }

    /// Closes the seconds of which everybody has told.
    fn judge(&mut self, staff: &Staff) {
        for second in self.judged..staff.seconds() {
            let phase = phase(&self.phases, Duration::from_secs(second));
            for watch in &mut self.watches {
                if watch.close(second, phase) && !self.aborted {
                    self.aborted = true;
                    self.events.push(Event {
                        at_s: second as f64,
                        kind: EventKind::Aborted,
                        label: "ended by a gate".to_owned(),
                        took_s: None,
                        outcome: watch.rule().text.clone(),
                    });
                }
            }
        }
        self.judged = self.judged.max(staff.seconds());
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunOptions,
    }

    /// Before anything is started: nobody listens at that address.
    #[tokio::test]
    async fn several_do_not_play_against_a_system_to_compare_with() {
        let line = [
            "surge",
            "--local-workers",
            "2",
            "--profile",
            "send(5s@1)",
            "--seed",
            "1",
            "--target",
            "nats://127.0.0.1:1",
        ];
        let options = Line::try_parse_from(line).unwrap().run;
        let error = measure(&options, 2).await.unwrap_err();
        assert!(
            error.to_string().contains("a system to compare with is not played by several workers"),
            "{error}"
        );
    }
}
