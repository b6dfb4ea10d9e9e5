//! Keeps one link up: connects, hands over what arrives, and connects again somewhere else when it is lost.
//!
//! What flows over the link is the business of its [`Traffic`]: interest comes in on one link, hints go out on another.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use spillway_chassis::Tasks;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};

use super::link::{Dialer, Link, LinkError, Ping};
use super::metrics::LinkMetrics;
use super::protocol::{self, Message, ServerInfo, ServerOp};
use super::servers::{Server, Servers};
use super::state::LinkState;

const TICK: Duration = Duration::from_secs(1);

/// As the servers' own `ping_interval`: 20 s, and a server that has missed two is gone.
const TICKS_PER_PING: u32 = 20;
const MISSED_PINGS_MAX: u32 = 2;

/// Before the nth try in a row: a random time below 100 ms times 2^n, so that the processes of a fleet do not come back
/// as one, and below 2 s, so that nobody waits long for a server that is back.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A link that lasted so long was good, and its loss starts a new count.
const STABLE: Duration = Duration::from_secs(10);

/// A server in lame duck mode gives 10 s before it begins to throw clients out.
const LAME_DUCK_TICKS_MAX: u32 = 5;

/// For the last hints when the process ends.
const FINISH_MAX: Duration = Duration::from_secs(1);

