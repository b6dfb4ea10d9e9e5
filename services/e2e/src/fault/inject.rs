//! Doing it, and undoing it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use rand::seq::IndexedRandom;
use spillway_fleet::{Fleet, Node, NodeKind, Role};
use tokio::time::{Instant, sleep, sleep_until};

use super::trial::Trial;
use super::{Case, Kill};

/// How long a node of the database stands still, and runs in between.
const STALL: Duration = Duration::from_secs(3);
/// A new holder acts within this time.
const FAILOVER_MAX: Duration = Duration::from_secs(5);

impl Trial<'_> {
    pub(super) async fn inject(&mut self, case: Case) -> Result<()> {
        let jitter = self.random.random_range(0..1_000);
        sleep(Duration::from_millis(jitter)).await;
        match case {
            Case::Kill(kill) => self.kill(&[kill]).await,
            Case::Pair(first, second) => self.kill(&[first, second]).await,
            Case::FreezeMailbox => self.freeze_mailbox().await,
            Case::NatsGone => self.nats_gone().await,
            Case::SlowCassandra => self.slow_cassandra().await,
            Case::Reconnect => self.reconnect().await,
        }
    }

    /// A kill is over at once where another process of its kind is left, and the start of the next one is a fault too.
    async fn kill(&mut self, kills: &[Kill]) -> Result<()> {
        let mut victims = Vec::new();
        for kill in kills {
            victims.push(self.victim(*kill)?);
        }
        let survivable = kills.iter().all(|kill| self.count(kill.node_kind()) > 1);
        let holder = self.scene.watch.holder().filter(|_| kills.contains(&Kill::ControlHolder));
        for name in &victims {
            self.node(name)?.kill().await?;
        }
        let killed = Instant::now();
        println!("  killed {}", victims.join(" and "));
        if let Some(holder) = holder.filter(|_| survivable) {
            match self.scene.watch.successor(holder.token, killed + FAILOVER_MAX).await {
                Some(since) => println!("  another holder after {:.1} s", (since - killed).as_secs_f64()),
                None => self.problem(format!("no holder after {} s", FAILOVER_MAX.as_secs())),
            }
        }
        if survivable {
            self.recovers_from(killed).await;
        }
        sleep_until(killed + self.scene.plan.times.down).await;
        for name in &victims {
            self.node(name)?.launch().await?;
        }
        for name in &victims {
            self.node(name)?.wait_ready().await?;
        }
        self.recovers_from(Instant::now()).await;
        Ok(())
    }

    async fn freeze_mailbox(&mut self) -> Result<()> {
        let name = self.any(NodeKind::Role(Role::Mailbox))?;
        self.node(&name)?.freeze().await?;
        println!("  froze {name}");
        sleep(self.scene.plan.times.frozen).await;
        self.node(&name)?.thaw()?;
        self.recovers_from(Instant::now()).await;
        Ok(())
    }

    async fn nats_gone(&mut self) -> Result<()> {
        for node in self.fleet.of_kind(NodeKind::Nats) {
            node.kill().await?;
        }
        println!("  killed every server of NATS");
        sleep(self.scene.plan.times.nats_gone).await;
        for node in self.fleet.of_kind(NodeKind::Nats) {
            node.launch().await?;
        }
        for node in self.fleet.of_kind(NodeKind::Nats) {
            node.wait_ready().await?;
        }
        self.recovers_from(Instant::now()).await;
        Ok(())
    }

    async fn slow_cassandra(&mut self) -> Result<()> {
        let name = self.any(NodeKind::Cassandra)?;
        println!("  {name} stands still {} times", self.scene.plan.times.stalls);
        for _ in 0..self.scene.plan.times.stalls {
            self.node(&name)?.freeze().await?;
            sleep(STALL).await;
            self.node(&name)?.thaw()?;
            sleep(STALL).await;
        }
        // The last pause was already without a fault.
        self.recovers_from(Instant::now() - STALL).await;
        Ok(())
    }

    async fn reconnect(&mut self) -> Result<()> {
        let dropped = Instant::now();
        self.scene.world.shared.reconnect.send_modify(|times| *times += 1);
        println!("  {} devices dropped their connections", self.scene.world.devices());
        self.recovers_from(dropped).await;
        // That all of them are back is looked at for every case.
        Ok(())
    }

    fn victim(&mut self, kill: Kill) -> Result<String> {
        if kill != Kill::ControlHolder {
            return self.any(kill.node_kind());
        }
        let holder = self.scene.watch.holder().context("nobody acts for the fleet")?;
        let is_holder = |node: &&Node| node.endpoint("admin") == Some::<SocketAddr>(holder.admin);
        let node = self.fleet.nodes().iter().find(is_holder).context("the holder is of another fleet")?;
        Ok(node.name().to_owned())
    }

    /// One of a kind, drawn.
    fn any(&mut self, kind: NodeKind) -> Result<String> {
        let nodes = self.fleet.nodes().iter().filter(|node| node.kind() == kind);
        let names: Vec<_> = nodes.map(|node| node.name().to_owned()).collect();
        names.choose(&mut self.random).cloned().with_context(|| format!("the fleet has no {kind}"))
    }

    fn count(&self, kind: NodeKind) -> usize {
        self.fleet.nodes().iter().filter(|node| node.kind() == kind).count()
    }

    fn node(&mut self, name: &str) -> Result<&mut Node> {
        node(self.fleet, name)
    }
}

fn node<'a>(fleet: &'a mut Fleet, name: &str) -> Result<&'a mut Node> {
    fleet.node(name).with_context(|| format!("the fleet has no {name}"))
}
