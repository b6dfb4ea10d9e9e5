//! Borrows money for codes from the ledger in the store, and gives back what is not needed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use spillway_store::{Cas, Leases, StoreError};
use spillway_types::Clock;
use tokio::time::timeout;

use super::Routes;
use crate::routing::{Entry, Need, Step, register};

/// How often it is looked whether something has to be borrowed; sooner when somebody waits for it.
const EVERY: Duration = Duration::from_millis(500);
/// Each so many times, what nobody has borrowed is read too, so that the waiting room knows it.
const LOOK_EVERY: u32 = 4;
/// Conditional writes of one need. Each conflict means that another process got its share.
const TRIES: usize = 16;
/// For one read or write.
const CALL_MAX: Duration = Duration::from_secs(2);
/// Limits at the same time.
const AT_ONCE: usize = 8;

/// Why nothing was borrowed. What may have been borrowed all the same is not spent.
#[derive(Debug, thiserror::Error)]
enum LedgerError {
    #[error("the ledger could not be read or written")]
    Store(#[from] StoreError),
    #[error("the store took too long")]
    TimedOut,
    #[error("other processes changed it each time")]
    Contended,
    #[error("it is not known whether it was written")]
    Unsure,
}

/// The ledger, as a process reaches it.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) leases: Arc<dyn Leases>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Runs until the tasks are cancelled, and gives everything back then.
pub(super) async fn run(routes: Arc<Routes>, ledger: Ledger, tasks: Tasks) {
    let mut cancelled = std::pin::pin!(tasks.cancelled());
    let mut failing = false;
    for round in 0_u32.. {
        let needs = routes.needs(round.is_multiple_of(LOOK_EVERY));
        settle(&routes, &ledger, needs, &mut failing).await;
        tokio::select! {
            () = &mut cancelled => break,
            () = routes.wants_money() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    settle(&routes, &ledger, routes.give_back(), &mut failing).await;
}

async fn settle(routes: &Routes, ledger: &Ledger, needs: Vec<Need>, failing: &mut bool) {
    if needs.is_empty() {
        return;
    }
    let settle = async |need: Need| (need, ledger.settle(&need).await);
    let mut settled = futures::stream::iter(needs.into_iter().map(settle)).buffer_unordered(AT_ONCE);
    let mut failure = None;
    while let Some((need, outcome)) = settled.next().await {
        match outcome {
            Ok((granted, unlent)) => routes.settled(&need, granted, unlent),
            Err(error) => {
                routes.unsettled(&need);
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if !*failing => {
            tracing::warn!(error = %Chain(&error), "no money can be borrowed for codes: what is here is spent, and then no code is sent that costs any");
            *failing = true;
        }
        Some(_) => {}
        None if *failing => {
            tracing::info!("money can be borrowed for codes again");
            *failing = false;
        }
        None => {}
    }
}

impl Ledger {
    /// What was borrowed, and what nobody has.
    ///
    /// Giving back twice would be money that nobody has, so nothing is repeated of which it is not certain that it did not happen. A write that lost
    /// against another one may have been written before that one (a store that got no answer cannot tell them apart), unless there was exactly one.
    async fn settle(&self, need: &Need) -> Result<(u64, u64), LedgerError> {
        let name = register(need.scope);
        let mut before: Option<Entry> = None;
        for _ in 0..TRIES {
            let found = bounded(self.leases.get(&name)).await?;
            if let Some(ours) = before.take()
                && !found.as_ref().is_some_and(|found| Entry::of(found).came_instead_of(&ours))
            {
                return Err(LedgerError::Unsure);
            }
            let step = Entry::step(found.as_ref().map(Entry::of), need, rand::random(), self.clock.now());
            let (entry, granted, unlent) = match step {
                Step::Keep { unlent } => return Ok((0, unlent)),
                Step::Write { entry, granted, unlent } => (entry, granted, unlent),
            };
            let lease = entry.to_lease();
            match bounded(self.leases.put(&name, lease, found)).await {
                Ok(Cas::Applied) => return Ok((granted, unlent)),
                Ok(Cas::Conflict) => before = Some(entry),
                Err(error) => {
                    let is_ours = bounded(self.leases.get(&name)).await? == Some(lease);
                    return if is_ours { Ok((granted, unlent)) } else { Err(error) };
                }
            }
        }
        Err(LedgerError::Contended)
    }
}

async fn bounded<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, LedgerError> {
    match timeout(CALL_MAX, call).await {
        Ok(answer) => Ok(answer?),
        Err(_elapsed) => Err(LedgerError::TimedOut),
    }
}
