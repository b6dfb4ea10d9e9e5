//! People who were there before: online, writing to each other, answering newcomers; they lose their connection and come
//! back when the load says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use rand::Rng;
use spillway_client::{Client, Identity};
use spillway_types::AccountId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::comeback::Comeback;
use super::newcomer::sign_up;
use super::receive::{Arrived, Inbox};
use super::sending::{Letter, send};
use super::{BACK, Contact, DISCOVER, RECONNECT, REPLY, Somebody, Stage, World, outcome};
use crate::cohorts::{self, Cohort};
use crate::stats::Outcome;
use crate::summary::EXISTING_SEND;

/// Orders that may wait for somebody who is busy with one.
pub(crate) const ORDERS_MAX: usize = 64;

/// Someone with an account. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ExistingUser {
    pub index: u32,
    pub identity: Arc<Identity>,
    /// Replaced when the connection is lost.
    client: Arc<ArcSwap<Client>>,
    online: Arc<AtomicBool>,
    orders: mpsc::Sender<Order>,
}

/// What happens to somebody.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// The connection is lost; the way back begins after so long.
    Lose { away: Duration },
    /// The app is opened.
    Come,
}

/// The device of somebody, until the run is over.
#[derive(Debug)]
pub struct Life {
    user: ExistingUser,
    orders: mpsc::Receiver<Order>,
    pub(crate) inbox: Inbox,
}

/// Gives person `index` an account. `None` when the service would not.
pub async fn sign_up_existing(world: &World, index: u32) -> Option<Life> {
    let (client, identity) = sign_up(world, index, Instant::now()).await?;
    let inbox = Inbox::new(client.clone(), identity.clone());
    let (sender, orders) = mpsc::channel(ORDERS_MAX);
    let user = ExistingUser {
        index,
        identity,
        client: Arc::new(ArcSwap::from_pointee(client)),
        online: Arc::new(AtomicBool::new(false)),
        orders: sender,
    };
    Some(Life { user, orders, inbox })
}

impl Somebody for ExistingUser {
    type Account = AccountId;

    fn index(&self) -> u32 {
        self.index
    }

    fn contact(&self) -> Contact {
        Contact { index: self.index, account: self.identity.account() }
    }

    fn is_online(&self) -> bool {
        self.online.load(Relaxed)
    }

    async fn send_to(&self, world: &World, other: &Contact, planned: Instant, bytes: Option<u32>) {
        let letter = Letter { from: self.index, to: other.index, to_account: other.account, bytes };
        let client = self.client.load_full();
        if !world.crowd.is_polite(self.index) {
            return cohorts::write(world, &client, &self.identity, letter, planned).await;
        }
        // Those of the calm are not counted among what the cohorts do at the same time.
        let client = match world.crowd.is_surge(planned) {
            true => Arc::new(client.metered(world.crowd.tally(Cohort::Polite).meter())),
            false => client,
        };
        send(world, &client, &self.identity, letter, EXISTING_SEND, planned).await;
    }

    async fn discover(&self, world: &World, planned: Instant) {
        let habits = &world.habits;
        let (book, _) = world.population.address_book(
            u64::from(self.index),
            habits.contacts,
            habits.contacts_registered,
            u64::from(world.existing),
        );
        let timer = world.stats().start(DISCOVER, planned);
        outcome::finish(timer, self.client.load_full().discover(&self.identity, book).await);
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::debug!(index = self.index, ?order, "not reached");
        }
    }
}

impl Life {
    pub fn user(&self) -> &ExistingUser {
        &self.user
    }

    /// Lives until the run is over, online from the beginning or only when called. Answers the first message of every newcomer.
    pub async fn live(mut self, world: Arc<World>, online: bool) {
        if online {
            self.go_online(&world).await;
        } else {
            self.lose(&world);
        }
        self.serve(&world).await;
    }

    /// Opens the session for the first time.
    pub(crate) async fn go_online(&mut self, world: &World) {
        Box::pin(self.inbox.open(world)).await;
        self.user.online.store(true, Relaxed);
    }

    /// Takes mail, answers newcomers and obeys orders until the run is over. Cancel-safe but for answers that are being sent. What is rare is boxed, because
    /// everybody holds this for the whole run.
    pub(crate) async fn serve(&mut self, world: &Arc<World>) {
        let mut replies = JoinSet::new();
        let over = world.over();
        tokio::pin!(over);
        loop {
            let is_online = self.user.is_online();
            tokio::select! {
                () = &mut over => return,
                // What was kept for somebody is fetched in the end, so that nothing acknowledged is out of sight.
                () = world.reached(Stage::Closing), if !is_online => Box::pin(self.come(world, Instant::now())).await,
                Some(order) = self.orders.recv() => Box::pin(self.obey(world, order)).await,
                arrived = self.inbox.next(world), if is_online => self.reply(world, arrived, &mut replies),
            }
        }
    }

    async fn obey(&mut self, world: &World, order: Order) {
        match order {
            Order::Lose { away } if self.user.is_online() => {
                let lost = Instant::now();
                self.lose(world);
                tokio::select! {
                    () = world.reached(Stage::Closing), if !away.is_zero() => {}
                    () = sleep(away) => {}
                }
                self.come(world, lost + away.min(lost.elapsed())).await;
            }
            Order::Come if !self.user.is_online() => self.come(world, Instant::now()).await,
            Order::Lose { .. } | Order::Come => {}
        }
    }

    /// Session and connection are gone, as if a gateway had died.
    fn lose(&mut self, world: &World) {
        self.user.online.store(false, Relaxed);
        match world.connect_lazily() {
            Ok(client) => {
                self.user.client.store(Arc::new(client.clone()));
                self.inbox.lose(client);
            }
            Err(error) => tracing::warn!(%error, "the connection is kept"),
        }
    }

    /// Tries until there is a session again, with the pauses that clients keep.
    async fn come(&mut self, world: &World, since: Instant) {
        let mut comeback = Comeback::default();
        while comeback.is_due(world).await {
            let timer = world.stats().start(RECONNECT, Instant::now());
            match self.inbox.try_open().await {
                Ok(()) => {
                    timer.finish(Outcome::Ok);
                    self.user.online.store(true, Relaxed);
                    world.stats().record(BACK, since, since, Instant::now(), Outcome::Ok);
                    return;
                }
                Err(error) => timer.finish(outcome::of(&error)),
            }
        }
    }

    fn reply(&self, world: &Arc<World>, arrived: Arrived, replies: &mut JoinSet<bool>) {
        while replies.try_join_next().is_some() {}
        if world.is_existing(arrived.from) {
            return;
        }
        let (from, to) = (self.user.index, arrived.from);
        let letter = Letter { from, to, to_account: arrived.from_account, bytes: None };
        let (me, world) = (self.user.clone(), world.clone());
        replies.spawn(async move {
            send(&world, &me.client.load_full(), &me.identity, letter, REPLY, Instant::now()).await
        });
    }
}

/// For how long somebody whose connection does not hold is away.
pub fn away(world: &World) -> Duration {
    let (from, to) = world.behaviour.away.unwrap_or_default();
    from + (to.saturating_sub(from)).mul_f64(rand::rng().random())
}
