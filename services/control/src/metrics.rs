//! What the role knows and did.

use std::collections::BTreeMap;

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use spillway_api::internal::v1::{RoomBound, RoomMode, RoomState};

use spillway_waiting_room::Outcomes;

use crate::fleet::{Clocks, Total, Totals};
use crate::role::{ROLES, Role};
use crate::tenure::Tenure;

/// What became of a write to the lease.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WriteOutcome {
    Applied,
    Conflict,
    /// No answer.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum BeaconOutcome {
    Counted,
    Malformed,
    /// The table of processes is full.
    Full,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    holder: IntGauge,
    token: IntGauge,
    writes_applied: IntCounter,
    writes_conflict: IntCounter,
    writes_unknown: IntCounter,
    beacons_counted: IntCounter,
    beacons_malformed: IntCounter,
    beacons_full: IntCounter,
    states_published: IntCounter,
    states_failed: IntCounter,
    room: RoomGauges,
    estimates: EstimateCounters,
    clocks: GaugeVec,
    store_pressure: Gauge,
    processes: IntGaugeVec,
    silent: IntGaugeVec,
    demand: IntGaugeVec,
    capacity: IntGaugeVec,
    ratio: GaugeVec,
}

/// Estimates of the waiting room, by how they ended.
#[derive(Debug)]
struct EstimateCounters {
    inside: IntCounter,
    early: IntCounter,
    late: IntCounter,
}

impl EstimateCounters {
    fn new(outcomes: &IntCounterVec) -> Self {
        let of = |outcome| outcomes.with_label_values(&[outcome]);
        Self { inside: of("inside"), early: of("early"), late: of("late") }
    }
}

/// The labels of what may bound the rate.
const BOUNDS: [(RoomBound, &str); 7] = [
    (RoomBound::Setting, "setting"),
    (RoomBound::Provider, "provider"),
    (RoomBound::Budget, "budget"),
    (RoomBound::Country, "country"),
    (RoomBound::Store, "store"),
    (RoomBound::Gateways, "gateways"),
    (RoomBound::Operator, "operator"),
];

/// The waiting room as this process has published it; 0 while another one does.
#[derive(Debug)]
struct RoomGauges {
    issued: Gauge,
    frontier: Gauge,
    waiting: Gauge,
    rate: Gauge,
    show_up: Gauge,
    frozen: Gauge,
    bound: IntGaugeVec,
}

