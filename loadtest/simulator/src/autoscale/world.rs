//! One run.

use super::curve::Curve;
use super::fleet::{Fleet, Replicas};
use super::gate::Second;
use super::scaler::{Autoscaler, Kind, Seen};
use super::setting::Setting;
use super::views::Views;
use crate::random::Stream;

struct World<'a> {
    curve: &'a Curve,
    setting: &'a Setting,
    fleet: Fleet,
    views: Views,
    scaler: Box<dyn Autoscaler>,
    replicas: Replicas,
    now: u64,
}

/// A second of a run.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub second: Second,
    /// As it was ordered at the end of the second.
    pub replicas: Replicas,
    /// Pods that take room, with those that start and those that drain.
    pub pods: u32,
    pub nodes: u32,
}

/// Plays the whole curve and tells each second. The same seed gives the same.
pub fn seconds(curve: &Curve, kind: Kind, setting: &Setting, seed: u64, mut each: impl FnMut(&State)) {
    let setting = kind.setting(setting);
    let mut world = World::new(curve, kind, &setting, seed);
    while world.now < curve.seconds() {
        let second = world.step();
        let (pods, nodes) = (world.fleet.present(), world.fleet.nodes());
        each(&State { second, replicas: world.replicas, pods, nodes });
    }
}

impl<'a> World<'a> {
    fn new(curve: &'a Curve, kind: Kind, setting: &'a Setting, seed: u64) -> Self {
        // Each looks in an interval of its own, and nobody chose when. The same for all who are compared.
        let mut chance = Stream::new(seed, 0);
        let [scrape, of_use, sync] = [(); 3].map(|()| u64::from(chance.below(3_600)));
        Self {
            curve,
            setting,
            fleet: Fleet::new(setting, seed),
            views: Views::new(setting, scrape, of_use),
            scaler: kind.autoscaler(setting, sync),
            replicas: Replicas { main: setting.least, burst: 0 },
            now: 0,
        }
    }

    fn step(&mut self) -> Second {
        let Self { setting, now, .. } = *self;
        self.fleet.step(now);
        let second = setting.limits.second(self.offered(), self.fleet.serving(now));
        self.views.see(now, &second, &self.fleet);
        let seen = Seen { now, replicas: self.replicas, fleet: &self.fleet, views: &self.views, setting };
        let replicas = self.scaler.step(&seen);
        if replicas != self.replicas {
            self.fleet.order(now, replicas);
            self.replicas = replicas;
        }
        self.now += 1;
        second
    }

    fn offered(&self) -> f64 {
        let share = self.curve.multiple(self.now) / self.curve.highest();
        let pods = self.setting.existing_pods + self.setting.sign_ups_pods * share;
        pods * self.setting.limits.capacity_per_s
    }
}
