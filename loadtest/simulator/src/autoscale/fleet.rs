//! Pods of one role: the deployment that is always there, and its burst.

use super::cluster::{Cluster, Place};
use super::setting::Setting;
use crate::random::Stream;

/// Whose pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    Main,
    Burst,
}

/// Replicas as they are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    pub main: u32,
    pub burst: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pod {
    pub(super) pool: Pool,
    pub(super) start: Option<Start>,
    /// Until when it drains.
    leaves_at: Option<u64>,
}

/// Of a pod that has its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    node: usize,
    /// When its container runs, when it says that it is ready, and when calls reach it.
    pub(super) runs_at: u64,
    pub(super) ready_at: u64,
    serves_at: u64,
}

#[derive(Debug)]
pub(super) struct Fleet {
    pods: Vec<Pod>,
    cluster: Cluster,
    setting: Setting,
    chance: Stream,
}

impl Fleet {
    /// The least replicas, which have been there for long.
    pub(super) fn new(setting: &Setting, seed: u64) -> Self {
        let mut fleet = Self {
            pods: Vec::new(),
            cluster: Cluster::new(setting, seed),
            setting: *setting,
            chance: Stream::new(seed, 1),
        };
        for _ in 0..setting.least {
            if let Some(Place { node, .. }) = fleet.cluster.place(0) {
                let start = Some(Start { node, runs_at: 0, ready_at: 0, serves_at: 0 });
                fleet.pods.push(Pod { pool: Pool::Main, start, leaves_at: None });
            }
        }
        fleet
    }

    pub(super) fn order(&mut self, now: u64, replicas: Replicas) {
        for (pool, wanted) in [(Pool::Main, replicas.main), (Pool::Burst, replicas.burst)] {
            let present = self.of(pool).count() as u32;
            for _ in present..wanted {
                self.pods.push(Pod { pool, start: None, leaves_at: None });
            }
            for _ in wanted..present {
                self.dismiss(now, pool);
            }
        }
    }

    /// Pods find their places, and who has drained is gone.
    pub(super) fn step(&mut self, now: u64) {
        for at in (0..self.pods.len()).rev() {
            let Pod { start, leaves_at, .. } = self.pods[at];
            if leaves_at.is_some_and(|leaves_at| leaves_at <= now) {
                if let Some(start) = start {
                    self.cluster.leave(start.node, now);
                }
                self.pods.remove(at);
            }
        }
        let mut waiting = 0;
        for at in 0..self.pods.len() {
            if self.pods[at].start.is_some() {
                continue;
            }
            match self.cluster.place(now) {
                Some(place) => self.pods[at].start = Some(self.start(place)),
                None => waiting += 1,
            }
        }
        self.cluster.step(now, waiting);
    }

    /// Whoever is not leaving.
    pub(super) fn of(&self, pool: Pool) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(move |pod| pod.pool == pool && pod.leaves_at.is_none())
    }

    pub(super) fn ready(&self, pool: Pool, now: u64) -> u32 {
        self.of(pool).filter(|pod| pod.start.is_some_and(|start| start.ready_at <= now)).count() as u32
    }

    pub(super) fn serving(&self, now: u64) -> u32 {
        let serves =
            |pod: &&Pod| pod.leaves_at.is_none() && pod.start.is_some_and(|start| start.serves_at <= now);
        self.pods.iter().filter(serves).count() as u32
    }

    /// Pods that take room, those that start and drain included.
    pub(super) fn present(&self) -> u32 {
        self.pods.iter().filter(|pod| pod.start.is_some()).count() as u32
    }

    pub(super) fn nodes(&self) -> u32 {
        self.cluster.nodes()
    }

    fn start(&mut self, place: Place) -> Start {
        let delays = &self.setting.delays;
        let chance = &mut self.chance;
        let runs_at = place.image_at;
        let ready = delays.start.draw(chance) + delays.probe.draw(chance);
        let ready_at = runs_at + ready.round() as u64;
        let serves_at = ready_at + delays.discovery.draw(chance).round() as u64;
        Start { node: place.node, runs_at, ready_at, serves_at }
    }

    /// As a ReplicaSet chooses: who has no place, then who is not ready, then the youngest.
    fn dismiss(&mut self, now: u64, pool: Pool) {
        let age = |start: Option<Start>| start.map_or(u64::MAX, |start| start.ready_at);
        let chosen = self
            .pods
            .iter_mut()
            .filter(|pod| pod.pool == pool && pod.leaves_at.is_none())
            .max_by_key(|pod| age(pod.start));
        if let Some(pod) = chosen {
            let serves = pod.start.is_some_and(|start| start.ready_at <= now);
            pod.leaves_at = Some(if serves { now + self.setting.delays.drain } else { now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_on_a_warm_node_serves_after_seconds_and_leaves_after_its_drain() {
        let setting = Setting::default();
        let mut fleet = Fleet::new(&setting, 1);
        assert_eq!((fleet.serving(0), fleet.present()), (9, 9));
        fleet.order(1, Replicas { main: 10, burst: 12 });
        let mut served_at = Vec::new();
        for now in 1..200 {
            fleet.step(now);
            if fleet.serving(now) >= 20 {
                served_at.push(now);
            }
        }
        assert!((5..=20).contains(&served_at[0]), "{served_at:?}");
        assert_eq!(fleet.ready(Pool::Burst, 199) + fleet.ready(Pool::Main, 199), 22);

        fleet.order(200, Replicas { main: 9, burst: 0 });
        fleet.step(200);
        assert_eq!((fleet.serving(200), fleet.present()), (9, 22));
        (201..=360).for_each(|now| fleet.step(now));
        assert_eq!(fleet.present(), 9);
    }

    #[test]
    fn who_never_served_leaves_at_once() {
        let mut fleet = Fleet::new(&Setting::default(), 1);
        fleet.order(1, Replicas { main: 60, burst: 0 });
        fleet.step(1);
        fleet.order(2, Replicas { main: 9, burst: 0 });
        fleet.step(2);
        assert_eq!((fleet.present(), fleet.serving(2)), (9, 9));
    }
}
