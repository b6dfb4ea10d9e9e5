//! Overload control of one process: the places where calls arrive, and the thread that tells them how the process fares.

mod demand;
mod descriptors;
mod run_queue;
mod ticker;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::{IntGauge, Registry};
use spillway_admission::{
    Admission, AdmissionConfig, AdmissionConfigError, AdmissionMetrics, Signals, Source, Steering, Tier,
    TierTotals, View,
};
use spillway_chassis::{Tasks, traces};
use spillway_rpc::{Classify, Downstream, Hop, Waiter};

use crate::config::{OverloadConfig, Role};
use crate::metrics::ladder_steered;
pub(crate) use demand::Load;
use demand::Meter;

/// Why overload control cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OverloadError {
    #[error(transparent)]
    Config(#[from] AdmissionConfigError),
    #[error("its metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// One hop, for people.
#[derive(Debug)]
pub(crate) struct HopView {
    /// The role's.
    pub(crate) name: &'static str,
    pub(crate) view: View,
    /// In the order of [`Tier::ALL`].
    pub(crate) totals: [TierTotals; Tier::COUNT],
}

/// All hops of this process. Clones are handles on the same.
#[derive(Clone, Debug)]
pub(crate) struct Overload(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Registry,
    hops: Mutex<Hops>,
}

#[derive(Debug)]
struct Hops {
    config: OverloadConfig,
    gateway: Option<Hop>,
    workers: Vec<(Role, Hop)>,
    /// One for each role that is called from here.
    downstream: Vec<Downstream>,
    /// As last ordered.
    steering: Steering,
    /// 1 while it is an operator who moves the ladder.
    steered: IntGauge,
    /// Of each hop that has ticked.
    meters: BTreeMap<Role, Meter>,
}

impl Overload {
    pub(crate) fn new(config: OverloadConfig, registry: &Registry) -> Self {
        let hops = Hops {
            config,
            gateway: None,
            workers: Vec::new(),
            downstream: Vec::new(),
            steering: Steering::Auto,
            steered: ladder_steered().expect("the name is valid"),
            meters: BTreeMap::new(),
        };
        Self(Arc::new(Shared { registry: registry.clone(), hops: Mutex::new(hops) }))
    }

    /// The public port's.
    ///
    /// # Errors
    ///
    /// When its settings cannot work.
    pub(crate) fn gateway(&self, classes: impl Classify) -> Result<Hop, OverloadError> {
        let mut hops = self.hops();
        let hop = Hop::public(self.admission("gateway", hops.config.of_gateway())?, classes);
        self.0.registry.register(Box::new(hops.steered.clone()))?;
        hops.gateway = Some(hop.clone());
        Ok(hop)
    }

    /// That of a role's service on the bus.
    ///
    /// # Errors
    ///
    /// When its settings cannot work.
    pub(crate) fn worker(&self, role: Role) -> Result<Hop, OverloadError> {
        let mut hops = self.hops();
        let hop = Hop::worker(self.admission(role.name(), hops.config.of_worker(role))?);
        hops.workers.push((role, hop.clone()));
        Ok(hop)
    }

    /// For the calls to another role, whose pressure counts here.
    pub(crate) fn downstream(&self) -> Downstream {
        let downstream = Downstream::default();
        self.hops().downstream.push(downstream.clone());
        downstream
    }

    /// Begins to tick, until `tasks` is cancelled.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub(crate) fn start(&self, tasks: &Tasks) -> std::io::Result<()> {
        ticker::start(self.clone(), tasks)
    }

    /// Takes up other settings.
    ///
    /// # Errors
    ///
    /// When they cannot work; the old ones stay in force.
    pub(crate) fn reload(&self, config: &OverloadConfig) -> Result<(), AdmissionConfigError> {
        config.check()?;
        let mut hops = self.hops();
        hops.config = config.clone();
        if let Some(gateway) = &hops.gateway {
            gateway.admission().reload(config.of_gateway())?;
        }
        for (role, worker) in &hops.workers {
            worker.admission().reload(config.of_worker(*role))?;
        }
        Ok(())
    }

    /// Holds the gateway's brownout ladder at a rung, or gives it back to the controller. Workers have none: what is
    /// switched off never reaches them. False when no gateway is here, or none yet.
    pub(crate) fn steer(&self, steering: Steering) -> bool {
        let mut hops = self.hops();
        let Some(gateway) = &hops.gateway else { return false };
        gateway.admission().steer(steering);
        hops.steering = steering;
        hops.steered.set(i64::from(matches!(steering, Steering::Set(_))));
        true
    }

    /// Who moves the ladder; `None` when no gateway is here, or none yet.
    pub(crate) fn steering(&self) -> Option<Steering> {
        let hops = self.hops();
        hops.gateway.is_some().then_some(hops.steering)
    }

    fn tick(&self, own: &Signals) {
        let mut hops = self.hops();
        let downstream = hops.downstream.iter().map(Downstream::take).fold(0.0, f64::max);
        let signals = Signals { downstream, ..*own };
        let workers = hops.workers.iter().map(|(_, worker)| worker);
        for hop in hops.gateway.iter().chain(workers) {
            hop.tick(&signals);
        }
        if let Some(gateway) = &hops.gateway {
            traces::set_brownout(gateway.admission().rung() >= 1);
        }
        let Hops { gateway, workers, meters, .. } = &mut *hops;
        let gateway = gateway.iter().map(|hop| (Role::Gateway, hop));
        for (role, hop) in gateway.chain(workers.iter().map(|(role, hop)| (*role, hop))) {
            meters.entry(role).or_default().tick(&hop.admission().view());
        }
    }

    /// What a role of this process has to do. `None`: calls reach it from within the process only, or it has not ticked yet.
    pub(crate) fn load(&self, role: Role) -> Option<Load> {
        self.hops().meters.get(&role).and_then(Meter::load)
    }

    /// What the controllers decided, and what became of the calls of each tier. The gateway first.
    pub(crate) fn views(&self) -> Vec<HopView> {
        let hops = self.hops();
        let gateway = hops.gateway.iter().map(|hop| ("gateway", hop));
        let workers = hops.workers.iter().map(|(role, hop)| (role.name(), hop));
        let view = |(name, hop): (&'static str, &Hop)| HopView {
            name,
            view: hop.admission().view(),
            totals: Tier::ALL.map(|tier| hop.admission().totals(tier)),
        };
        gateway.chain(workers).map(view).collect()
    }

    /// What the controllers decided, for people.
    pub(crate) fn page(&self) -> String {
        let hops = self.hops();
        let gateway = hops.gateway.iter().map(|hop| ("gateway", hop));
        let workers = hops.workers.iter().map(|(role, hop)| (role.name(), hop));
        let mut page = String::new();
        for (name, hop) in gateway.chain(workers) {
            describe(&mut page, name, &hop.admission().view());
        }
        if page.is_empty() {
            page.push_str("no calls arrive at this process from elsewhere\n");
        }
        page
    }

    fn admission(
        &self,
        hop: &'static str,
        config: AdmissionConfig,
    ) -> Result<Admission<Waiter>, OverloadError> {
        Ok(Admission::new(config, AdmissionMetrics::register(&self.0.registry, hop)?)?)
    }

    fn hops(&self) -> MutexGuard<'_, Hops> {
        // Whole between statements, so a panic elsewhere has not left it half changed.
        self.0.hops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe(page: &mut String, name: &str, view: &View) {
    let state = if view.overloaded { "overloaded" } else { "well" };
    let steering = match view.steering {
        Steering::Auto => "by itself",
        Steering::Set(_) => "set by the operator",
    };
    let capacity =
        view.capacity.map_or_else(|| "not known yet".to_owned(), |rate| format!("{rate:.0} seats/s"));
    // Writing to a string cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(page, "{text}").unwrap_or_default();
    line(format_args!("{name}: {state}, mode {:?}", view.mode));
    line(format_args!("  offered   {:.0} seats/s, capacity {capacity}", view.offered));
    line(format_args!("  refusing  {:.1} %", view.rho * 100.0));
    line(format_args!("  seats     {} of {} in use, {} calls wait", view.inflight, view.limit, view.queued));
    line(format_args!("  ladder    rung {}, {steering}", view.rung));
    for (source, pressure) in Source::ALL.into_iter().zip(view.pressures) {
        line(format_args!("  pressure  {:<12} {pressure:.2} of what is too much", source.name()));
    }
    for tier in Tier::ALL.into_iter().skip(1) {
        let open = view.thresholds[tier as usize].openness(tier) * 100.0;
        let waiting = view.distinct[tier as usize];
        line(format_args!(
            "  open      {:<15} {open:>5.1} %, about {waiting:.0} users refused lately",
            tier.name()
        ));
    }
}
