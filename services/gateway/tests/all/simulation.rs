//! A device that comes and goes while mail arrives and half of the hints are lost.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use spillway_admission::{Limit, LimitOverride, QuotaConfig};
use spillway_api::v1::session_response::Frame;
use spillway_gateway::Config;

use super::support::{Device, Known, Node, message};

/// Unacked ids of the present session, and what it has delivered.
#[derive(Default)]
struct Session {
    delivered: HashSet<Bytes>,
    unacked: Vec<Bytes>,
}

struct Run {
    node: Node,
    sender: Known,
    receiver: Vec<Known>,
    device: Device,
    session: Session,
    /// How often each guid has been delivered.
    seen: HashMap<Bytes, usize>,
    sent: HashSet<Bytes>,
}

impl Run {
    async fn start() -> Self {
        let mut quotas = QuotaConfig::default();
        for limit in [Limit::Messages, Limit::SessionOpen] {
            quotas.set(limit, LimitOverride { enabled: false, ..Default::default() });
        }
        let node = Node::with(Config::default(), quotas);
        let (sender, receiver) = (node.account(1).remove(0), node.account(1));
        let device = Device::open(&node, &receiver[0]).await;
        let (session, seen, sent) = (Session::default(), HashMap::new(), HashSet::new());
        Self { node, sender, receiver, device, session, seen, sent }
    }

    async fn send(&mut self, hint_is_lost: bool) {
        self.node.mailbox.state().loses_hints = hint_is_lost;
        let request = message(&self.receiver, "x");
        self.sent.insert(request.guid.clone());
        self.node.send(&self.sender, request).await.unwrap();
    }

    async fn receive(&mut self, time: Duration) {
        for frame in self.device.frames_within(time).await {
            if let Frame::Delivery(delivery) = frame {
                let is_new = self.session.delivered.insert(delivery.id.clone());
                assert!(is_new, "delivered twice in one session");
                self.session.unacked.push(delivery.id);
                *self.seen.entry(delivery.guid).or_default() += 1;
            }
        }
        assert!(self.session.unacked.len() <= 256);
    }

    async fn ack(&mut self, rng: &mut SmallRng) {
        let count = rng.random_range(0..=self.session.unacked.len());
        let ids: Vec<_> = self.session.unacked.drain(..count).take(256).collect();
        self.device.ack(&ids).await;
    }

    async fn reconnect(&mut self) {
        self.node.clock.advance(Duration::from_millis(1));
        self.device = Device::open(&self.node, &self.receiver[0]).await;
        self.session = Session::default();
    }
}

async fn run(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut run = Run::start().await;
    for _ in 0..400 {
        match rng.random_range(0..100_u8) {
            0..50 => {
                for _ in 0..rng.random_range(1..8) {
                    run.send(rng.random_bool(0.5)).await;
                }
            }
            50..75 => run.receive(Duration::from_millis(rng.random_range(0..3_000))).await,
            75..97 => run.ack(&mut rng).await,
            97.. => run.reconnect().await,
        }
    }
    // A sweep comes at least every six minutes.
    for _ in 0..8 {
        run.receive(Duration::from_secs(360)).await;
        let unacked = std::mem::take(&mut run.session.unacked);
        run.device.ack(&unacked).await;
    }
    run.receive(Duration::from_secs(1)).await;
    let seen: HashSet<_> = run.seen.keys().cloned().collect();
    assert_eq!(seen, run.sent, "everything sent was delivered, and nothing else");
    assert_eq!(run.node.mailbox.stored(run.receiver[0].mailbox), [], "everything acked was deleted");
}

#[tokio::test(start_paused = true)]
async fn everything_sent_is_delivered_and_nothing_twice_in_a_session() {
    for seed in 0..8 {
        println!("seed {seed}");
        run(seed).await;
    }
}
