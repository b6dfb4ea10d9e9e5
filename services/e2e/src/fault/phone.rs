//! A device that is online: receives, drops what it has seen, enters the rest in the ledger, acks, and comes back
//! whenever its stream ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use spillway_client::{Client, Dedup, Identity, SessionEvent};
use tokio::time::{sleep, timeout};

use super::world::Shared;
use crate::bench::people::User;

/// Guids that a device remembers.
const SEEN_MAX: usize = 4_096;
/// A device that lost its stream waits up to this long before it comes back, so that all do not come at once.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A session that is not open by then is asked for again.
const OPEN_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Phone {
    pub(super) index: u64,
    pub(super) identity: Arc<Identity>,
    /// One connection for the session and for sends, as phones have; another one after a reconnect.
    client: Mutex<Client>,
}

impl Phone {
    pub(super) fn new(user: User, shared: &Shared) -> Self {
        Self { index: user.index, identity: user.identity, client: Mutex::new(shared.client()) }
    }

    pub(super) fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn stay_online(self: Arc<Self>, shared: Arc<Shared>) {
        let mut seen = Dedup::new(SEEN_MAX);
        let mut told = shared.reconnect.subscribe();
        loop {
            tokio::select! {
                changed = told.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    *self.client.lock().unwrap_or_else(PoisonError::into_inner) = shared.client();
                }
                () = self.session(&shared, &mut seen) => {
                    let pause = PAUSE_MAX.mul_f64(rand::rng().random());
                    sleep(pause).await;
                }
            }
        }
    }

    /// One session, until it ends.
    async fn session(&self, shared: &Shared, seen: &mut Dedup) {
        let client = self.client();
        let Ok(Ok(mut session)) = timeout(OPEN_MAX, client.open_session(&self.identity)).await else {
            return;
        };
        let _online = Online::enter(&shared.online);
        let acks = session.handle();
        while let Ok(Some(event)) = session.next().await {
            match event {
                SessionEvent::Delivery(delivery) => {
                    if seen.is_new(delivery.guid) {
                        shared.ledger.delivered(&delivery.envelope.content);
                    }
                    if let Some(id) = delivery.id {
                        acks.ack([id]).await;
                    }
                }
                SessionEvent::QueueEmpty => {}
                SessionEvent::Migrate(_) | SessionEvent::Closing(_) => return,
            }
        }
    }
}

/// Counts a session for as long as it is open, also when it is cancelled.
struct Online<'a>(&'a AtomicU64);

impl<'a> Online<'a> {
    fn enter(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Online<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
