//! Who is not heard of any more, and what becomes of its part.

use std::time::Duration;

use tokio::time::Instant;

use super::{Staff, Worker};
use crate::workers::WorkersError;
use crate::workers::wire::Inheritance;

/// A look that comes so late says that this process stood still.
const HELD_UP: Duration = Duration::from_millis(750);
/// While nothing is offered, a worker that is held up for a moment does no harm.
const SILENT_BEFORE_START: Duration = Duration::from_secs(15);
/// When the server is back, everybody has that long to find it.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// What is on its way while a worker takes over.
const TAKE_OVER_AFTER_S: u64 = 2;

impl Staff {
    /// Of those who said that they were there, whoever says nothing any more is not waited for.
    pub(crate) fn forget_silent(&mut self) {
        self.forgive_own_silence();
        self.workers.retain(|worker| worker.last_word.elapsed() < SILENT_BEFORE_START);
    }

    /// Whether all are well that have not begun.
    ///
    /// # Errors
    ///
    /// When one is not, or cannot go on.
    pub(crate) fn check_preparation(&mut self) -> Result<(), WorkersError> {
        self.forgive_own_silence();
        for worker in &self.workers {
            let (number, host) = (worker.number, self.host(worker.number));
            if let Some(reason) = worker.failed.clone() {
                return Err(WorkersError::Refused { number, host, reason });
            }
            if worker.last_word.elapsed() > SILENT_BEFORE_START {
                return Err(WorkersError::Gone { number, host, silent_s: SILENT_BEFORE_START.as_secs() });
            }
        }
        Ok(())
    }

    /// Workers that play and have not been heard of for so long. To be asked every [`LOOK_EVERY`](super::LOOK_EVERY): a coordinator that was held up itself has not heard
    /// anybody meanwhile, and does not take that for silence.
    pub(crate) fn silent(&mut self, for_at_least: Duration) -> Vec<u32> {
        self.forgive_own_silence();
        let silent = |worker: &&Worker| {
            worker.is_here()
                && worker.done.is_none()
                && (worker.last_word.elapsed() > for_at_least || worker.failed.is_some())
        };
        self.workers.iter().filter(silent).map(|worker| worker.number).collect()
    }

    fn forgive_own_silence(&mut self) {
        let now = Instant::now();
        if !self.link.is_connected() {
            self.back_by = now + BACK_WITHIN;
        }
        // Nobody can be heard without the server between them.
        if now - self.looked > HELD_UP || now < self.back_by {
            self.workers.iter_mut().for_each(|worker| worker.last_word = now);
        }
        self.looked = now;
    }

    /// Nothing is taken of this worker any more. Returns what it was called.
    pub(crate) fn give_up(&mut self, number: u32, second: u64) -> String {
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.number == number) {
            worker.lost_at_s = Some(second);
        }
        self.order(|control| control.lost.push(number));
        format!("worker {number} ({})", self.host(number))
    }

    /// Has the others take over from a lost worker; returns the second from which on they do. `None` when there is nobody.
    pub(crate) fn pass_on(&mut self, number: u32, now_s: u64) -> Option<u64> {
        let heirs: Vec<u32> =
            self.workers.iter().filter(|worker| worker.is_here()).map(|worker| worker.number).collect();
        let part = self.workers.iter().find(|worker| worker.number == number)?.part;
        if heirs.is_empty() {
            return None;
        }
        let from_s = now_s + TAKE_OVER_AFTER_S;
        self.order(|control| control.inheritances.push(Inheritance { part, from_s, heirs }));
        Some(from_s)
    }
}
