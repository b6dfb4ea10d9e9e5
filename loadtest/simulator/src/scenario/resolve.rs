//! From a scenario to its runs.

use serde::{Deserialize, Serialize};

use super::{Cohorts, Scenario, Service, Traffic};
use crate::capacity::Capacity;
use crate::client::Cohort;
use crate::fault::Fault;
use crate::plan::{Autoscaler, Bursts, Cache, Class, Connections, Plan, ServerPlan, Spread, StationPlan};
use crate::policy::Law;
use crate::time::Nanos;

/// Which run of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    pub policy: Law,
    pub service: String,
    pub population: String,
    pub fault: Option<Fault>,
    pub failure: f64,
    pub elephants: u32,
    /// Offered load over capacity.
    pub factor: f64,
}

impl Key {
    /// Whether two runs differ in nothing but the law.
    pub fn same_but_policy(&self, other: &Self) -> bool {
        Self { policy: other.policy, ..self.clone() } == *other
    }

    /// The run in words, without its law.
    pub fn label(&self) -> String {
        let mut parts = vec![format!("{} x", self.factor), self.service.clone(), self.population.clone()];
        parts.extend(self.fault.map(|fault| fault.name().to_owned()));
        if self.failure > 0.0 {
            parts.push(format!("{:.0} % fail", 100.0 * self.failure));
        }
        if self.elephants > 0 {
            parts.push(format!("{} elephants", self.elephants));
        }
        parts.join(", ")
    }
}

/// Calls of a poisoner cost so many times the mean, and add as much load as the fleet can serve.
const POISON_COST: f64 = 20.0;

/// All runs. `capacity` says what was found for each service.
pub(crate) fn plans(scenario: &Scenario, capacity: &[Capacity], seed: u64) -> Vec<(Key, Plan)> {
    let faults: Vec<_> = match scenario.faults.as_slice() {
        [] => vec![None],
        faults => faults.iter().copied().map(Some).collect(),
    };
    let failures = if scenario.failures.is_empty() { &vec![0.0] } else { &scenario.failures };
    let elephants = if scenario.elephants.is_empty() { &vec![0] } else { &scenario.elephants };
    let mut all = Vec::new();
    for (service, capacity) in scenario.services.iter().zip(capacity) {
        for population in &scenario.populations {
            for fault in &faults {
                for failure in failures {
                    for elephants in elephants {
                        for factor in &scenario.factors {
                            for policy in &scenario.policies {
                                let key = Key {
                                    policy: *policy,
                                    service: service.name.clone(),
                                    population: population.name.clone(),
                                    fault: *fault,
                                    failure: *failure,
                                    elephants: *elephants,
                                    factor: *factor,
                                };
                                let plan = plan(scenario, service, population, &key, capacity, seed);
                                all.push((key, plan));
                            }
                        }
                    }
                }
            }
        }
    }
    all
}

fn plan(
    scenario: &Scenario,
    service: &Service,
    population: &Cohorts,
    key: &Key,
    capacity: &Capacity,
    seed: u64,
) -> Plan {
    let warmup = Nanos::from_secs_f64(scenario.warmup_seconds);
    let end = warmup + Nanos::from_secs_f64(scenario.seconds);
    let mut plan = base(scenario, service, seed);
    plan.law = key.policy;
    plan.limits = capacity.limits;
    plan.cohorts = population.cohorts.iter().map(|(cohort, share)| (*cohort, *share)).collect();
    plan.elephants = (key.elephants, scenario.clients.elephant_weight);
    plan.clients += key.elephants;
    plan.failure = key.failure;
    plan.steps = vec![(Nanos::ZERO, rates(&scenario.classes, key.factor, capacity.per_s))];
    for step in &scenario.steps {
        let at = Nanos::from_secs_f64(step.at_s);
        // A quiet run stays quiet.
        let factor = if key.factor == 0.0 { 0.0 } else { step.factor };
        plan.steps.push((at, rates(&scenario.classes, factor, capacity.per_s)));
    }
    if let Some(fault) = key.fault {
        plan.fault = Some((fault, warmup, warmup + Nanos::from_secs_f64(scenario.fault_seconds)));
        // What was before the fault is the yardstick, so it counts from the fault on.
        plan.warmup = warmup;
    }
    if plan.connections.is_some() {
        plan.classes.push(Class {
            tier: 2,
            deadline: Nanos::from_secs(5),
            cost: 0.2,
            connects: true,
            tenant: None,
        });
    }
    if key.fault == Some(Fault::PoisonTenant) {
        plan.poison = Some((plan.classes.len(), capacity.per_s / POISON_COST));
        plan.classes.push(Class {
            tier: 3,
            deadline: Nanos::SECOND,
            cost: POISON_COST,
            connects: false,
            tenant: Some(0),
        });
    }
    for (_, rates) in &mut plan.steps {
        rates.resize(plan.classes.len(), 0.0);
    }
    plan.end = end;
    plan
}

