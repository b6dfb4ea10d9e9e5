//! Somebody's device at a peer, until the run is over: takes mail, writes it into the ledger, acknowledges it, and loses and finds
//! the connection as the load says, with the pauses of Spillway's client.

use std::sync::Arc;

use rand::Rng;
use spillway_client::Dedup;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

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
    /// Not to be online now, other than when a session was to be opened and was not.
    away: bool,
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
    Some(PeerLife { device, away: true, orders })
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
        self.away = false;
        self.device.open(world, OPEN_SESSION).await;
    }

    /// Lives until the run is over.
    pub(crate) async fn live(mut self, world: Arc<World>) {
        let mut away = self.away;
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
        while comeback.is_due(world).await {
            if self.open(world, RECONNECT).await {
                world.stats().record(BACK, since, since, Instant::now(), Outcome::Ok);
                return;
            }
        }
    }

    async fn open(&mut self, world: &World, operation: Operation) -> bool {
        let timer = world.stats().start(operation, Instant::now());
        match within(world, self.peer.open(self.user.index())).await {
            Ok(session) => {
                timer.finish(Outcome::Ok);
                self.incoming = Some(session.incoming);
                self.user.has(Some(session.outgoing));
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

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    use std::time::Duration;

    use arc_swap::ArcSwap;
    use spillway_client::{ClientConfig, Meter};
    use tokio::sync::watch;
    use tokio::task::JoinSet;

    use super::*;
    use crate::codes::Phones;
    use crate::cohorts::Crowd;
    use crate::ledger::{Counts, Ledger};
    use crate::load::Behaviour;
    use crate::peer::fake::{Fake, Fault};
    use crate::population::Population;
    use crate::room::Room;
    use crate::stats::{Phase, Stats};
    use crate::summary::EXISTING_SEND;
    use crate::workers::Offset;
    use crate::workload::Habits;

    const MESSAGES: u64 = 100;

    fn world() -> Arc<World> {
        let phase = Phase { name: "test", from: Duration::ZERO };
        Arc::new(World {
            address: String::new(),
            client: ClientConfig::default(),
            population: Population::new(1),
            existing: 2,
            habits: Habits::default(),
            behaviour: Behaviour::default(),
            newcomers_from: 2,
            phones: Phones::default(),
            crowd: Crowd::polite(2),
            ledger: Ledger::new(1),
            stats: ArcSwap::new(Stats::new(Instant::now(), vec![phase])),
            room: ArcSwap::new(Room::new(Instant::now())),
            room_required: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Running),
            meter: Meter::default(),
            sent_again: AtomicU64::new(0),
            asked_until_recovery: OnceLock::new(),
            sending: AtomicUsize::new(0),
            finishing: AtomicUsize::new(0),
            clock: Offset::default(),
        })
    }

    /// One of two people writes to the other, who loses the connection in the middle.
    async fn played(fault: Fault) -> (Counts, Arc<Stats>) {
        let (world, peer): (_, Arc<dyn Peer>) = (world(), Arc::new(Fake::new(fault)));
        let (mut lives, mut users) = (JoinSet::new(), Vec::new());
        for index in 0..2 {
            let mut life = join(peer.clone(), &world, index).await.unwrap();
            life.begin(&world).await;
            users.push(life.user().clone());
            lives.spawn(life.live(world.clone()));
        }
        for n in 0..MESSAGES {
            if n == MESSAGES / 2 {
                users[1].order(Order::Lose { away: Duration::from_secs(1) });
            }
            users[0].send_to(&world, &users[1].contact(), Instant::now(), None).await;
        }
        // What has not come by now does not come: time is the test's own, and goes on when there is nothing else to do.
        sleep(Duration::from_secs(10)).await;
        let counts = world.ledger.counts();
        world.stage.send_replace(Stage::Over);
        while lives.join_next().await.is_some() {}
        (counts, world.stats())
    }

    #[tokio::test(start_paused = true)]
    async fn everything_arrives_once_although_the_connection_is_lost() {
        let (counts, stats) = played(Fault::None).await;
        let expected = Counts { sent: MESSAGES, acked: MESSAGES, delivered: MESSAGES, ..Counts::default() };
        assert_eq!(counts, expected);
        let totals = |operation| stats.totals(operation).ok;
        assert_eq!((totals(EXISTING_SEND), totals(DELIVER)), (MESSAGES, MESSAGES));
        assert_eq!((totals(OPEN_SESSION), totals(RECONNECT), totals(BACK), totals(SIGN_UP)), (2, 1, 1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_peer_does_wrong_is_counted() {
        let tenth = MESSAGES / 10;
        let of = async |fault| played(fault).await.0;
        assert_eq!(of(Fault::Lost).await.lost, tenth);
        assert_eq!(of(Fault::Copied).await.duplicated, tenth);
        let twice = of(Fault::Twice).await;
        assert_eq!(
            (twice.duplicated, twice.delivered),
            (0, MESSAGES),
            "a client recognises the same message"
        );
        let changed = of(Fault::Changed).await;
        assert_eq!((changed.corrupted, changed.lost), (tenth, tenth));
        let (refused, stats) = played(Fault::Refused).await;
        assert_eq!((refused.acked, refused.lost), (MESSAGES - tenth, 0));
        assert_eq!(stats.totals(EXISTING_SEND).refused, tenth);
    }
}
