//! One run.

use super::curve::Curve;
use super::figures::Figures;
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

/// Plays the whole curve. The same seed gives the same figures.
pub fn play(curve: &Curve, kind: Kind, setting: &Setting, seed: u64) -> Figures {
    let mut figures = Figures::new(curve, kind);
    seconds(curve, kind, setting, seed, |second, pods, nodes| figures.add(second, pods, nodes));
    figures
}

/// The same, told second by second, with the pods and the nodes that there are.
pub fn seconds(
    curve: &Curve,
    kind: Kind,
    setting: &Setting,
    seed: u64,
    mut each: impl FnMut(&Second, u32, u32),
) {
    let setting = kind.setting(setting);
    let mut world = World::new(curve, kind, &setting, seed);
    while world.now < curve.seconds() {
        let second = world.step();
        each(&second, world.fleet.present(), world.fleet.nodes());
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
