//! What a fleet occupies: memory of Spillway's processes, and subscriptions at NATS.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use spillway_fleet::{Fleet, NodeKind, http_get};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    pub(super) resident_bytes: u64,
    /// Of clients, over all servers.
    pub(super) subscriptions: u64,
}

/// Growth by this share and this much is not a leak: buffers and caches fill while something is wrong.
const GROWTH_MAX: f64 = 1.3;
const GROWTH_BYTES_MAX: u64 = 20 << 20;
/// Subscriptions that come and go by themselves, such as those of calls under way.
const SUBSCRIPTIONS_MORE_MAX: u64 = 4;

impl Footprint {
    /// # Errors
    ///
    /// When a server of NATS does not answer.
    pub(super) async fn take(fleet: &Fleet) -> Result<Self> {
        let mut footprint = Self::default();
        for node in fleet.nodes() {
            match node.kind() {
                NodeKind::Role(_) => footprint.resident_bytes += node.resident_bytes().unwrap_or_default(),
                NodeKind::Nats => {
                    let monitor = node.endpoint("monitor").context("a server without a monitor")?;
                    footprint.subscriptions += subscriptions(monitor).await?;
                }
                NodeKind::Cassandra => {}
            }
        }
        Ok(footprint)
    }

    /// What is not back to where it was.
    pub(super) fn growth_since(&self, before: &Self) -> Vec<String> {
        let mut growth = Vec::new();
        let bytes_max = (before.resident_bytes as f64 * GROWTH_MAX) as u64 + GROWTH_BYTES_MAX;
        if self.resident_bytes > bytes_max {
            growth.push(format!(
                "resident memory went from {} MB to {} MB",
                before.resident_bytes >> 20,
                self.resident_bytes >> 20
            ));
        }
        if self.subscriptions.abs_diff(before.subscriptions) > SUBSCRIPTIONS_MORE_MAX {
            let (now, wanted) = (self.subscriptions, before.subscriptions);
            growth.push(format!("{now} subscriptions, and there should be {wanted}"));
        }
        growth
    }
}

/// `/connz`: <https://docs.nats.io/running-a-nats-service/nats_admin/monitoring#connection-information>.
#[derive(Deserialize)]
struct Connections {
    total: u64,
    connections: Vec<Connection>,
}

#[derive(Deserialize)]
struct Connection {
    subscriptions: u64,
}

const CONNECTIONS_MAX: u64 = 1_024;

async fn subscriptions(monitor: SocketAddr) -> Result<u64> {
    let (status, body) = http_get(monitor, &format!("/connz?limit={CONNECTIONS_MAX}"))
        .await
        .with_context(|| format!("the monitor of NATS at {monitor} does not answer"))?;
    ensure!(status == 200, "the monitor of NATS at {monitor} answers {status}");
    let connections: Connections = serde_json::from_str(&body).context("not a list of connections")?;
    ensure!(connections.total <= CONNECTIONS_MAX, "more connections than are listed");
    Ok(connections.connections.iter().map(|connection| connection.subscriptions).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_told_from_the_usual() {
        let before = Footprint { resident_bytes: 100 << 20, subscriptions: 80 };
        let usual = Footprint { resident_bytes: 149 << 20, subscriptions: 77 };
        assert!(usual.growth_since(&before).is_empty());
        let leak = Footprint { resident_bytes: 151 << 20, subscriptions: 85 };
        assert_eq!(leak.growth_since(&before).len(), 2);
    }
}
