//! What happens once a tick: measure, decide, publish.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::admission::core::{Meter, Taken};
use crate::admission::{HELD, Shared, Waiter};
use crate::brownout::{Ladder, Steering};
use crate::class::Tier;
use crate::config::{AdmissionConfig, Mode};
use crate::gate::balance::{Balance, FlowBalance, Flows};
use crate::gate::fair::{Allowances, Portion};
use crate::gate::histogram::Arrivals;
use crate::gate::unheard::Parts;
use crate::gate::welcome::Welcome;
use crate::gate::{Refused, Threshold};
use crate::pushback::{Reason, Sizer};
use crate::signals::{Signals, Source};

pub(super) struct Controller {
    config: AdmissionConfig,
    arrivals: Arrivals,
    balance: FlowBalance,
    capacity: Capacity,
    sizer: Sizer,
    allowances: Allowances,
    portions: [Portion; Tier::COUNT],
    welcome: Welcome,
    unheard: Parts,
    ladder: Ladder,
    last: Option<Duration>,
    view: View,
}

/// What the controllers decided, as of the last tick. For the status call, the admin page and a hop above.
#[derive(Clone, Debug)]
pub struct View {
    pub mode: Mode,
    pub overloaded: bool,
    /// The fraction of what is offered that is to be refused.
    pub rho: f64,
    /// Seats a second that are offered.
    pub offered: f64,
    /// Seats a second that can be served, once that is known.
    pub capacity: Option<f64>,
    pub limit: u32,
    pub inflight: u32,
    pub queued: usize,
    /// Each signal over its target, in the order of [`Source::ALL`](crate::Source::ALL).
    pub pressures: [f64; 4],
    /// What a hop above should take as [`Signals::downstream`]: 1 or less while all is well.
    pub pressure: f64,
    pub thresholds: [Threshold; Tier::COUNT],
    pub rung: u8,
    pub steering: Steering,
    /// About how many users of each tier were refused lately.
    pub distinct: [f64; Tier::COUNT],
}

/// Seats a second that finish while the limit is reached.
#[derive(Debug, Default)]
struct Capacity {
    value: Option<f64>,
    full: Pending,
    all: Pending,
}

/// What has finished since a rate was last taken from it.
#[derive(Debug, Default)]
struct Pending {
    seats: f64,
    calls: f64,
    seconds: f64,
}

/// So many calls make a first guess at the capacity, and so many change it; fewer are kept for the next tick.
const CAPACITY_CALLS_FIRST: f64 = 16.0;
const CAPACITY_CALLS: f64 = 64.0;
/// So many count in full, fewer by their share: their deviation is a twelfth.
const CAPACITY_CALLS_FULL: f64 = 128.0;
/// Down slower than up: a pause is no loss of capacity. brpc takes a tenth; with a tenth the noise of small servers
/// would settle a whole deviation above the truth.
const CAPACITY_DOWN: f64 = 0.3;
/// Calls that were kept for a later tick are too old after so many seconds at the limit.
const PENDING_S: f64 = 10.0;
/// Of the capacity: below it, what the ladder has switched off would fit again.
const FITS: f64 = 0.9;

impl Controller {
    pub(super) fn new(config: AdmissionConfig) -> Self {
        let view = View {
            mode: config.mode,
            overloaded: false,
            rho: 0.0,
            offered: 0.0,
            capacity: None,
            limit: 0,
            inflight: 0,
            queued: 0,
            pressures: [0.0; 4],
            pressure: 0.0,
            thresholds: Tier::ALL.map(Threshold::open),
            rung: 0,
            steering: Steering::Auto,
            distinct: [0.0; Tier::COUNT],
        };
        Self {
            arrivals: Arrivals::new(),
            balance: FlowBalance::new(config.gate),
            capacity: Capacity::default(),
            sizer: Sizer::new(),
            allowances: Allowances::new(),
            portions: [Portion::default(); Tier::COUNT],
            welcome: Welcome::new(),
            unheard: Parts::new(),
            ladder: Ladder::new(config.brownout),
            last: None,
            view,
            config,
        }
    }

    pub(super) fn configure(&mut self, config: AdmissionConfig) {
        self.balance.configure(config.gate);
        self.ladder.configure(config.brownout);
        self.config = config;
    }

