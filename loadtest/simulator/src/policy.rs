//! What a server under simulation decides: whom it lets in, whom it lets wait, whom it sends away.
//!
//! The engine owns the work; a policy owns the order. It is told of arrivals, of departures, and of the time, and
//! answers in [`Decision`]s and [`Effects`]. Comparators have the formulas and defaults that their authors published,
//! listed in `reference/overload.md` a.1; each file names its source.

mod codel_lifo;
mod dagor;
mod envoy;
mod failsafe;
mod fixed;
mod gradient2;
mod limited;
mod none;
mod ours;
mod statistics;
mod vegas;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::time::Nanos;

/// Tiers of `overload.md` b.2, 0 (exempt) to 7 (background).
pub const TIERS: usize = 8;

/// Levels: a tier and one of 128 cohorts of users. The lower, the more important.
pub const LEVELS: usize = TIERS << 7;

/// A call whose headers have just been read.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Names the call in effects, until its departure.
    pub call: u32,
    /// 1 is an acknowledgement, 7 is background.
    pub tier: u8,
    /// A stable hash of who calls.
    pub user: u64,
    /// `tier << 7 | cohort`; the same for every try of a call.
    pub level: u16,
    /// When the headers reached this server, before its processors had time to look at them.
    pub reached: Nanos,
    /// After it the caller does not listen any more.
    pub deadline: Nanos,
    /// Whether a gateway asks, and not a device.
    pub inner: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Run,
    /// The policy names the call later, in [`Effects`].
    Wait,
    Refuse(Refusal),
}

/// What a refused caller is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    pub pushback: Pushback,
    /// `RetryInfo`: when the user may ask for this tier again, whatever the library does.
    pub come_back: Option<Nanos>,
    /// The answer is kept back for so long, which costs memory and no processor.
    pub hold: Nanos,
    /// The connection is closed with it.
    pub close: bool,
}

/// What `grpc-retry-pushback-ms` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pushback {
    /// Nothing; the client goes by its own rules.
    #[default]
    Silent,
    After(Nanos),
    /// A negative number: do not repeat this call.
    Never,
}

/// A call that ran and is over.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    pub call: u32,
    pub tier: u8,
    pub user: u64,
    pub reached: Nanos,
    pub started: Nanos,
    /// Calls that ran when this one started, itself included.
    pub inflight_at_start: u32,
    pub ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Answered while the caller still listened.
    Served,
    /// Answered to nobody.
    Late,
    /// A server behind this one refused.
    Refused,
    /// An error, or a server behind this one is gone.
    Failed,
}

/// What a policy decides about calls that waited.
#[derive(Debug, Default)]
pub struct Effects {
    pub run: Vec<u32>,
    pub refuse: Vec<(u32, Refusal)>,
}

/// What a server can measure about itself between two ticks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signals {
    /// Share of its processors that were busy.
    pub cpu: f64,
    /// Time that tasks waited for a processor, 90th percentile: what an async runtime calls scheduling delay.
    pub run_queue: Nanos,
}

/// What an answer tells a client that cooperates: calls of a worse tier are better not made for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldBack {
    pub worst_open: u8,
    pub ttl: Nanos,
}

/// What a server tells those who call it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Advice {
    /// The worst level that it admits.
    pub open_level: u16,
    /// 1 is as much as it can do, 2 is twice that.
    pub pressure: f64,
}

/// A law of admission.
pub trait Policy: Debug {
    /// A call has arrived.
    fn arrive(&mut self, arrival: &Arrival, now: Nanos, effects: &mut Effects) -> Decision;

    /// A call that ran is over; what waited may run.
    fn depart(&mut self, departure: &Departure, now: Nanos, effects: &mut Effects);

    /// Called every [`tick_interval`](Self::tick_interval).
    fn tick(&mut self, _signals: &Signals, _now: Nanos, _effects: &mut Effects) {}

    /// `None`: this law needs no clock of its own.
    fn tick_interval(&self) -> Option<Nanos> {
        None
    }

    /// What goes out with each answer to this user; `refused`: here or by a server behind this one.
    fn hold_back(&mut self, _level: u16, _user: u64, _refused: bool) -> Option<HoldBack> {
        None
    }

    /// What goes out with each answer to the server that called this one.
    fn advice(&self) -> Option<Advice> {
        None
    }

    /// A server behind this one has told how it is.
    fn hear(&mut self, _server: usize, _advice: Advice, _now: Nanos) {}

    /// A device wants a connection. `None`: now. Otherwise it stays in the accept queue of the kernel for so long,
    /// which costs nothing.
    fn accept(&mut self, _now: Nanos) -> Option<Nanos> {
        None
    }
}

/// The laws that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// The product's own: `services/admission`.
    Ours,
    None,
    /// A fixed number of calls at once, the best one by sweep.
    Static,
    CodelLifo,
    Gradient2,
    Vegas,
    Dagor,
    Envoy,
    Failsafe,
}

impl Law {
    /// What checks are about unless they say otherwise.
    pub const OURS: Self = Self::Ours;

    pub const ALL: [Self; 9] = [
        Self::Ours,
        Self::None,
        Self::Static,
        Self::CodelLifo,
        Self::Gradient2,
        Self::Vegas,
        Self::Dagor,
        Self::Envoy,
        Self::Failsafe,
    ];

    /// As scenario files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::None => "none",
            Self::Static => "static",
            Self::CodelLifo => "codel-lifo",
            Self::Gradient2 => "gradient2",
            Self::Vegas => "vegas",
            Self::Dagor => "dagor",
            Self::Envoy => "envoy",
            Self::Failsafe => "failsafe",
        }
    }

    pub(crate) fn build(self, site: &Site) -> Box<dyn Policy> {
        match self {
            Self::Ours => Box::new(ours::Ours::new(site)),
            Self::None => Box::new(none::None),
            Self::Static => Box::new(fixed::fixed(site.limit)),
            Self::CodelLifo => Box::new(codel_lifo::CodelLifo::new(site.limit)),
            Self::Gradient2 => Box::new(gradient2::gradient2()),
            Self::Vegas => Box::new(vegas::vegas(site.seed)),
            Self::Dagor => Box::new(dagor::Dagor::new(site.limit)),
            Self::Envoy => Box::new(envoy::envoy(site.seed)),
            Self::Failsafe => Box::new(failsafe::Failsafe::new(site.seed)),
        }
    }
}

/// Where a policy is to work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    /// Calls at once that a sweep found best here: what a careful operator would have configured.
    pub(crate) limit: u32,
    pub(crate) cores: u32,
    /// Its calls wait for servers behind it; its own processors do little.
    pub(crate) passes_on: bool,
    /// Of a core, for a handshake; none where there are no connections.
    pub(crate) handshake: Option<Nanos>,
    pub(crate) seed: u64,
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn arrival(call: u32, level: u16, now: Nanos) -> Arrival {
        Arrival {
            call,
            tier: (level >> 7) as u8,
            user: u64::from(call),
            level,
            reached: now,
            deadline: now + Nanos::SECOND,
            inner: false,
        }
    }

    pub(crate) fn departure(call: u32, started: Nanos, inflight_at_start: u32) -> Departure {
        Departure {
            call,
            tier: 3,
            user: u64::from(call),
            reached: started,
            started,
            inflight_at_start,
            ending: Ending::Served,
        }
    }
}
