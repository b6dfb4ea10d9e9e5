//! Somebody's device at a peer, until the run is over: takes mail, writes it into the ledger, acknowledges it, and loses and finds
//! the connection as the load says, with the pauses of Spillway's client.

use std::sync::Arc;

use rand::Rng;
use spillway_client::Dedup;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::user::Line;
use super::{Incoming, Mail, Peer, PeerError, PeerUser};
use crate::ledger::Delivery;
use crate::stats::{Operation, Outcome};
use crate::summary::SIGN_UP;
use crate::workload::{
    BACK, Comeback, DELIVER, OPEN_SESSION, ORDERS_MAX, Order, RECONNECT, REOPENS_WITHIN, SEEN_MAX, Somebody,
    Stage, World,
};

#[derive(Debug)]
pub(crate) struct PeerLife {
    device: Device,
    orders: mpsc::Receiver<Order>,
}

#[derive(Debug)]
struct Device {
    user: PeerUser,
    peer: Arc<dyn Peer>,
    incoming: Option<Box<dyn Incoming>>,
    seen: Dedup,
}

/// Gives person `index` an account. `None` when the system would not.
pub(crate) async fn join(peer: Arc<dyn Peer>, world: &World, index: u32) -> Option<PeerLife> {
    let timer = world.stats().start(SIGN_UP, Instant::now());
    match within(world, peer.sign_up(index)).await {
        Ok(()) => timer.finish(Outcome::Ok),
        Err(error) => {
            timer.finish(error.outcome());
            tracing::warn!(index, error = %anyhow::Error::new(error), "no account");
            return None;
        }
    }
    let (sender, orders) = mpsc::channel(ORDERS_MAX);
    let user = PeerUser::new(index, sender);
    let device = Device { user, peer, incoming: None, seen: Dedup::new(SEEN_MAX) };
    Some(PeerLife { device, orders })
}

/// As long as Spillway's client waits for an answer.
async fn within<T>(world: &World, work: impl Future<Output = Result<T, PeerError>>) -> Result<T, PeerError> {
    let late = |_| PeerError::failed("wait for an answer", "deadline_exceeded", "none came in time");
    timeout(world.client.call_timeout, work).await.map_err(late)?
}

impl PeerLife {
    pub(crate) fn user(&self) -> &PeerUser {
        &self.device.user
    }

    /// Opens the session now, if somebody is to be online from the beginning.
    pub(crate) async fn begin(&mut self, world: &World) {
        self.device.open(world, OPEN_SESSION).await;
    }

    /// Lives until the run is over.
    pub(crate) async fn live(mut self, world: Arc<World>) {
        let mut away = !self.device.user.is_online();
        let over = world.over();
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                // What was kept for somebody is fetched in the end, so that nothing acknowledged is out of sight.
                () = world.reached(Stage::Closing), if away => {
                    self.device.come(&world, Instant::now()).await;
                    away = false;
                }
                Some(order) = self.orders.recv() => match order {
                    Order::Lose { away: for_so_long } if !away => {
                        let lost = Instant::now();
                        self.device.lose();
                        tokio::select! {
                            () = world.reached(Stage::Closing), if !for_so_long.is_zero() => {}
                            () = sleep(for_so_long) => {}
                        }
                        self.device.come(&world, lost + for_so_long.min(lost.elapsed())).await;
                    }
                    Order::Come if away => {
                        self.device.come(&world, Instant::now()).await;
                        away = false;
                    }
                    Order::Lose { .. } | Order::Come => {}
                },
                () = self.device.take_mail(&world), if !away => {}
            }
        }
    }
}

impl Device {
    /// Takes one message, or repairs a session that ended. Cancel-safe but for a message that is just being acknowledged, which then
    /// arrives again and is recognised.
    async fn take_mail(&mut self, world: &World) {
        let Some(incoming) = &mut self.incoming else {
            let pause = REOPENS_WITHIN.mul_f64(rand::rng().random());
            sleep(pause).await;
            self.open(world, OPEN_SESSION).await;
            return;
        };
        let taken = match incoming.next().await {
            Ok(mail) => {
                enter(world, &mut self.seen, &mail);
                incoming.ack().await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            tracing::debug!(index = self.user.index(), ?error, "a session ended");
            self.lose();
        }
    }

    fn lose(&mut self) {
        self.user.has(None);
        self.incoming = None;
    }

    /// Tries until there is a session again, with the pauses that clients keep.
    async fn come(&mut self, world: &World, since: Instant) {
        let mut comeback = Comeback::default();
        loop {
            let pause = comeback.pause(&mut rand::rng());
            tokio::select! {
                () = world.over() => return,
                () = sleep(pause) => {}
            }
            if self.open(world, RECONNECT).await {
                break;
            }
        }
        world.stats().record(BACK, since, since, Instant::now(), Outcome::Ok);
    }

    async fn open(&mut self, world: &World, operation: Operation) -> bool {
        let timer = world.stats().start(operation, Instant::now());
        match within(world, self.peer.open(self.user.index())).await {
            Ok(session) => {
                timer.finish(Outcome::Ok);
                self.incoming = Some(session.incoming);
                self.user.has(Some(Line(session.outgoing)));
                true
            }
            Err(error) => {
                timer.finish(error.outcome());
                tracing::debug!(index = self.user.index(), ?error, "no session");
                false
            }
        }
    }
}

/// After the de-duplication that a client does, as with Spillway's.
fn enter(world: &World, seen: &mut Dedup, mail: &Mail) {
    let now = Instant::now();
    if mail.id.is_some_and(|id| !seen.is_new(id)) {
        return;
    }
    if let Delivery::First { sent_at, .. } = world.ledger.delivered(&mail.content) {
        let sent = world.moment(sent_at);
        world.stats().record(DELIVER, sent, sent, now, Outcome::Ok);
    }
}