pub(super) trait Traffic: Send + 'static {
    fn connected(&mut self, info: &ServerInfo);

    /// Gives the link what there is to write, as long as it has little.
    fn refill(&mut self, link: &mut Link);

    fn message(&mut self, message: &Message);

    /// The server has handled everything before a [`Ping::Barrier`]. They come in order.
    fn confirmed(&mut self);

    /// The server does not permit something. The link stays up.
    fn denied(&mut self, denial: Denial<'_>);

    /// Once a second while connected.
    fn tick(&mut self, link: &mut Link);

    fn disconnected(&mut self);

    /// There will be no other connection.
    fn closed(&mut self);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial<'a> {
    Subscribe(&'a str),
    Publish(&'a str),
}

impl<'a> Denial<'a> {
    /// From the text of an error such as `Permissions Violation for Subscription to "d.0.ab"`.
    fn parse(error: &'a str) -> Option<Self> {
        let (kind, rest) = error.strip_prefix("Permissions Violation for ")?.split_once(" to \"")?;
        let (subject, _queue) = rest.split_once('"')?;
        match kind {
            "Subscription" => Some(Self::Subscribe(subject)),
            "Publish" => Some(Self::Publish(subject)),
            _ => None,
        }
    }
}

pub(super) struct Session<T> {
    /// For logs.
    pub(super) name: String,
    pub(super) traffic: T,
    /// Notified when the traffic has something to send.
    pub(super) wake: Arc<Notify>,
    pub(super) dialer: Arc<Dialer>,
    pub(super) servers: Servers,
    pub(super) state: watch::Sender<LinkState>,
    pub(super) metrics: LinkMetrics,
}

/// What a connection remembers while it lasts.
#[derive(Default)]
struct Life {
    ticks: u32,
    missed: u32,
    /// When this many ticks have passed, go somewhere else.
    leave_at: Option<u32>,
}

impl<T: Traffic> Session<T> {
    pub(super) fn spawn(self, tasks: &Tasks) {
        let cancelled = tasks.cancelled();
        tasks.spawn_critical("hint link", async move { self.run(cancelled).await });
    }

    async fn run(mut self, cancelled: impl Future<Output = ()> + Send) {
        let mut cancelled = pin!(cancelled);
        let mut tries = 0;
        let mut connections = 0_u64;
        loop {
            let server = self.servers.next();
            let opened = tokio::select! {
                biased;
                () = &mut cancelled => break,
                opened = pause_and_open(tries, &server, &self.dialer) => opened,
            };
            let error = match opened {
                Err(error) => error,
                Ok(link) => {
                    connections += 1;
                    if connections > 1 {
                        self.metrics.reconnects.inc();
                    }
                    let began = Instant::now();
                    let Some(error) = self.serve(link, &server, cancelled.as_mut()).await else {
                        break;
                    };
                    if began.elapsed() >= STABLE {
                        tries = 0;
                    }
                    error
                }
            };
            tries += 1;
            self.report(&server, &error);
        }
        self.state.send_replace(LinkState::Disconnected { why: "the process is ending".into() });
        self.traffic.closed();
    }

    /// `None`: cancelled.
    async fn serve(
        &mut self,
        mut link: Link,
        server: &Server,
        mut cancelled: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Option<LinkError> {
        tracing::info!(link = self.name, server = ?server, "connected to NATS");
        self.servers.discover(server, &link.info.connect_urls);
        self.traffic.connected(&link.info);
        self.metrics.connected.inc();
        self.state.send_replace(LinkState::Connected);
        let error = tokio::select! {
            biased;
            () = &mut cancelled => None,
            error = self.exchange(&mut link, server) => Some(error),
        };
        if error.is_none() {
            self.finish(&mut link).await;
        }
        self.metrics.connected.dec();
        self.traffic.disconnected();
        error
    }

    /// Until the link is lost. Cancel-safe: what was begun stays in the link.
    async fn exchange(&mut self, link: &mut Link, server: &Server) -> LinkError {
        let mut ticks = every_second();
        let mut life = Life::default();
        life.on_info(&link.info);
        loop {
            self.traffic.refill(link);
            let step = tokio::select! {
                moved = link.io() => match moved {
                    Ok(()) => self.on_input(link, server, &mut life),
                    Err(error) => Err(error),
                },
                () = self.wake.notified() => Ok(()),
                _ = ticks.tick() => {
                    self.traffic.tick(link);
                    life.tick(link)
                }
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    fn on_input(&mut self, link: &mut Link, server: &Server, life: &mut Life) -> Result<(), LinkError> {
        while let Some(op) = link.next_op()? {
            match op {
                ServerOp::Message(message) => self.traffic.message(&message),
                ServerOp::Ping => link.send(Bytes::from_static(protocol::PONG)),
                ServerOp::Pong => {
                    life.missed = 0;
                    if link.pong() == Some(Ping::Barrier) {
                        self.traffic.confirmed();
                    }
                }
                ServerOp::Info(info) => {
                    self.servers.discover(server, &info.connect_urls);
                    life.on_info(&info);
                }
                ServerOp::Ok => {}
                ServerOp::Err(text) => match Denial::parse(&text) {
                    Some(denial) => self.traffic.denied(denial),
                    // "Slow Consumer", "Stale Connection", "Authorization Violation", limits: the server closes after
                    // most of them, and what the rest have cost is not said.
                    None => return Err(LinkError::Server(text)),
                },
            }
        }
        Ok(())
    }

    /// Writes what is left, and waits until the server has it: closing at once could take back what was sent.
    async fn finish(&mut self, link: &mut Link) {
        self.traffic.refill(link);
        link.ping(Ping::KeepAlive);
        let emptied = async {
            while link.pings() > 0 {
                link.io().await?;
                while let Some(op) = link.next_op()? {
                    if op == ServerOp::Pong {
                        link.pong();
                    }
                }
            }
            Ok::<_, LinkError>(())
        };
        if !matches!(timeout(FINISH_MAX, emptied).await, Ok(Ok(()))) {
            tracing::info!(link = self.name, "the last hints may not have reached NATS");
        }
    }

    fn report(&self, server: &Server, error: &LinkError) {
        let state = LinkState::because(&server.address(), error);
        let LinkState::Disconnected { why } = &state else { return };
        let was = self.state.borrow().clone();
        if was.is_connected() || was == LinkState::initial() {
            tracing::warn!(link = self.name, %why, "not connected to NATS, trying again");
        } else {
            tracing::debug!(link = self.name, %why, "still not connected to NATS");
        }
        self.state.send_replace(state);
    }
}

impl Life {
    fn on_info(&mut self, info: &ServerInfo) {
        if info.ldm && self.leave_at.is_none() {
            self.leave_at = Some(self.ticks + rand::rng().random_range(1..=LAME_DUCK_TICKS_MAX));
        }
    }

    fn tick(&mut self, link: &mut Link) -> Result<(), LinkError> {
        self.ticks += 1;
        if self.leave_at.is_some_and(|at| self.ticks >= at) {
            return Err(LinkError::LameDuck);
        }
        if self.ticks.is_multiple_of(TICKS_PER_PING) {
            if link.pings() > 0 {
                self.missed += 1;
            }
            if self.missed >= MISSED_PINGS_MAX {
                return Err(LinkError::Stale);
            }
            link.ping(Ping::KeepAlive);
        }
        Ok(())
    }
}

async fn pause_and_open(tries: u32, server: &Server, dialer: &Dialer) -> Result<Link, LinkError> {
    if tries > 0 {
        let longest = BACKOFF_FIRST.saturating_mul(1 << tries.min(10)).min(BACKOFF_MAX);
        let pause = longest.mul_f64(rand::rng().random());
        sleep(pause).await;
    }
    Link::open(server, dialer).await
}

fn every_second() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_name_the_subject() {
        for (text, expected) in [
            ("Permissions Violation for Subscription to \"d.0.ab\"", Some(Denial::Subscribe("d.0.ab"))),
            (
                "Permissions Violation for Subscription to \"a\" using queue \"q\"",
                Some(Denial::Subscribe("a")),
            ),
            ("Permissions Violation for Publish to \"ev.acct\"", Some(Denial::Publish("ev.acct"))),
            ("Authorization Violation", None),
        ] {
            assert_eq!(Denial::parse(text), expected);
        }
    }
}
