//! The triggers of E7 (`overload.md` c.2): what happens to a fleet that runs at 93 % and would be well without it.

use serde::{Deserialize, Serialize};

use crate::time::Nanos;

/// How long a pause of the garbage collector lasts.
pub(crate) const PAUSE: Nanos = Nanos::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// No message arrives anywhere.
    Blackhole,
    /// All work takes three times as long.
    Slowness,
    /// What was cached has to be computed again, until served calls have filled the cache.
    CacheFlush,
    /// A quarter of the servers that do the work is gone.
    BackendKill,
    /// All processors stand still for 2 s.
    GcPause,
    /// Three in ten messages come late by a retransmission, or by several.
    PacketLoss,
    /// The policies' clock jumps an hour ahead, as a monotonic one does when a machine wakes up. It never goes back.
    ClockJump,
    /// What servers tell each other about their load does not arrive.
    CoordinatorLoss,
    /// Gateways restart one after the other, and forget what they had learnt.
    Deploy,
    /// Every connection breaks at once.
    MassReconnect,
    /// One tenant sends calls that cost twenty times as much.
    PoisonTenant,
    /// Ten times as many calls.
    Burst,
}

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::Blackhole,
        Self::Slowness,
        Self::CacheFlush,
        Self::BackendKill,
        Self::GcPause,
        Self::PacketLoss,
        Self::ClockJump,
        Self::CoordinatorLoss,
        Self::Deploy,
        Self::MassReconnect,
        Self::PoisonTenant,
        Self::Burst,
    ];

    /// As scenario files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::Slowness => "slowness",
            Self::CacheFlush => "cache-flush",
            Self::BackendKill => "backend-kill",
            Self::GcPause => "gc-pause",
            Self::PacketLoss => "packet-loss",
            Self::ClockJump => "clock-jump",
            Self::CoordinatorLoss => "coordinator-loss",
            Self::Deploy => "deploy",
            Self::MassReconnect => "mass-reconnect",
            Self::PoisonTenant => "poison-tenant",
            Self::Burst => "burst",
        }
    }
}
