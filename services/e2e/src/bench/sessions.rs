//! Idle sessions, each with a connection of its own.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::stream::{self, StreamExt, TryStreamExt};
use spillway_client::{Client, ClientConfig, Session, SessionEvent};

use super::people::User;

/// Sweeps 2 s and 10 s after the hello belong to opening a session; they are over by then.
pub(crate) const SETTLE: Duration = Duration::from_secs(12);

/// Each has said that its mailbox is empty. They last as long as what is returned.
pub(crate) async fn open(address: &str, people: &[User]) -> Result<Vec<Session>> {
    stream::iter(people)
        .map(|user| async {
            let client = Client::connect(address, ClientConfig::default()).await?;
            let mut session = client.open_session(&user.identity).await?;
            match session.next().await?.context("the session ended")? {
                SessionEvent::QueueEmpty => Ok(session),
                other => bail!("an empty mailbox gave {other:?}"),
            }
        })
        .buffer_unordered(32)
        .try_collect()
        .await
}