    pub(super) fn steer(&mut self, steering: Steering) {
        self.ladder.steer(steering);
    }

    pub(super) fn view(&self) -> View {
        self.view.clone()
    }

    fn decide<W>(&mut self, length: Duration, taken: &Taken<W>, signals: &Signals) {
        let gate = self.config.gate;
        self.capacity.take_in(&taken.meter, length);
        let capacity = self.capacity.value;
        let window = self.arrivals.window(gate.window_seats.into(), gate.window_thin.into());
        // What the ladder has closed is not offered to the gate.
        let closed = Tier::ALL.into_iter().filter(|&tier| self.ladder.steering().closes(tier));
        let kept_out: f64 = closed.map(|tier| window.seats_of(tier)).sum();
        let pressures = signals.pressures(&self.config.pressure);
        let downstream = pressures[Source::Downstream as usize];
        let own = Source::ALL.into_iter().zip(pressures).filter(|(source, _)| *source != Source::Downstream);
        let own = own.fold(0.0, |worst: f64, (_, pressure)| worst.max(pressure));
        let pressure = own.max(downstream);
        let balance = self.balance.tick(&Flows {
            tick: length,
            offered: window.seats - kept_out,
            window_ticks: window.ticks,
            thin: window.thin,
            capacity,
            limit: taken.limit.into(),
            inflight: taken.meter.inflight / length.as_secs_f64(),
            finished: taken.meter.finished as f64,
            queued: taken.queued_seats as f64,
            queued_min: taken.meter.queued_min as f64,
            overflowed: taken.meter.overflowed,
            full: taken.meter.full > 0.5 * length.as_secs_f64(),
            pressure: own,
            downstream,
        });
        let mut thresholds = if gate.enabled && balance.overloaded && balance.rho > 0.0 {
            window.thresholds((1.0 - balance.rho) * (window.seats - kept_out), gate.probe)
        } else {
            Tier::ALL.map(Threshold::open)
        };
        let cut = Tier::ALL.into_iter().zip(&thresholds).find(|(tier, threshold)| !threshold.is_open(*tier));
        let window_s = (window.ticks.max(1.0) * length.as_secs_f64()).max(1e-9);
        self.portions = Tier::ALL.map(|tier| window.portion(tier, thresholds[tier as usize], window_s));
        let offered = window.seats / window_s;
        let fits = pressure <= 1.0 && capacity.is_none_or(|capacity| offered <= FITS * capacity);
        let rung = self.ladder.tick(length, cut.map(|(tier, _)| tier), fits);
        for tier in Tier::ALL.into_iter().filter(|&tier| self.ladder.steering().closes(tier)) {
            thresholds[tier as usize] = Threshold::closed(tier);
        }
        self.view = View {
            mode: self.config.mode,
            overloaded: balance.overloaded,
            rho: balance.rho,
            offered,
            capacity,
            limit: taken.limit,
            inflight: taken.inflight,
            queued: taken.queued_calls,
            pressures,
            pressure: pressure.max(flow_pressure(&balance, offered, capacity)),
            thresholds,
            rung,
            steering: self.ladder.steering(),
            distinct: Tier::ALL.map(|tier| self.sizer.distinct(tier)),
        };
    }
}

/// What arrives over what can be served. Of the same window, and not `rho`, which is filtered: the hop above computes with it.
fn flow_pressure(balance: &Balance, offered: f64, capacity: Option<f64>) -> f64 {
    match capacity {
        _ if balance.rho >= 1.0 => f64::MAX,
        // What can be served may be more than was ever seen.
        Some(capacity) if balance.overloaded => offered / capacity.max(f64::MIN_POSITIVE),
        Some(capacity) => (offered / capacity.max(f64::MIN_POSITIVE)).min(1.0),
        None if balance.overloaded => 1.0 / (1.0 - balance.rho),
        None => 0.0,
    }
}

/// Of what can be served, the share that is not; `None` when all is well.
fn spare(view: &View, meter: &Meter, length: Duration) -> Option<f64> {
    if !view.overloaded {
        return None;
    }
    // What is not known by its seats, such as processor time that goes into refusals.
    let short = Source::ALL
        .into_iter()
        .zip(view.pressures)
        .any(|(source, pressure)| source != Source::Downstream && pressure > 1.0);
    let served = meter.finished as f64 / length.as_secs_f64();
    let spare = view.capacity.map_or(1.0, |capacity| 1.0 - served / capacity.max(f64::MIN_POSITIVE));
    Some(if short { 0.0 } else { spare.clamp(0.0, 1.0) })
}

