//! Hands queued codes to the provider.
//!
//! The store is the truth: a code is queued by the write that opens or changes its session, and unqueued by the write
//! that records its hand-over. What is in memory here only makes it fast, and is bounded; what does not fit, or was
//! lost with a process, is found again by the reaper. So a crash delays codes and loses none.
//!
//! Order: send, then record, which is one write. A crash in between sends the code twice, and it is the same code
//! ([`crate::secrets::Secrets::code`]), so nobody is harmed. Recording first would need a second write to unqueue, or
//! would lose the code in a crash; and the code's lifetime could not start at its hand-over. A phone can be faster
//! than the record: [`Dispatch::settled`] lets the check of a code wait for it.
//!
//! One task drives all hand-overs, so deciding what runs next takes no lock. Deliberately absent: a division of the
//! queue between workers. Two workers on one store may both hand over a code that waited longer than a reap interval.

mod hand_over;
mod queue;
mod reaper;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use spillway_chassis::Tasks;
use spillway_store::verifications::VerificationId;
use spillway_types::PhoneNumber;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) use hand_over::HandOver;
use queue::Queue;

/// Wake-ups between two turns of the dispatcher; when there are more, the reaper finds what they were about.
const WAKES_MAX: usize = 4_096;

/// A session that has a code queued.
#[derive(Debug)]
pub(crate) struct Wake {
    pub(crate) id: VerificationId,
    /// Saves opening the sealed one, where it is at hand.
    pub(crate) number: Option<PhoneNumber>,
}

/// The handle on the dispatcher.
#[derive(Debug)]
pub(crate) struct Dispatch {
    wakes: mpsc::Sender<Wake>,
    under_way: Arc<UnderWay>,
}

impl Dispatch {
    pub(crate) fn start(hand_over: HandOver, tasks: &Tasks) -> Self {
        let (wakes, woken) = mpsc::channel(WAKES_MAX);
        let hand_over = Arc::new(hand_over);
        let under_way = Arc::new(UnderWay::default());
        tasks.spawn_critical(
            "code dispatcher",
            run(Arc::clone(&hand_over), woken, Arc::clone(&under_way), tasks.clone()),
        );
        tasks
            .spawn_critical("code reaper", reaper::run(Arc::clone(&hand_over), wakes.clone(), tasks.clone()));
        tasks.spawn_critical("verification expiry", reaper::expire(hand_over, tasks.clone()));
        Self { wakes, under_way }
    }

    /// Says that a code was queued. A wake-up that finds no room is dropped.
    pub(crate) fn wake(&self, wake: Wake) {
        drop(self.wakes.try_send(wake));
    }

    /// Waits while a hand-over for this session is under way in this process.
    pub(crate) async fn settled(&self, id: VerificationId) {
        if let Some(mut settled) = self.under_way.watch(id) {
            // The sender never sends: the change is that it is gone.
            while settled.changed().await.is_ok() {}
        }
    }
}

/// The hand-overs that are under way.
#[derive(Debug, Default)]
struct UnderWay(Mutex<HashMap<VerificationId, watch::Receiver<()>>>);

/// Ends the waiting when the hand-over ends, in whatever way.
struct Settling {
    id: VerificationId,
    under_way: Arc<UnderWay>,
    _settled: watch::Sender<()>,
}

impl UnderWay {
    fn begin(self: &Arc<Self>, id: VerificationId) -> Settling {
        let (settled, watch) = watch::channel(());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, watch);
        Settling { id, under_way: Arc::clone(self), _settled: settled }
    }

    fn watch(&self, id: VerificationId) -> Option<watch::Receiver<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

async fn run(
    hand_over: Arc<HandOver>,
    mut woken: mpsc::Receiver<Wake>,
    under_way: Arc<UnderWay>,
    tasks: Tasks,
) {
    let config = &hand_over.config;
    let mut queue = Queue::new(config.queue_max.get(), config.backoff_max);
    let mut running = FuturesUnordered::new();
    let mut cancelled = std::pin::pin!(tasks.cancelled());
    loop {
        while running.len() < config.concurrency.get()
            && let Some(next) = queue.next(Instant::now())
        {
            let (hand_over, settling) = (&hand_over, under_way.begin(next.wake.id));
            running.push(async move {
                let (id, attempts) = (next.wake.id, next.attempts);
                let outcome = hand_over.run(next.wake, attempts).await;
                drop(settling);
                (id, attempts, outcome)
            });
        }
        let due = queue.due().filter(|_| running.len() < config.concurrency.get());
        tokio::select! {
            () = &mut cancelled => break,
            Some((id, attempts, outcome)) = running.next(), if !running.is_empty() => {
                queue.settle(id, attempts, outcome, Instant::now());
            }
            Some(wake) = woken.recv() => queue.push(wake),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
    // What has been given to the provider is recorded; the provider's time-out bounds the wait.
    while running.next().await.is_some() {}
}
