//! Who has new mail: told by `NOTIFY` on one connection, heard by `LISTEN` on another, as two gateways would.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::pool::{self, Pool, failed};
use crate::peer::PeerError;

/// Receivers who are told of with one statement.
const AT_ONCE: usize = 256;
/// Receivers of whom nobody was told yet. Those beyond it find their mail when they look.
const WAITING: usize = 16_384;
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Wakes {
    told: mpsc::Sender<u32>,
    ears: Arc<Ears>,
    _tasks: JoinSet<()>,
}

/// Those who are online, by number.
#[derive(Debug, Default)]
struct Ears(Mutex<HashMap<u32, Arc<Notify>>>);

impl Wakes {
    pub(super) fn start(pool: &Arc<Pool>, channel: &str) -> Self {
        let (told, receivers) = mpsc::channel(WAITING);
        let (ears, mut tasks) = (Arc::new(Ears::default()), JoinSet::new());
        tasks.spawn(tell(pool.clone(), channel.to_owned(), receivers));
        tasks.spawn(listen(pool.clone(), channel.to_owned(), ears.clone()));
        Self { told, ears, _tasks: tasks }
    }

    /// A message for this person was committed.
    pub(super) fn tell(&self, receiver: u32) {
        if self.told.try_send(receiver).is_err() {
            tracing::debug!(receiver, "not told");
        }
    }

    /// What wakes this person.
    pub(super) fn hear(&self, index: u32) -> Arc<Notify> {
        self.ears.of(index)
    }
}

impl Ears {
    fn of(&self, index: u32) -> Arc<Notify> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(index).or_default().clone()
    }

    fn wake(&self, payload: &str) {
        let woken = payload.parse().ok().and_then(|index: u32| {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&index).cloned()
        });
        if let Some(woken) = woken {
            woken.notify_one();
        }
    }
}

async fn tell(pool: Arc<Pool>, channel: String, mut receivers: mpsc::Receiver<u32>) {
    let mut waiting = Vec::new();
    loop {
        let told: Result<(), PeerError> = async {
            let client = pool.client().await?;
            let notify =
                client.prepare("SELECT pg_notify($1, receiver::text) FROM unnest($2::int[]) AS receiver");
            let notify = notify.await.map_err(|error| failed("prepare a notification", error))?;
            while receivers.recv_many(&mut waiting, AT_ONCE).await > 0 {
                waiting.sort_unstable();
                waiting.dedup();
                let people: Vec<i32> = waiting.drain(..).map(super::mailbox::number).collect();
                client
                    .execute(&notify, &[&channel, &people])
                    .await
                    .map_err(|error| failed("notify", error))?;
            }
            Ok(())
        }
        .await;
        let Err(error) = told else { return };
        tracing::debug!(?error, "nobody is told for a while");
        sleep(AGAIN_AFTER).await;
    }
}

async fn listen(pool: Arc<Pool>, channel: String, ears: Arc<Ears>) {
    loop {
        let heard: Result<(), PeerError> = async {
            let (client, connection) = pool.connection().await?;
            let notifications = pool::notifications(connection, |payload| ears.wake(payload));
            let listen = async {
                client.batch_execute(&format!("LISTEN {channel}")).await?;
                // The client is what keeps the connection.
                std::future::pending::<Result<(), tokio_postgres::Error>>().await
            };
            let ended = tokio::select! { ended = notifications => ended, ended = listen => ended };
            ended.map_err(|error| failed("listen", error))
        }
        .await;
        tracing::debug!(?heard, "nobody hears for a while");
        sleep(AGAIN_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_named_is_woken_and_nobody_else() {
        let ears = Ears::default();
        let (seventh, eighth) = (ears.of(7), ears.of(8));
        for payload in ["7", "9", "not a number", ""] {
            ears.wake(payload);
        }
        seventh.notified().await;
        assert!(tokio::time::timeout(Duration::ZERO, eighth.notified()).await.is_err());
    }
}
