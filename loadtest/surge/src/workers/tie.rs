//! What ties the run of a worker to that of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::wire::{Control, Inheritance, Step};
use super::{Offset, Part, Spool};
use crate::summary::WorkerSummary;
use crate::workload::Stage;

/// A coordinator that says nothing for so long is gone; it speaks twice a second.
const COORDINATOR_SILENT: Duration = Duration::from_secs(10);

/// What the coordinator said last, and when.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(super) control: Control,
    pub(super) heard: Instant,
}

impl Orders {
    /// Whoever gave them is gone.
    pub(super) fn are_old(&self) -> bool {
        self.heard.elapsed() >= COORDINATOR_SILENT
    }
}

#[derive(Debug)]
pub struct Tie {
    pub(crate) part: Part,
    pub(crate) clock: Offset,
    pub(crate) spool: Arc<Spool>,
    pub(crate) summary: WorkerSummary,
    orders: watch::Receiver<Orders>,
    /// Inheritances that were taken.
    taken: usize,
    quiet: AtomicU8,
    reached: AtomicU8,
}

impl Tie {
    pub(crate) fn new(
        part: Part,
        clock: Offset,
        spool: Arc<Spool>,
        summary: WorkerSummary,
        orders: watch::Receiver<Orders>,
    ) -> Self {
        Self {
            part,
            clock,
            spool,
            summary,
            orders,
            taken: 0,
            quiet: AtomicU8::new(0),
            reached: AtomicU8::new(0),
        }
    }

    /// How far this worker is.
    pub(crate) fn step(&self) -> Step {
        match self.reached.load(SeqCst) {
            0 => Step::Running,
            1 => Step::Closing,
            _ => Step::Quiet,
        }
    }

    /// The last stage in which nothing of this worker is under way.
    pub(crate) fn quiet(&self) -> Option<Step> {
        match self.quiet.load(SeqCst) {
            0 => None,
            1 => Some(Step::Closing),
            _ => Some(Step::Quiet),
        }
    }

    /// Whether the next stage begins: when the coordinator says so, or when nothing is left and there is no coordinator. Notes whether anything is.
    pub(crate) fn goes_on(&self, stage: Stage, settled: bool) -> bool {
        let (number, step) = match stage {
            Stage::Running | Stage::Closing => (1, Step::Closing),
            Stage::Quiet | Stage::Over => (2, Step::Quiet),
        };
        self.reached.store(number, SeqCst);
        self.quiet.store(if settled { number } else { number - 1 }, SeqCst);
        let orders = self.orders.borrow();
        orders.control.step > step || self.is_given_up(&orders) || (settled && orders.are_old())
    }

    fn is_given_up(&self, orders: &Orders) -> bool {
        orders.control.lost.contains(&self.summary.number)
    }

    /// The next part that this worker is to take over, or `None` when the load ends before its time. Cancel-safe.
    pub(crate) async fn next_inheritance(&mut self) -> Option<Inheritance> {
        loop {
            {
                let orders = self.orders.borrow_and_update();
                // Whoever is taken for lost and is not stops: others may have taken over.
                let given_up = orders.control.lost.contains(&self.summary.number);
                if orders.control.step > Step::Running || given_up {
                    return None;
                }
                if let Some(next) = orders.control.inheritances.get(self.taken) {
                    self.taken += 1;
                    return Some(next.clone());
                }
            }
            // Whoever listens for the coordinator has ended: then nothing comes any more, and the plan is played to its end.
            if self.orders.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tie() -> (watch::Sender<Orders>, Tie) {
        let orders = Orders { control: Control::default(), heard: Instant::now() };
        let (sender, receiver) = watch::channel(orders);
        let (part, clock) = (Part::WHOLE, Offset::default());
        (sender, Tie::new(part, clock, Arc::new(Spool::of(1)), WorkerSummary::default(), receiver))
    }

    fn say(sender: &watch::Sender<Orders>, control: Control) {
        sender.send_replace(Orders { control, heard: Instant::now() });
    }

    #[tokio::test(start_paused = true)]
    async fn the_coordinator_says_when_and_who_is_alone_decides() {
        let (sender, tie) = tie();
        assert_eq!((tie.step(), tie.quiet()), (Step::Running, None));
        assert!(!tie.goes_on(Stage::Closing, true), "others may not be so far");
        assert_eq!((tie.step(), tie.quiet()), (Step::Closing, Some(Step::Closing)));
        assert!(!tie.goes_on(Stage::Closing, false));
        assert_eq!(tie.quiet(), None, "something has begun again");
        say(&sender, Control { step: Step::Quiet, ..Control::default() });
        assert!(tie.goes_on(Stage::Closing, false) && !tie.goes_on(Stage::Quiet, true));
        assert_eq!(tie.quiet(), Some(Step::Quiet));
        tokio::time::advance(COORDINATOR_SILENT).await;
        assert!(tie.goes_on(Stage::Quiet, true) && !tie.goes_on(Stage::Quiet, false));
    }

    #[tokio::test]
    async fn what_is_inherited_is_taken_once_and_an_early_end_is_heard() {
        let (sender, mut tie) = tie();
        let part = Part { from: 1, to: 2, of: 4 };
        let inheritance = |from_s| Inheritance { part, from_s, heirs: vec![1, 3] };
        let first = Control { inheritances: vec![inheritance(7)], ..Control::default() };
        say(&sender, first.clone());
        assert_eq!(tie.next_inheritance().await.unwrap().from_s, 7);
        // Said again, as every half second.
        say(&sender, first.clone());
        let both = vec![inheritance(7), inheritance(9)];
        say(&sender, Control { inheritances: both, ..first });
        assert_eq!(tie.next_inheritance().await.unwrap().from_s, 9);
        say(&sender, Control { step: Step::Closing, ..Control::default() });
        assert_eq!(tie.next_inheritance().await, None);
    }

    /// A worker that could not be heard for a while, and comes back.
    #[tokio::test]
    async fn who_is_taken_for_lost_stops() {
        let (sender, mut tie) = tie();
        tie.summary.number = 2;
        say(&sender, Control { lost: vec![1], ..Control::default() });
        assert!(!tie.goes_on(Stage::Closing, false), "another one");
        say(&sender, Control { lost: vec![1, 2], ..Control::default() });
        assert_eq!(tie.next_inheritance().await, None);
        assert!(tie.goes_on(Stage::Closing, false) && tie.goes_on(Stage::Quiet, false));
    }
}
