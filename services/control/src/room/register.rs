//! What of the room outlives all processes of the role: up to which number has been lent, how far the frontier was, and how many had come.
//!
//! One register beside the lease, and one for the lottery of a scheduled opening. A holder that has lost the lease without noticing cannot change it unseen: each write is on the condition that
//! nobody else has written since, and a new holder acts only after a write of its own.

use std::time::Duration;

use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use spillway_store::leases::{FencingToken, HolderId, Lease};
use spillway_store::{Cas, Leases, StoreError};
use spillway_waiting_room::{Blocks, Mark, Pool};
use tokio::time::{Instant, interval, timeout};

use crate::Shared;
use crate::tenure::Tenure;

/// The register's name in the store.
const REGISTER: &str = "waiting_room";
const POOL_REGISTER: &str = "waiting_room_lottery";
const EVERY: Duration = Duration::from_millis(200);
/// How many have come is stored this often, while they come. Those of the last second count again when they poll.
const ISSUED_EVERY: Duration = Duration::from_secs(1);
/// The frontier is stored this often. After a loss of all of the role, so much of it is walked again.
const FRONTIER_EVERY: Duration = Duration::from_secs(5);

/// What the registers hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// No number above it has been lent.
    pub(crate) mark: u64,
    pub(crate) frontier: u64,
    pub(crate) issued: u64,
    pub(crate) pool: Option<Pool>,
}

#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error("the waiting room's register could not be read or written")]
    Store(#[from] StoreError),
    #[error("the store took too long")]
    TimedOut,
    #[error("another process has written the waiting room's register")]
    Conflict,
}

/// Keeps the register of the room for as long as this process holds the lease.
struct Keeper<'a> {
    shared: &'a Shared,
    leases: &'a dyn Leases,
    call_timeout: Duration,
    /// As this process has written it under the present token.
    written: Option<Lease>,
    /// The lottery's, as it was found or written.
    pool: Option<Lease>,
    at: Instant,
}

impl Stored {
    /// In the fields of a lease: the mark where the renewals are, which also rise.
    fn to_lease(self, token: FencingToken) -> Lease {
        let mut holder = [0; 16];
        holder[..8].copy_from_slice(&self.frontier.to_be_bytes());
        holder[8..].copy_from_slice(&self.issued.to_be_bytes());
        Lease { holder: HolderId(holder), token, renewal: self.mark }
    }

    fn of_lease(lease: &Lease) -> Self {
        let both = u128::from_be_bytes(lease.holder.0);
        Self { mark: lease.renewal, frontier: (both >> 64) as u64, issued: both as u64, pool: None }
    }
}

/// Runs until the tasks are cancelled.
pub(crate) fn keep(
    shared: std::sync::Arc<Shared>,
    leases: std::sync::Arc<dyn Leases>,
    call_timeout: Duration,
    tasks: &Tasks,
) {
    let cancelled = tasks.cancelled();
    tasks.spawn("waiting room register", async move {
        let mut keeper = Keeper {
            shared: &shared,
            leases: leases.as_ref(),
            call_timeout,
            written: None,
            pool: None,
            at: Instant::now(),
        };
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(cancelled);
        let mut failing = false;
        loop {
            tokio::select! {
                () = &mut cancelled => break,
                _ = ticks.tick() => {}
            }
            match keeper.step().await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(error = %Chain(&error), "no new places in the waiting room");
                    }
                    failing = true;
                }
            }
        }
    });
}

