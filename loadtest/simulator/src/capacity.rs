//! Capacity: the most that the best static limit serves, found by a sweep (`overload.md` c.1).

use serde::{Deserialize, Serialize};

use crate::plan::{Class, Plan, ServerPlan};
use crate::policy::Law;
use crate::scenario::{Scenario, base};
use crate::time::Nanos;
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Calls per second of the whole fleet.
    pub per_s: f64,
    /// The best static limits of a gateway and of a worker, in calls at once.
    pub limits: [u32; 2],
}

/// Offered in the sweep, over what the service times alone would allow.
const OFFERED: f64 = 1.1;

/// Seconds of a step of the sweep, and before it.
const STEP: (u64, u64) = (15, 2);

/// The same of the run that measures capacity.
const LONG: (u64, u64) = (60, 5);

/// Limits that come so close to the best one count as equally good; the smallest of them is quickest.
const AS_GOOD: f64 = 0.995;

/// What each service of the scenario can do.
pub(crate) fn find(scenario: &Scenario, seed: u64) -> Vec<Capacity> {
    scenario.services.iter().map(|service| of_fleet(&base(scenario, service, seed))).collect()
}

fn of_fleet(fleet: &Plan) -> Capacity {
    if fleet.workers == 0 {
        let (limit, per_s) = of_server(fleet, fleet.gateway);
        return Capacity { per_s: per_s * f64::from(fleet.gateways), limits: [limit; 2] };
    }
    let (limit, per_s) = of_server(fleet, fleet.worker);
    let workers = f64::from(fleet.workers);
    let passes = f64::from(fleet.gateways) * fleet.gateway.cores * 1e9 / fleet.gateway.cpu;
    // A gateway holds a seat for every call that its share of the workers has, and some for its own work.
    let held = f64::from(limit) * workers / f64::from(fleet.gateways);
    let gateway = held * 1.25 + 4.0 * fleet.gateway.cores;
    Capacity { per_s: (per_s * workers).min(passes), limits: [gateway.ceil() as u32, limit] }
}

/// The best limit of one server, and the calls per second that it serves then.
fn of_server(fleet: &Plan, server: ServerPlan) -> (u32, f64) {
    let computed = computed(server);
    let tried: Vec<_> = candidates(server)
        .into_iter()
        .map(|limit| (limit, goodput(fleet, server, limit, computed, STEP)))
        .collect();
    let best = tried.iter().map(|(_, goodput)| *goodput).fold(0.0, f64::max);
    let chosen = tried.iter().find(|(_, goodput)| *goodput >= AS_GOOD * best).map_or(1, |(limit, _)| *limit);
    // The best of many short runs was lucky, too; a long one is not.
    (chosen, goodput(fleet, server, chosen, computed, LONG))
}

/// Calls per second that the service times allow.
fn computed(server: ServerPlan) -> f64 {
    let processors = server.cores * 1e9 / server.cpu;
    let station = server.station.map_or(f64::MAX, |station| f64::from(station.places) * 1e9 / station.stay);
    processors.min(station)
}

/// From as many as there are cores, or places, to 64 times as many.
fn candidates(server: ServerPlan) -> Vec<u32> {
    let places = server.station.map_or(1, |station| station.places);
    let scales = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0];
    let few = scales.iter().map(|scale| (scale * server.cores).ceil() as u32);
    let many = scales.iter().take(6).map(|scale| (scale * f64::from(places)).ceil() as u32 + 4);
    let mut limits: Vec<_> = few.chain(many.filter(|_| places > 1)).collect();
    limits.sort_unstable();
    limits.dedup();
    limits
}

fn goodput(
    fleet: &Plan,
    server: ServerPlan,
    limit: u32,
    computed: f64,
    (seconds, before): (u64, u64),
) -> f64 {
    let warmup = Nanos::from_secs(before);
    let class = Class { tier: 3, deadline: Nanos::SECOND, cost: 1.0, connects: false, tenant: None };
    let plan = Plan {
        law: Law::Static,
        limits: [limit; 2],
        gateways: 1,
        gateway: server,
        workers: 0,
        clients: 1_000,
        classes: vec![class],
        steps: vec![(Nanos::ZERO, vec![computed * OFFERED])],
        bursts: None,
        warmup,
        end: warmup + Nanos::from_secs(seconds),
        settle: Nanos::SECOND,
        connections: None,
        autoscaler: None,
        cache: None,
        ..fleet.clone()
    };
    World::new(&plan).run().goodput()
}
