//! The facade: what happens to a call from its arrival to its end.

mod controller;
mod core;
mod seat;
#[cfg(test)]
mod tests;
mod unheard;

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::brownout::Steering;
use crate::class::cohort::User;
use crate::class::{Level, Tier};
use crate::config::{AdmissionConfig, AdmissionConfigError, Mode};
use crate::deaf::Pauses;
use crate::gate::{Gate, Threshold};
use crate::hold_back::HoldBack;
use crate::limiter::adaptive::Adaptive;
use crate::limiter::estimates::Published;
use crate::limiter::{Kind, LimitLaw};
use crate::metrics::{AdmissionMetrics, TierTotals};
use crate::pushback::{Reason, Refusal, Waiting};
use crate::signals::Signals;
use controller::Controller;
pub use controller::View;
use core::{Core, Offer};
pub use seat::{Outcome, Seat, Ticket};
pub use unheard::Unheard;

/// What is known of a call from its headers.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub level: Level,
    /// Which work it is, for its expected time.
    pub kind: Kind,
    /// How much of the service it takes, see [`seats`].
    pub seats: u32,
    pub user: User,
    /// Calls that must keep their order have the same flow. `None`: any order will do.
    pub flow: Option<u64>,
    /// When it must be answered, on the clock of `now`. See [`Tier::deadline`].
    pub deadline: Duration,
}

/// What happens to a call that arrives.
#[must_use]
pub enum Arrival<W: Waiter> {
    /// It may run for as long as it holds the seat.
    Run(Seat<W>),
    /// Its waiter will be told. Dropping the ticket leaves the queue.
    Queued(Ticket<W>),
    Refused(Refusal),
}

/// Whoever waits for a queued call: the sending half of a oneshot channel in a server, an event in a simulator.
///
/// Called without any lock held, by whichever thread freed the seat or ended the wait. Must not block.
pub trait Waiter: Sized {
    /// The call's turn has come.
    ///
    /// # Errors
    ///
    /// The seat itself, when nobody waits any more; it goes to the next. Dropping it instead has the same effect, but
    /// calls the next waiter from within this call.
    fn admitted(self, seat: Seat<Self>) -> Result<(), Seat<Self>>;

    fn refused(self, refusal: Refusal);
}

/// Overload control of one hop: a gateway's public API, or what the bus brings to a worker.
///
/// Cheap to clone. All times are on one monotonic clock of the owner's choice, as the time since some start.
pub struct Admission<W: Waiter>(Arc<Shared<W>>);

pub(crate) struct Shared<W: Waiter> {
    gate: Gate,
    waiting: Waiting,
    estimates: Published,
    mode: AtomicU8,
    seats_max: AtomicU32,
    exempt_max: AtomicU32,
    exempt: AtomicU32,
    /// The rung of the brownout ladder, with [`HELD`] when the operator holds it there.
    rung: AtomicU8,
    /// Milliseconds that hold-back advice holds.
    advice_ms: AtomicU32,
    metrics: AdmissionMetrics,
    core: Mutex<Core<W>>,
    controller: Mutex<Controller>,
}

/// The width of a call: a seat, one more for each 64 KiB of its body and for each 16 of the receivers it fans out to.
/// Kubernetes' API priority and fairness counts in the same way.
pub const fn seats(body_bytes: usize, fan_out: usize) -> u32 {
    let seats = 1 + body_bytes / (64 << 10) + fan_out / 16;
    if seats > u32::MAX as usize { u32::MAX } else { seats as u32 }
}

impl<W: Waiter> Admission<W> {
    /// # Errors
    ///
    /// When the configuration cannot work.
    pub fn new(config: AdmissionConfig, metrics: AdmissionMetrics) -> Result<Self, AdmissionConfigError> {
        let law = Adaptive::new(config.limiter, config.cores());
        Self::with_law(config, metrics, Box::new(law))
    }