impl Keeper<'_> {
    async fn step(&mut self) -> Result<(), RegisterError> {
        let room = &self.shared.room;
        let Some(tenure) = self.shared.guard.tenure(Instant::now()) else {
            room.cease();
            self.written = None;
            return Ok(());
        };
        let Some(written) = self.written.filter(|written| written.token == tenure.token()) else {
            return self.catch_up(tenure).await;
        };
        if let Some(pool) = room.pool_to_store() {
            self.keep_pool(tenure, pool).await?;
        }
        let Some((stored, wanted)) = room.to_store() else { return Ok(()) };
        let before = Stored::of_lease(&written);
        let due = match before {
            _ if before == stored => false,
            _ if before.issued == stored.issued => self.at.elapsed() >= FRONTIER_EVERY,
            _ => self.at.elapsed() >= ISSUED_EVERY,
        };
        if wanted.is_none() && !due {
            return Ok(());
        }
        // Unknown until the write is answered.
        self.written = None;
        let lease = stored.to_lease(tenure.token());
        self.written = Some(self.put(REGISTER, tenure, lease, Some(written)).await?);
        self.at = Instant::now();
        if let Some(mark) = wanted {
            room.stored(mark);
        }
        Ok(())
    }

    /// After a change of holder, or a write whose outcome is not known.
    async fn catch_up(&mut self, tenure: Tenure) -> Result<(), RegisterError> {
        let (room, token) = (&self.shared.room, tenure.token());
        let found = self.bounded(self.leases.get(REGISTER)).await?;
        match found {
            Some(own) if own.token == token && room.acting() == Some(token) => {
                room.stored(Mark { epoch: token.0, highest: own.renewal });
                self.written = Some(own);
                return Ok(());
            }
            Some(later) if later.token > token => {
                room.cease();
                return Err(RegisterError::Conflict);
            }
            _ => room.cease(),
        }
        // On what was found, so that a write of a holder before that is still under way fails, or makes this one fail.
        let stored = found.as_ref().map(Stored::of_lease).unwrap_or_default();
        self.pool = self.bounded(self.leases.get(POOL_REGISTER)).await?;
        let stored = Stored { pool: self.pool.as_ref().map(pool_of), ..stored };
        let mark = Blocks::new(token.0, stored.mark, Duration::ZERO)
            .wanted()
            .unwrap_or(Mark { epoch: token.0, highest: stored.mark });
        let reserved = Stored { mark: mark.highest, ..stored };
        self.written = Some(self.put(REGISTER, tenure, reserved.to_lease(token), found).await?);
        self.at = Instant::now();
        room.begin(token, stored, mark, Instant::now(), self.shared.clock.now());
        Ok(())
    }

    /// If it is not known what became of it, it is looked at again before the next try.
    async fn keep_pool(&mut self, tenure: Tenure, pool: Pool) -> Result<(), RegisterError> {
        let lease = lease_of(pool, tenure.token());
        if self.pool.as_ref().is_some_and(|found| pool_of(found) == pool) {
            self.shared.room.pool_stored(pool);
            return Ok(());
        }
        match self.put(POOL_REGISTER, tenure, lease, self.pool).await {
            Ok(written) => {
                self.pool = Some(written);
                self.shared.room.pool_stored(pool);
                Ok(())
            }
            Err(error) => {
                self.pool = self.bounded(self.leases.get(POOL_REGISTER)).await?;
                Err(error)
            }
        }
    }

    async fn put(
        &self,
        register: &str,
        tenure: Tenure,
        lease: Lease,
        expected: Option<Lease>,
    ) -> Result<Lease, RegisterError> {
        if tenure.check(Instant::now()).is_err() {
            return Err(RegisterError::Conflict);
        }
        match self.bounded(self.leases.put(register, lease, expected)).await? {
            Cas::Applied => Ok(lease),
            Cas::Conflict => Err(RegisterError::Conflict),
        }
    }

    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, RegisterError> {
        match timeout(self.call_timeout, call).await {
            Ok(answer) => Ok(answer?),
            Err(_elapsed) => Err(RegisterError::TimedOut),
        }
    }
}

fn lease_of(pool: Pool, token: FencingToken) -> Lease {
    let mut holder = [0; 16];
    holder[..8].copy_from_slice(&pool.first.to_be_bytes());
    holder[8..].copy_from_slice(&pool.count.to_be_bytes());
    Lease { holder: HolderId(holder), token, renewal: 0 }
}

fn pool_of(lease: &Lease) -> Pool {
    let both = u128::from_be_bytes(lease.holder.0);
    Pool { first: (both >> 64) as u64, count: both as u64 }
}
