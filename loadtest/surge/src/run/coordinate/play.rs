//! While the workers play: they are listened to, sampled beside, and told when the next stage begins.

use std::time::Duration;

use tokio::time::{Instant, interval};

use super::Coordinator;
use super::live::Live;
use super::watching::Watching;
use crate::cli::LostWorker;
use crate::events::{Event, EventKind};
use crate::gates::Watch;
use crate::recording::Recording;
use crate::run::arrivals::{begin_faults, happened_in};
use crate::run::recorder::phase;
use crate::run::{Plan, QUIET_MAX, SETTLE_MAX};
use crate::run_folder::RunFolder;
use crate::timeline::Row;
use crate::workers::wire::Step;

/// What workers may take at the end to write their folders and to say that they have.
const DONE_WITHIN: Duration = Duration::from_secs(45);
/// How long after the load a server that is gone is waited for.
const ALONE_MAX: Duration = Duration::from_secs(30);

impl Coordinator {
    /// Listens until all workers are done, or lost.
    pub(super) async fn play(&mut self, plan: &Plan, begins: Instant, folder: &RunFolder) -> Watching {
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
            alone_since: None,
            live: Live::default(),
        };
        let mut faults = begin_faults(&self.run, begins, Duration::ZERO, folder);
        let mut interrupted = self.run.interrupted.clone();
        let mut looks = interval(crate::workers::LOOK_EVERY);
        let mut stopped = false;
        while !(self.staff.step() == Step::Over && self.staff.are_done()) {
            tokio::select! {
                heard = self.staff.hear() => {
                    if let Some(seconds) = heard {
                        watching.hear(&seconds);
                    }
                }
                _ = looks.tick() => {
                    self.sample(&mut watching);
                    self.look_for_the_server(&mut watching);
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
            if is_late || self.staff.here().next().is_none() || self.is_alone_for_good(&mut watching, stopped)
            {
                break;
            }
        }
        watching
    }

    /// Says when the server between this and the workers goes, and when it is back.
    fn look_for_the_server(&mut self, watching: &mut Watching) {
        let (second, address) = (self.second(watching), self.staff.address().to_owned());
        match (self.staff.is_connected(), watching.alone_since) {
            (false, None) => {
                watching.alone_since = Some(second);
                self.run.say(&format!(
                    "{second} s: the NATS server at {address} is gone. The workers play on, and keep what they would have said"
                ));
            }
            (true, Some(since)) => {
                watching.alone_since = None;
                self.run.say(&format!("{second} s: the NATS server is back, after {} s", second - since));
            }
            _ => {}
        }
    }

    /// Nobody will be heard any more: the load is over, or was to be ended and nobody can be told.
    fn is_alone_for_good(&self, watching: &mut Watching, stopped: bool) -> bool {
        let Some(since) = watching.alone_since else { return false };
        let patience = if stopped { Duration::ZERO } else { watching.planned + ALONE_MAX };
        let gives_up = Instant::now().saturating_duration_since(watching.started) >= patience;
        if gives_up {
            watching.failed.get_or_insert_with(|| {
                format!(
                    "The NATS server at {} was gone from second {since} on. The workers have played on and kept their folders: `surge merge` with these \
                     makes the run of them.",
                    self.staff.address()
                )
            });
        }
        gives_up
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
}