    /// With another law for the limit, for comparison.
    ///
    /// # Errors
    ///
    /// When the configuration cannot work.
    pub fn with_law(
        config: AdmissionConfig,
        metrics: AdmissionMetrics,
        law: Box<dyn LimitLaw>,
    ) -> Result<Self, AdmissionConfigError> {
        config.validate()?;
        let cores = config.cores();
        let initial = config.limiter.initial(cores);
        Ok(Self(Arc::new(Shared {
            gate: Gate::new(cores as usize),
            waiting: Waiting::new(),
            estimates: Published::new(),
            mode: AtomicU8::new(config.mode as u8),
            seats_max: AtomicU32::new(config.seats_max),
            exempt_max: AtomicU32::new(config.exempt_max),
            exempt: AtomicU32::new(0),
            rung: AtomicU8::new(0),
            advice_ms: AtomicU32::new(0),
            metrics,
            core: Mutex::new(Core::new(config.queue, initial, law)),
            controller: Mutex::new(Controller::new(config)),
        })))
    }

    /// Takes up other settings at once. What has been learnt stays, the limiter's law too: its settings need a restart.
    ///
    /// # Errors
    ///
    /// When the configuration cannot work; the old one stays in force.
    pub fn reload(&self, config: AdmissionConfig) -> Result<(), AdmissionConfigError> {
        config.validate()?;
        self.0.mode.store(config.mode as u8, Relaxed);
        self.0.seats_max.store(config.seats_max, Relaxed);
        self.0.exempt_max.store(config.exempt_max, Relaxed);
        self.0.core().configure(config.queue);
        self.0.controller().configure(config);
        Ok(())
    }

    /// Decides about a call. `waiter` is asked for only if the call has to wait, so that no channel is made for others.
    ///
    /// A refusal by the gate takes no lock and allocates nothing.
    pub fn arrive(&self, now: Duration, call: &Call, waiter: impl FnOnce() -> W) -> Arrival<W> {
        let shared = &self.0;
        let mode = shared.mode();
        let seats = call.seats.clamp(1, shared.seats_max.load(Relaxed).max(1));
        let mut call = Call { seats, ..*call };
        if call.level.tier() == Tier::Exempt {
            if shared.take_exempt_seat() {
                return Arrival::Run(Seat::exempt(shared, &call, now));
            }
            call.level = Level::FIRST_COUNTED;
        }
        if mode == Mode::Off {
            return Arrival::Run(self.run_at_once(now, &call));
        }
        let too_late = call.deadline.saturating_sub(now) <= shared.estimates.median(call.kind);
        let reason = if too_late {
            Some(Reason::Deadline)
        } else if shared.gate.pass(call.level, call.user, seats) {
            None
        } else if shared.gate.threshold(call.level.tier()) == Threshold::closed(call.level.tier())
            && shared.steering().closes(call.level.tier())
        {
            Some(Reason::Brownout)
        } else {
            Some(Reason::Overload)
        };
        if let Some(reason) = reason {
            shared.gate.count_refused(call.level.tier(), reason);
            if mode == Mode::Shadow {
                return Arrival::Run(self.run_at_once(now, &call));
            }
            return Arrival::Refused(shared.waiting.refuse(reason, call.level, call.user));
        }
        self.limit(now, &call, mode, waiter)
    }

    /// A caller of this level falls silent, because nobody reads what he says.
    pub fn unheard(&self, level: Level, user: User) -> Unheard<W> {
        Unheard::new(&self.0, level, user)
    }

    /// Tells the controllers the time and the signals. To be called every [`TICK`], also when nothing arrives, and
    /// from a thread that runs when the others are busy.
    pub fn tick(&self, now: Duration, signals: &Signals) {
        controller::tick(&self.0, now, signals);
    }

    /// What a cooperating client may be told with the answer of a call that was served: `None` when it has nothing to hold back.
    pub fn hold_back(&self, level: Level, user: User) -> Option<HoldBack> {
        let cut = |tier: &Tier| !self.0.gate.would_pass(level.with_tier(*tier), user);
        let worst = Tier::ALL.into_iter().skip(1).find(cut)?;
        Some(HoldBack { open: better(worst), ttl: self.advice_ttl() })
    }

    /// What it is told when the call was refused: nothing of its tier for so long, whatever refused it. When to repeat this one call is
    /// another matter ([`Pushback`](crate::Pushback)): that is longer by as much as more of them wait.
    pub fn hold_back_refused(&self, level: Level, user: User) -> HoldBack {
        let open = better(level.tier());
        match self.hold_back(level, user) {
            Some(advice) if advice.open < open => advice,
            _ => HoldBack { open, ttl: self.advice_ttl() },
        }
    }