impl RoomGauges {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name, help| {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            issued: gauge("spillway_control_room_issued", "The highest place that was given out.")?,
            frontier: gauge("spillway_control_room_frontier", "The highest place that was called.")?,
            waiting: gauge("spillway_control_room_waiting", "About how many wait and still ask.")?,
            rate: gauge("spillway_control_room_rate", "Sign-ups a second that there is room for.")?,
            show_up: gauge("spillway_control_room_show_up_ratio", "The share of the called who come.")?,
            frozen: gauge("spillway_control_room_frozen", "1 while nobody is called.")?,
            bound: {
                let opts = Opts::new("spillway_control_room_bound", "1 for what the rate is bounded by.");
                let bound = IntGaugeVec::new(opts, &["by"])?;
                registry.register(Box::new(bound.clone()))?;
                bound
            },
        })
    }

    fn set(&self, room: &RoomState) {
        let frozen = matches!(room.mode(), RoomMode::Overload | RoomMode::Stopped | RoomMode::NotOpen);
        self.issued.set(room.issued as f64);
        self.frontier.set(room.frontier as f64);
        self.waiting.set(room.knot_counts.last().copied().unwrap_or_default());
        self.rate.set(room.rate);
        self.show_up.set(room.show_up);
        self.frozen.set(f64::from(u8::from(frozen)));
        for (bound, by) in BOUNDS {
            self.bound.with_label_values(&[by]).set(i64::from(room.bound() == bound));
        }
    }
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let by_role = |name, help| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &["role"])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let outcomes = |name, help| {
            let counters = IntCounterVec::new(Opts::new(name, help), &["outcome"])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let writes = outcomes("spillway_control_lease_writes_total", "Writes to the lease, by outcome.")?;
        let beacons = outcomes("spillway_control_beacons_total", "Load beacons heard, by outcome.")?;
        let states =
            outcomes("spillway_control_states_total", "States for the fleet, by whether the bus took them.")?;
        let of = |counters: &IntCounterVec, outcome| counters.with_label_values(&[outcome]);
        Ok(Self {
            holder: gauge("spillway_control_holder", "1 while this process acts for the fleet.")?,
            token: gauge("spillway_control_token", "The fencing token it acts with; 0 while it does not.")?,
            writes_applied: of(&writes, "applied"),
            writes_conflict: of(&writes, "conflict"),
            writes_unknown: of(&writes, "unknown"),
            beacons_counted: of(&beacons, "counted"),
            beacons_malformed: of(&beacons, "malformed"),
            beacons_full: of(&beacons, "full"),
            states_published: of(&states, "published"),
            states_failed: of(&states, "failed"),
            room: RoomGauges::register(registry)?,
            estimates: EstimateCounters::new(&outcomes(
                "spillway_control_room_estimates_total",
                "Waits that were told and have ended: within the range that was told, before it, or after it.",
            )?),
            store_pressure: {
                let gauge = Gauge::new(
                    "spillway_control_store_pressure",
                    "How slowly the fleet's writes to the store end, or how often they fail, over what is too much for more sign-ups; \
                     0 while nobody tells.",
                )?;
                registry.register(Box::new(gauge.clone()))?;
                gauge
            },
            clocks: {
                let opts = Opts::new(
                    "spillway_control_clock_offset_seconds",
                    "How far ahead of this process's clock the clocks of a role's processes are, less what their beacons were under way: \
                     the one furthest ahead and the one furthest behind.",
                );
                let clocks = GaugeVec::new(opts, &["role", "extreme"])?;
                registry.register(Box::new(clocks.clone()))?;
                clocks
            },
            processes: by_role("spillway_control_processes", "Processes whose beacons are heard, by role.")?,
            silent: by_role(
                "spillway_control_silent_processes",
                "Processes that are not heard any more and did not say that they leave, by role.",
            )?,
            demand: by_role(
                "spillway_control_demand_seats",
                "Seats in use, waited for and refused, by role. Absent while it is not known.",
            )?,
            capacity: by_role(
                "spillway_control_capacity_seats",
                "Seats that can be in use before calls are refused, by role.",
            )?,
            ratio: {
                let opts = Opts::new(
                    "spillway_control_demand_ratio",
                    "Demand over capacity, by role; refusals begin at 1. Absent while it is not known.",
                );
                let ratio = GaugeVec::new(opts, &["role"])?;
                registry.register(Box::new(ratio.clone()))?;
                ratio
            },
        })
    }

    pub(crate) fn set_room(&self, room: Option<&RoomState>) {
        self.room.set(room.unwrap_or(&RoomState::default()));
    }

    pub(crate) fn set_store(&self, pressure: Option<f64>) {
        self.store_pressure.set(pressure.unwrap_or(0.0));
    }

    pub(crate) fn set_holder(&self, tenure: Option<Tenure>) {
        self.holder.set(i64::from(tenure.is_some()));
        self.token.set(tenure.map_or(0, |tenure| saturated(tenure.token().0)));
    }

    /// What became of estimates up to now.
    pub(crate) fn count_estimates(&self, outcomes: Outcomes) {
        let EstimateCounters { inside, early, late } = &self.estimates;
        for (counter, total) in [(inside, outcomes.inside), (early, outcomes.early), (late, outcomes.late)] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    pub(crate) fn set_clocks(&self, clocks: &BTreeMap<Role, Clocks>) {
        for role in ROLES {
            let clocks = clocks.get(&role);
            for (extreme, us) in [
                ("behind", clocks.map(|clocks| clocks.behind_us)),
                ("ahead", clocks.map(|clocks| clocks.ahead_us)),
            ] {
                let labels = [role.label(), extreme];
                match us {
                    Some(us) => self.clocks.with_label_values(&labels).set(us as f64 / 1e6),
                    // Nobody has this role. Removing what is not there is no error.
                    None => drop(self.clocks.remove_label_values(&labels)),
                }
            }
        }
    }

    /// `ratio` of a role, while it is known.
    pub(crate) fn set_fleet(&self, totals: &Totals, ratio: impl Fn(&Total) -> Option<f64>) {
        for (role, total) in totals {
            let label = [role.label()];
            let set = |gauges: &IntGaugeVec, value| gauges.with_label_values(&label).set(value);
            set(&self.processes, i64::from(total.processes));
            set(&self.silent, i64::from(total.silent));
            set(&self.capacity, saturated(total.capacity_seats));
            if let Some(ratio) = ratio(total) {
                set(&self.demand, saturated(total.demand));
                self.ratio.with_label_values(&label).set(ratio);
            } else {
                // An autoscaler takes zero for idleness, and keeps what there is when there is no number. Removing what is not there is no error.
                self.demand.remove_label_values(&label).ok();
                self.ratio.remove_label_values(&label).ok();
            }
        }
    }

    pub(crate) fn count_write(&self, outcome: WriteOutcome) {
        match outcome {
            WriteOutcome::Applied => self.writes_applied.inc(),
            WriteOutcome::Conflict => self.writes_conflict.inc(),
            WriteOutcome::Unknown => self.writes_unknown.inc(),
        }
    }

    pub(crate) fn count_beacon(&self, outcome: BeaconOutcome) {
        match outcome {
            BeaconOutcome::Counted => self.beacons_counted.inc(),
            BeaconOutcome::Malformed => self.beacons_malformed.inc(),
            BeaconOutcome::Full => self.beacons_full.inc(),
        }
    }

    pub(crate) fn count_state(&self, published: bool) {
        if published { &self.states_published } else { &self.states_failed }.inc();
    }
}

/// Registers what the role counts, as if each role had a process, so that everything can be described.
///
/// # Errors
///
/// When the registry has it already.
pub fn describe_metrics(registry: &Registry) -> prometheus::Result<()> {
    let metrics = Metrics::register(registry)?;
    metrics.set_room(None);
    metrics.set_fleet(&ROLES.map(|role| (role, Total::default())).into(), |_| Some(0.0));
    metrics.set_clocks(&ROLES.map(|role| (role, Clocks { behind_us: 0, ahead_us: 0 })).into());
    Ok(())
}

fn saturated(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
