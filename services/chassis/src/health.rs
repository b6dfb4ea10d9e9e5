//! Which components can do their work, and whether the process should get traffic.
//!
//! *Live* is false only after something fatal: a restart would help. *Ready* is true when every component is ready
//! and no drain has begun. A process without components is ready, so components register before any port opens. The
//! states live in one `watch`: reading takes no await and followers see every change of readiness.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::DrainHandle;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "snake_case")]
pub enum Condition {
    Starting(String),
    Ready,
    NotReady(String),
}

/// The health of one process. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    components: Arc<watch::Sender<Components>>,
    drain: DrainHandle,
}

type Components = BTreeMap<&'static str, Condition>;

/// The right to change one component's condition.
#[derive(Clone, Debug)]
pub struct Component {
    name: &'static str,
    components: Arc<watch::Sender<Components>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    pub live: bool,
    pub ready: bool,
    /// During a drain there is one more, named `process`: not ready, `draining`.
    pub components: BTreeMap<&'static str, Condition>,
}

/// Follows readiness.
#[derive(Debug)]
pub struct HealthWatch {
    health: Health,
    components: watch::Receiver<Components>,
    last: bool,
}

impl Health {
    pub fn new(drain: DrainHandle) -> Self {
        Self { components: Arc::new(watch::Sender::new(Components::new())), drain }
    }

    /// Registers a component, which keeps the process from being ready until [`Component::ready`].
    ///
    /// # Panics
    ///
    /// When the name is taken: two owners would overwrite each other's condition.
    pub fn component(&self, name: &'static str, starting: impl Into<String>) -> Component {
        let mut taken = false;
        let condition = Condition::Starting(starting.into());
        self.components.send_modify(|components| taken = components.insert(name, condition).is_some());
        assert!(!taken, "health component {name} is registered twice");
        Component { name, components: Arc::clone(&self.components) }
    }

    pub fn is_live(&self) -> bool {
        self.drain.is_live()
    }

    pub fn is_ready(&self) -> bool {
        self.is_live() && !self.drain.is_draining() && all_ready(&self.components.borrow())
    }

    pub fn report(&self) -> HealthReport {
        let mut components = self.components.borrow().clone();
        if self.drain.is_draining() {
            components.insert("process", Condition::NotReady("draining".to_owned()));
        }
        let live = self.is_live();
        HealthReport { live, ready: live && all_ready(&components), components }
    }

    pub fn watch(&self) -> HealthWatch {
        // Subscribed before the value is read, so no change falls between the two.
        let components = self.components.subscribe();
        HealthWatch { components, last: self.is_ready(), health: self.clone() }
    }
}

fn all_ready(components: &Components) -> bool {
    components.values().all(|condition| *condition == Condition::Ready)
}

impl Component {
    pub fn ready(&self) {
        self.set(Condition::Ready);
    }

    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Condition::NotReady(reason.into()));
    }

    pub fn starting(&self, reason: impl Into<String>) {
        self.set(Condition::Starting(reason.into()));
    }

    fn set(&self, condition: Condition) {
        self.components.send_if_modified(|components| {
            let changed = components.get(self.name) != Some(&condition);
            if changed {
                tracing::info!(component = self.name, ?condition, "health changed");
                components.insert(self.name, condition);
            }
            changed
        });
    }
}

impl HealthWatch {
    /// Whether the process was ready when last looked at.
    pub fn is_ready(&self) -> bool {
        self.last
    }

    /// Waits until readiness differs from [`HealthWatch::is_ready`] and returns the new value. After a drain has
    /// begun the answer is final, and a call that has already told so waits for ever. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        loop {
            let now = self.health.is_ready();
            if now != self.last {
                self.last = now;
                return now;
            }
            let drain = &self.health.drain;
            tokio::select! {
                () = drain.ended_service(), if now => {}
                changed = self.components.changed() => changed.expect("self holds the sender"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Drain, Tasks};

    fn health() -> (Drain, Health) {
        let drain = Drain::new(&Tasks::new());
        let health = Health::new(drain.handle());
        (drain, health)
    }

    #[test]
    fn every_component_must_be_ready() {
        let (_drain, health) = health();
        let store = health.component("store", "replaying journal");
        let bus = health.component("bus", "connecting");
        store.ready();
        assert!(!health.is_ready());
        bus.ready();
        assert!(health.is_ready() && health.report().ready);
        store.not_ready("disk full");
        assert!(!health.is_ready());

        let report = serde_json::to_value(health.report()).unwrap();
        assert_eq!(
            report,
            serde_json::json!({
                "live": true,
                "ready": false,
                "components": {
                    "bus": { "state": "ready" },
                    "store": { "state": "not_ready", "reason": "disk full" },
                },
            })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_sees_ready_and_then_the_drain() {
        let (drain, health) = health();
        let store = health.component("store", "opening");
        let mut watch = health.watch();
        assert!(!watch.is_ready());

        store.starting("replaying");
        let tick = Duration::from_secs(1);
        assert!(tokio::time::timeout(tick, watch.changed()).await.is_err(), "still starting is no change");
        store.ready();
        assert!(watch.changed().await);

        drain.handle().begin();
        assert!(!watch.changed().await);
        let report = health.report();
        assert!(report.live && !report.ready);
        assert_eq!(report.components["process"], Condition::NotReady("draining".to_owned()));
    }

    #[tokio::test]
    async fn a_fatal_report_ends_live_and_ready() {
        let (drain, health) = health();
        let mut watch = health.watch();
        drain.handle().fatal("fsync failed");
        assert!(!watch.changed().await);
        assert!(!health.is_live() && !health.report().live);
    }

    #[test]
    #[should_panic = "registered twice"]
    fn a_name_has_one_owner() {
        let (_drain, health) = health();
        let _first = health.component("store", "opening");
        let _second = health.component("store", "opening");
    }
}