    /// When a caller who is refused and told to repeat his call in `pause` may come back.
    pub fn pauses(&self, pause: Duration) -> Pauses {
        Pauses { others: pause.min(self.advice_ttl()), same: pause }
    }

    fn advice_ttl(&self) -> Duration {
        Duration::from_millis(self.0.advice_ms.load(Relaxed).into())
    }

    /// How far a tier is open now.
    pub fn threshold(&self, tier: Tier) -> Threshold {
        self.0.gate.threshold(tier)
    }

    /// The rung of the brownout ladder: see [`brownout`](crate::Steering).
    pub fn rung(&self) -> u8 {
        self.0.rung.load(Relaxed) & !HELD
    }

    /// Lets the operator hold the ladder at a rung, or gives it back to the controller. Takes effect with the next tick.
    pub fn steer(&self, steering: Steering) {
        self.0.controller().steer(steering);
    }

    /// What the controllers decided in the last tick.
    pub fn view(&self) -> View {
        self.0.controller().view()
    }

    /// What became of a tier's calls since the start.
    pub fn totals(&self, tier: Tier) -> TierTotals {
        self.0.metrics.totals(tier)
    }

    fn limit(&self, now: Duration, call: &Call, mode: Mode, waiter: impl FnOnce() -> W) -> Arrival<W> {
        let shared = &self.0;
        let mut evicted = Vec::new();
        let mut core = shared.core();
        let offer = if mode == Mode::Shadow {
            core.offer_in_shadow(now, call)
        } else {
            core.offer(now, call, &shared.estimates, waiter, &mut evicted)
        };
        drop(core);
        for entry in evicted {
            shared.refuse_waiting(entry, Reason::PushedOut);
        }
        match offer {
            Offer::Run => Arrival::Run(Seat::new(shared, call, now, Duration::ZERO)),
            Offer::Queued { place, expires } => {
                // The seats may have become free while a wider call waited before this one.
                shared.serve_waiting(now);
                Arrival::Queued(Ticket::new(shared, place, call, expires))
            }
            Offer::Refused(reason) => {
                shared.gate.count_refused(call.level.tier(), reason);
                if mode == Mode::Shadow {
                    return Arrival::Run(Seat::new(shared, call, now, Duration::ZERO));
                }
                Arrival::Refused(shared.waiting.refuse(reason, call.level, call.user))
            }
        }
    }

    fn run_at_once(&self, now: Duration, call: &Call) -> Seat<W> {
        self.0.core().start(now, call.level.tier(), call.seats);
        Seat::new(&self.0, call, now, Duration::ZERO)
    }
}

impl<W: Waiter> Shared<W> {
    fn mode(&self) -> Mode {
        match self.mode.load(Relaxed) {
            mode if mode == Mode::Shadow as u8 => Mode::Shadow,
            mode if mode == Mode::Off as u8 => Mode::Off,
            _ => Mode::On,
        }
    }

    fn steering(&self) -> Steering {
        let rung = self.rung.load(Relaxed);
        if rung & HELD == 0 { Steering::Auto } else { Steering::Set(rung & !HELD) }
    }

    fn take_exempt_seat(&self) -> bool {
        let max = self.exempt_max.load(Relaxed);
        self.exempt.fetch_update(Relaxed, Relaxed, |taken| (taken < max).then_some(taken + 1)).is_ok()
    }

    /// A panic while a lock is held can only come from a law of somebody else's; the state is whole between statements.
    fn core(&self) -> MutexGuard<'_, Core<W>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn controller(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Waiter> Clone for Admission<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Waiter> fmt::Debug for Arrival<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(seat) => seat.fmt(f),
            Self::Queued(ticket) => ticket.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl<W: Waiter> fmt::Debug for Admission<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Admission").field(&self.view()).finish()
    }
}

/// The tier before this one; the best is its own.
fn better(tier: Tier) -> Tier {
    Tier::from_index((tier as usize).saturating_sub(1)).unwrap_or(Tier::Exempt)
}

const HELD: u8 = 0x80;

/// How often [`Admission::tick`] is to be called.
pub const TICK: Duration = Duration::from_millis(100);