/// Calls per second of each class.
fn rates(classes: &[Traffic], factor: f64, capacity: f64) -> Vec<f64> {
    let sum = |scales: bool| -> f64 {
        classes.iter().filter(|class| class.scales == scales).map(|class| class.share).sum()
    };
    let (fixed, scaling) = (sum(false), sum(true));
    let rest = (factor - fixed).max(0.0);
    let rate = |class: &Traffic| capacity * class.share * if class.scales { rest / scaling } else { 1.0 };
    classes.iter().map(rate).collect()
}

/// The fleet of a scenario, without anybody calling.
pub(crate) fn base(scenario: &Scenario, service: &Service, seed: u64) -> Plan {
    let gateways = &scenario.gateways;
    let micros = 1e3;
    let (gateway, worker) = match &scenario.workers {
        None => {
            let server = working(gateways.cores, gateways.refusal_us, service);
            (server, server)
        }
        Some(workers) => {
            let pass = ServerPlan {
                cores: gateways.cores,
                refusal: gateways.refusal_us * micros,
                cpu: gateways.pass_us.max(gateways.refusal_us) * micros,
                spread: Spread::Exponential,
                station: None,
            };
            (pass, working(workers.cores, workers.refusal_us, service))
        }
    };
    let class = |class: &Traffic| Class {
        tier: class.tier,
        deadline: Nanos::from_millis(class.deadline_ms),
        cost: 1.0,
        connects: false,
        tenant: None,
    };
    Plan {
        seed,
        law: Law::None,
        limits: [u32::MAX; 2],
        gateways: gateways.count,
        gateway,
        workers: scenario.workers.as_ref().map_or(0, |workers| workers.count),
        worker,
        network: Nanos::from_millis_f64(scenario.network.client_ms),
        hop: Nanos::from_millis_f64(scenario.network.hop_us / 1e3),
        clients: scenario.clients.count,
        elephants: (0, 1.0),
        cohorts: vec![(Cohort::OpenLoop, 1.0)],
        classes: scenario.classes.iter().map(class).collect(),
        steps: Vec::new(),
        bursts: scenario.bursts.map(|bursts| Bursts {
            factor: bursts.factor,
            mean: Nanos::from_millis_f64(bursts.mean_ms),
            share: bursts.share,
        }),
        warmup: Nanos::from_secs_f64(scenario.warmup_seconds),
        end: Nanos::from_secs_f64(scenario.warmup_seconds + scenario.seconds),
        settle: Nanos::from_secs_f64(scenario.settle_seconds),
        fault: None,
        poison: None,
        connections: scenario.clients.handshake_ms.map(|handshake| Connections {
            handshake: handshake * 1e6,
            spread: Nanos::from_secs_f64(scenario.clients.reconnect_spread_s),
        }),
        autoscaler: scenario.autoscaler.map(|scaler| Autoscaler {
            interval: Nanos::from_secs_f64(scaler.metric_interval_s),
            lag: Nanos::from_secs_f64(scaler.decision_s),
            start: Nanos::from_secs_f64(scaler.start_s),
            ready: Nanos::from_secs_f64(scaler.ready_s),
            target: scaler.target,
            most: scaler.most,
        }),
        failure: 0.0,
        cache: scenario.cache.map(|cache| Cache { miss: cache.miss, fill: cache.fill }),
    }
}

/// A server that does the work.
fn working(cores: f64, refusal_us: f64, service: &Service) -> ServerPlan {
    ServerPlan {
        cores,
        refusal: refusal_us * 1e3,
        cpu: (service.cpu_ms * 1e6).max(refusal_us * 1e3),
        spread: if service.bimodal { Spread::Bimodal } else { Spread::Exponential },
        station: (service.stay_ms > 0.0).then_some(StationPlan {
            places: service.places,
            stay: service.stay_ms * 1e6,
            contention: service.contention,
        }),
    }
}
