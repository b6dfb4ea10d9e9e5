//! Hands queued codes to the providers, by any number of workers in any number of processes.
//!
//! The store is the truth: a code is queued by the write that opens or changes its session, and unqueued by the write
//! that records its hand-over. The work queue only says where to look, and may lose everything at any time; the reaper
//! finds in the store what it lost. So a crash, or a lost stream, delays codes and loses none.
//!
//! Order, in which claim and record are each a write on the session's version:
//! 0. *Route.* The router ([`crate::routing`]) chooses a provider, or says that nobody can have the code now: then it
//!    stays queued, and that counts as no attempt. Or the number looks pumped, and all of this happens but the sending.
//! 1. *Claim.* The worker holds the queued code for as long as a hand-over takes. Of two workers that hold the same
//!    item, or two items of one session, one gets the claim; the other looks again when the claim has run out.
//! 2. *Send.*
//! 3. *Record* the hand-over, which unqueues the code and starts its lifetime; or the failure, so that another provider
//!    has its turn, at once if one can take the code, else after a pause.
//!
//! A code is sent twice only when the provider took it and nobody could record that: the worker died, or the store did
//! not answer until the claim ran out. It is the same code then ([`crate::secrets::Secrets::code`]), so nobody is
//! harmed. The same goes for a call that timed out, whose outcome is unknown, and after which another provider is asked. Recording before sending would lose the
//! code in a crash, and its lifetime could not start at its hand-over. A claim outlives the call to the provider by
//! [`crate::DispatchConfig::claim_margin`], which also covers clocks that differ.
//!
//! A phone can be faster than the record: [`Dispatch::settled`] lets the check of a code wait for it.

mod borrower;
mod hand_over;
mod outcomes;
mod reaper;
mod receipts;
mod routes;
#[cfg(test)]
mod simulation;
mod throttle;
mod under_way;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use spillway_bus::work::{LocalWorkQueue, WorkQueue};
use spillway_chassis::Tasks;
use spillway_store::Leases;
use spillway_store::verifications::VerificationId;
use spillway_types::Clock;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use borrower::Ledger;
pub(crate) use hand_over::HandOver;
pub(crate) use routes::Routes;
use throttle::Throttle;
pub(crate) use under_way::UnderWay;
use worker::Worker;

use crate::metrics::{Metrics, WorkEvent};
use crate::routing::Capacity;

/// Offers that wait to be made; when there are more, the reaper finds what they were about.
const OFFERS_MAX: usize = 4_096;
/// Offers under way at the same time: at 2 ms for each, 32,000 in a second.
const OFFERS_AT_ONCE: usize = 64;

/// The handle on the dispatcher.
#[derive(Debug)]
pub(crate) struct Dispatch {
    offers: mpsc::Sender<VerificationId>,
    under_way: Arc<UnderWay>,
    routes: Arc<Routes>,
    metrics: Metrics,
}

impl Dispatch {
    /// `grace`: how long a code has at least to be typed.
    pub(crate) fn start(
        hand_over: HandOver,
        grace: Duration,
        work: Arc<dyn WorkQueue>,
        ledger: (Arc<dyn Leases>, Arc<dyn Clock>),
        tasks: &Tasks,
    ) -> Self {
        let (offers, offered) = mpsc::channel(OFFERS_MAX);
        let (under_way, metrics) = (Arc::clone(&hand_over.under_way), hand_over.metrics.clone());
        let (config, routes) = (hand_over.config.clone(), Arc::clone(&hand_over.routes));
        let hand_over = Arc::new(hand_over);
        let (leases, clock) = ledger;
        let borrowing = borrower::run(Arc::clone(&routes), Ledger { leases, clock }, tasks.clone());
        tasks.spawn_critical("money for codes", borrowing);
        tasks.spawn("code offers", offer(offered, Arc::clone(&work), metrics.clone(), tasks.clone()));

        // What the reaper finds while the queue that all share is out of reach.
        let found: Arc<dyn WorkQueue> = Arc::new(LocalWorkQueue::new(config.queue_max));
        let calls = Arc::new(Semaphore::new(config.concurrency.get()));
        let throttle = Arc::new(Throttle::default());
        for (name, queue) in [("code dispatcher", &work), ("found code dispatcher", &found)] {
            let worker = Worker {
                queue: Arc::clone(queue),
                hand_over: Arc::clone(&hand_over),
                calls: Arc::clone(&calls),
                throttle: Arc::clone(&throttle),
            };
            tasks.spawn_critical(name, worker.run(tasks.clone()));
        }
        let outcomes = outcomes::run(Arc::clone(&hand_over), grace, tasks.clone());
        tasks.spawn_critical("code outcomes", outcomes);
        for (place, provider) in hand_over.routes.providers().enumerate() {
            let receipts = receipts::run(place, provider, Arc::clone(&hand_over), tasks.clone());
            tasks.spawn_critical("code receipts", receipts);
        }
        tasks.spawn_critical("code reaper", reaper::run(Arc::clone(&hand_over), work, found, tasks.clone()));
        tasks.spawn_critical("verification expiry", reaper::expire(hand_over, tasks.clone()));
        Self { offers, under_way, routes, metrics }
    }

    /// Says that a code was queued. Waits for nothing; what finds no room is left to the reaper.
    pub(crate) fn offer(&self, id: VerificationId) {
        if self.offers.try_send(id).is_err() {
            self.metrics.work(WorkEvent::OfferFailed);
        }
    }

    /// Says that a sign-up with a number of this country has begun.
    pub(crate) fn began(&self, country: u16) {
        self.routes.began(country);
    }

    /// What can be sent at present.
    pub(crate) fn capacity(&self) -> Capacity {
        self.routes.capacity()
    }

    /// Says that a session's code was typed.
    pub(crate) fn proved(&self, id: VerificationId) {
        self.routes.proved(id);
    }

    /// Waits while a hand-over for this session is under way in this process.
    pub(crate) async fn settled(&self, id: VerificationId) {
        self.under_way.settled(id).await;
    }
}

/// Away from the callers, who do not wait for the queue.
async fn offer(
    offered: mpsc::Receiver<VerificationId>,
    work: Arc<dyn WorkQueue>,
    metrics: Metrics,
    tasks: Tasks,
) {
    let (work, metrics) = (&work, &metrics);
    ReceiverStream::new(offered)
        .take_until(tasks.cancelled())
        .for_each_concurrent(OFFERS_AT_ONCE, |id| async move {
            match work.offer(&id.0, Bytes::new()).await {
                Ok(()) => metrics.work(WorkEvent::Offered),
                // The worker that cannot take either says so in the log.
                Err(_) => metrics.work(WorkEvent::OfferFailed),
            }
        })
        .await;
}
