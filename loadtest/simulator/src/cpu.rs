//! Processors that are shared: `n` tasks on `k` cores each run at the speed `min(1, k / n)`.
//!
//! Every task runs at the same speed, so the work that each has received since the start is one number for all of
//! them; a task ends when that number has grown by its demand. Adding and ending cost a step in a heap, whatever the
//! number of tasks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Nanos;

/// Slack for rounding, in nanoseconds of work.
const EPSILON: f64 = 0.5;

#[derive(Debug)]
pub(crate) struct Cpu {
    cores: f64,
    /// 1 is full speed, 0 is a pause.
    speed: f64,
    /// Nanoseconds of work that a task has received which was there from the start.
    attained: f64,
    at: Nanos,
    tasks: BinaryHeap<Reverse<Task>>,
    added: u64,
    busy: f64,
    /// When the event comes that will look here again.
    pub(crate) armed: Option<Nanos>,
}

#[derive(Debug)]
struct Task {
    ends: f64,
    number: u64,
    owner: u32,
    stage: Stage,
}

/// What a task does for its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Read the headers and decide. Paid by everyone who arrives.
    Front,
    /// The work itself.
    Serve,
}

impl Cpu {
    pub(crate) fn new(cores: f64) -> Self {
        Self {
            cores,
            speed: 1.0,
            attained: 0.0,
            at: Nanos::ZERO,
            tasks: BinaryHeap::new(),
            added: 0,
            busy: 0.0,
            armed: None,
        }
    }

    pub(crate) fn set_speed(&mut self, now: Nanos, speed: f64) {
        self.advance(now);
        self.speed = speed;
    }

    /// `demand` in nanoseconds of one core.
    pub(crate) fn add(&mut self, now: Nanos, owner: u32, stage: Stage, demand: f64) {
        self.advance(now);
        self.added += 1;
        let task = Task { ends: self.attained + demand.max(0.0), number: self.added, owner, stage };
        self.tasks.push(Reverse(task));
    }

    /// A task that has ended by now.
    pub(crate) fn take_ended(&mut self, now: Nanos) -> Option<(u32, Stage)> {
        self.advance(now);
        let ended = self.tasks.peek().is_some_and(|task| task.0.ends <= self.attained + EPSILON);
        let task = if ended { self.tasks.pop()?.0 } else { return None };
        Some((task.owner, task.stage))
    }

    /// When the next task ends if nothing else happens; `None` when none does.
    pub(crate) fn next_end(&self) -> Option<Nanos> {
        let rest = self.tasks.peek()?.0.ends - self.attained;
        let rate = self.rate();
        (rate > 0.0).then(|| self.at + Nanos((rest / rate).ceil().max(0.0) as u64))
    }

    /// Core-nanoseconds used since it was last asked.
    pub(crate) fn take_busy(&mut self, now: Nanos) -> f64 {
        self.advance(now);
        std::mem::take(&mut self.busy)
    }

    /// Everything is dropped, as when a process dies.
    pub(crate) fn clear(&mut self, now: Nanos) {
        self.advance(now);
        self.tasks.clear();
        self.armed = None;
    }

    fn rate(&self) -> f64 {
        self.speed * (self.cores / self.tasks.len().max(1) as f64).min(1.0)
    }

    fn advance(&mut self, now: Nanos) {
        let span = now.since(self.at).0 as f64;
        self.at = self.at.max(now);
        if !self.tasks.is_empty() {
            self.attained += span * self.rate();
            self.busy += span * self.speed * self.cores.min(self.tasks.len() as f64);
        }
    }
}

impl PartialEq for Task {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Task {}

impl PartialOrd for Task {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Task {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.ends.total_cmp(&other.ends).then(self.number.cmp(&other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(cpu: &mut Cpu) -> (u64, u32) {
        let at = cpu.next_end().unwrap();
        (at.0, cpu.take_ended(at).unwrap().0)
    }

    #[test]
    fn three_tasks_share_two_cores() {
        let mut cpu = Cpu::new(2.0);
        for (owner, demand) in [(1, 100.0), (2, 200.0), (3, 400.0)] {
            cpu.add(Nanos(0), owner, Stage::Serve, demand);
        }
        // At 2/3 speed until the first ends, then at full speed.
        assert_eq!(end_of(&mut cpu), (150, 1));
        assert_eq!(end_of(&mut cpu), (250, 2));
        assert_eq!(end_of(&mut cpu), (450, 3));
        assert!((cpu.take_busy(Nanos(500)) - 700.0).abs() < 1.0);
    }

    #[test]
    fn nothing_ends_in_a_pause() {
        let mut cpu = Cpu::new(1.0);
        cpu.add(Nanos(0), 1, Stage::Front, 10.0);
        cpu.set_speed(Nanos(5), 0.0);
        assert_eq!(cpu.next_end(), None);
        cpu.set_speed(Nanos(105), 1.0);
        assert_eq!(end_of(&mut cpu), (110, 1));
    }
}
