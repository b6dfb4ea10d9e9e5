//! Before the load: workers come, are told what to play, and bring their people.

use std::time::Duration;

use tokio::time::{Instant, interval};

use super::Coordinator;
use crate::gates::Rule;
use crate::peer::redacted;
use crate::run::RunError;
use crate::run::harm::second_half;
use crate::workers::wire::Assignment;
use crate::workers::{Part, WorkersError, hash_of};

/// Between two words about who is still missing.
const REMIND_EVERY: Duration = Duration::from_secs(10);

impl Coordinator {
    /// Waits until all workers are there.
    pub(super) async fn gather(&mut self) -> Result<(), RunError> {
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
    pub(super) async fn prepare(&mut self) -> Result<(), RunError> {
        let options = &self.run.options;
        // What is secret in it is not for the workers' folders, and no worker needs it.
        let text = |argument: &std::ffi::OsString| redacted(&argument.to_string_lossy());
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
            silent: options.silent,
            then: self.then(),
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

    /// The run that the workers play after this one. Those that were started here are started again.
    fn then(&self) -> Option<String> {
        let options = &self.run.options;
        let is_first = options.harm && options.silent && options.workers.workers.is_some();
        is_first.then(|| second_half(&self.name))
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
}