pub(super) fn tick<W: Waiter>(shared: &Arc<Shared<W>>, now: Duration, signals: &Signals) {
    let mut controller = shared.controller();
    let last = controller.last.replace(now);
    // The first tick only starts the clock, and a clock that stands has nothing to measure.
    let Some(length) = last.and_then(|last| now.checked_sub(last)).filter(|length| !length.is_zero()) else {
        return;
    };
    let mut core = shared.core();
    let taken = core.take(now, length, signals.run_queue_delay);
    core.publish_estimates(now, &shared.estimates);
    drop(core);

    let mut refused = Refused::default();
    let Controller { arrivals, unheard: parts, .. } = &mut *controller;
    arrivals.push(|slot| {
        shared.gate.drain(slot, &mut refused);
        shared.gate.unheard().add(length, parts, slot);
        shared.metrics.offered(slot);
    });
    controller.decide(length, &taken, signals);
    let share = controller.config.pushback.share;
    controller.sizer.tick(now, length, &shared.waiting, &taken.meter.granted, share);

    let view = &controller.view;
    shared.gate.set(&view.thresholds);
    let (thresholds, portions) = (view.thresholds, controller.portions);
    let spare = spare(view, &taken.meter, length);
    shared.gate.set_welcome(&controller.welcome.tick(length, &thresholds, spare));
    controller.allowances.tick(shared.gate.shares(), &thresholds, &portions);
    let view = &controller.view;
    let held = if view.steering == Steering::Auto { 0 } else { HELD };
    shared.rung.store(view.rung | held, Relaxed);
    let hold_back = &controller.config.hold_back;
    let span = hold_back.ttl_max.saturating_sub(hold_back.ttl_min);
    shared
        .advice_ms
        .store((hold_back.ttl_min + span.mul_f64(view.rho.clamp(0.0, 1.0))).as_millis() as u32, Relaxed);
    let mut evicted = Vec::new();
    shared.core().set_overload(view.overloaded && view.rho > 0.0, view.capacity, &mut evicted);
    shared.metrics.tick(view, &taken.meter.admitted, &refused);
    drop(controller);

    for entry in evicted {
        shared.refuse_waiting(entry, Reason::PushedOut);
    }
    for entry in taken.expired {
        shared.refuse_expired(entry);
    }
    // The limit may have risen.
    shared.serve_waiting(now);
}

impl Capacity {
    fn take_in(&mut self, meter: &Meter, length: Duration) {
        // What finished could be served, whether the limit was reached or not.
        self.all.add(meter.finished, meter.calls, length.as_secs_f64());
        if let Some((calls, rate)) = self.all.take(CAPACITY_CALLS) {
            self.approach(calls, rate, true);
        }
        self.full.add(meter.finished_full, meter.calls_full, meter.full);
        let enough = if self.value.is_some() { CAPACITY_CALLS } else { CAPACITY_CALLS_FIRST };
        if let Some((calls, rate)) = self.full.take(enough) {
            self.value.get_or_insert(rate);
            self.approach(calls, rate, false);
        }
    }

    fn approach(&mut self, calls: f64, sample: f64, only_up: bool) {
        let Some(value) = &mut self.value else { return };
        let weight = (calls / CAPACITY_CALLS_FULL).min(1.0);
        if sample > *value {
            *value += weight * (sample - *value);
        } else if !only_up {
            *value += weight * CAPACITY_DOWN * (sample - *value);
        }
    }
}

impl Pending {
    fn add(&mut self, seats: u64, calls: u64, seconds: f64) {
        self.seats += seats as f64;
        self.calls += calls as f64;
        self.seconds += seconds;
    }

    /// Calls, and seats a second, once there are so many calls.
    fn take(&mut self, enough: f64) -> Option<(f64, f64)> {
        let rate =
            (self.calls >= enough && self.seconds > 0.0).then(|| (self.calls, self.seats / self.seconds));
        if rate.is_some() || self.seconds > PENDING_S {
            *self = Self::default();
        }
        rate
    }
}
