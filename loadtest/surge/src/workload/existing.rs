//! People who were there before: always online, writing to each other, answering newcomers.

use std::sync::Arc;

use spillway_client::{Client, Identity};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::newcomer::sign_up;
use super::receive::Inbox;
use super::sending::{Letter, send};
use super::{REPLY, World};
use crate::summary::EXISTING_SEND;

/// Someone with an account, online. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ExistingUser {
    pub index: u32,
    pub client: Client,
    pub identity: Arc<Identity>,
}

/// Gives person `index` an account. `None` when the service would not.
pub async fn sign_up_existing(world: &World, index: u32) -> Option<ExistingUser> {
    let (client, identity) = sign_up(world, index, Instant::now()).await?;
    Some(ExistingUser { index, client, identity })
}

impl ExistingUser {
    /// Sends one planned message to `other`.
    pub async fn send_to(&self, world: &World, other: &ExistingUser, planned: Instant) {
        let letter = Letter { from: self.index, to: other.index, to_account: other.identity.account() };
        send(world, &self.client, &self.identity, letter, EXISTING_SEND, planned).await;
    }

    /// Stays online until the run is over. Answers the first message of every newcomer.
    pub async fn stay_online(self, world: Arc<World>) {
        let mut inbox = Inbox::new(self.client.clone(), self.identity.clone());
        inbox.open(&world).await;
        let mut replies = JoinSet::new();
        let over = world.over();
        tokio::pin!(over);
        loop {
            let arrived = tokio::select! {
                () = &mut over => return,
                arrived = inbox.next(&world) => arrived,
            };
            while replies.try_join_next().is_some() {}
            if world.is_existing(arrived.from) {
                continue;
            }
            let letter = Letter { from: self.index, to: arrived.from, to_account: arrived.from_account };
            let (me, world) = (self.clone(), world.clone());
            replies.spawn(async move {
                send(&world, &me.client, &me.identity, letter, REPLY, Instant::now()).await
            });
        }
    }
}
