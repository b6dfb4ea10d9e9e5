//! Who acts for the fleet, seen from outside by asking every process of the role ten times a second.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use spillway_fleet::{Fleet, NodeKind, Role, http_get};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct ControlWatch {
    seen: Arc<Mutex<Seen>>,
    _polls: JoinSet<()>,
}

/// A process that says that it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) admin: SocketAddr,
    pub(super) token: u64,
}

#[derive(Debug, Default)]
struct Seen {
    /// With the highest token so far, and when it was first seen.
    holder: Option<(Holder, Instant)>,
    violations: Vec<String>,
}

/// The part of `/control` that matters here.
#[derive(Deserialize)]
struct Page {
    acting: bool,
    lease: Option<Lease>,
}

#[derive(Deserialize)]
struct Lease {
    token: u64,
}

impl Seen {
    /// `before` is who was known to act when the question was asked.
    fn answered(&mut self, acts: Holder, before: Option<Holder>) {
        if let Some(before) = before {
            if acts.token < before.token {
                self.violations.push(format!(
                    "{} acts under token {} after {} has acted under {}",
                    acts.admin, acts.token, before.admin, before.token
                ));
            } else if acts.token == before.token && acts.admin != before.admin {
                self.violations.push(format!("{} and {} act under one token", acts.admin, before.admin));
            }
        }
        if self.holder.is_none_or(|(holder, _)| holder.token < acts.token) {
            self.holder = Some((acts, Instant::now()));
        }
    }
}

impl ControlWatch {
    pub(super) fn start(fleet: &Fleet) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut polls = JoinSet::new();
        for node in fleet.nodes().iter().filter(|node| node.kind() == NodeKind::Role(Role::Control)) {
            if let Some(admin) = node.endpoint("admin") {
                polls.spawn(poll(admin, seen.clone()));
            }
        }
        Self { seen, _polls: polls }
    }

    pub(super) fn holder(&self) -> Option<Holder> {
        lock(&self.seen).holder.map(|(holder, _)| holder)
    }

    /// When somebody was first seen to act under a higher token than `token`; none when nobody does by `until`.
    pub(super) async fn successor(&self, token: u64, until: Instant) -> Option<Instant> {
        loop {
            let holder = lock(&self.seen).holder;
            if let Some((_, since)) = holder.filter(|(holder, _)| holder.token > token) {
                return Some(since);
            }
            if Instant::now() >= until {
                return None;
            }
            sleep(EVERY / 4).await;
        }
    }

    /// What must not have happened since the last call.
    pub(super) fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen).violations)
    }
}

async fn poll(admin: SocketAddr, seen: Arc<Mutex<Seen>>) {
    loop {
        let before = lock(&seen).holder.map(|(holder, _)| holder);
        if let Some(token) = acting(admin).await {
            lock(&seen).answered(Holder { admin, token }, before);
        }
        sleep(EVERY).await;
    }
}

/// The token under which a process acts; none when it does not, or is not there.
async fn acting(admin: SocketAddr) -> Option<u64> {
    let (_, body) = http_get(admin, "/control").await.ok()?;
    let page: Page = serde_json::from_str(&body).ok()?;
    page.lease.filter(|_| page.acting).map(|lease| lease.token)
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_older_holder_that_still_acts_is_a_violation() {
        let holder = |port, token| Holder { admin: SocketAddr::from(([127, 0, 0, 1], port)), token };
        let mut seen = Seen::default();
        seen.answered(holder(1, 1), None);
        seen.answered(holder(2, 2), Some(holder(1, 1)));
        // Asked before the other one was known to act.
        seen.answered(holder(1, 1), Some(holder(1, 1)));
        assert!(seen.violations.is_empty());
        seen.answered(holder(1, 1), Some(holder(2, 2)));
        seen.answered(holder(1, 2), Some(holder(2, 2)));
        assert_eq!(seen.violations.len(), 2);
        assert_eq!(seen.holder.unwrap().0, holder(2, 2));
    }
}
