use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use spillway_types::Timestamp;

use crate::lease::Timing;

/// Settings of the control role. The times of the lease must be the same in all its processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long the lease must be seen unchanged before another process takes it.
    #[serde(with = "humantime_serde")]
    pub takeover_after: Duration,
    /// How long the holder may act after the start of its last successful renewal.
    #[serde(with = "humantime_serde")]
    pub valid_for: Duration,
    /// How often the holder renews.
    #[serde(with = "humantime_serde")]
    pub renew_every: Duration,
    /// How often the others look at the lease. A failover takes up to this time and `takeover_after`.
    #[serde(with = "humantime_serde")]
    pub poll_every: Duration,
    /// The longest wait for the store. What it did then is found out by reading.
    #[serde(with = "humantime_serde")]
    pub call_timeout: Duration,
    /// A process whose beacons have not been heard for so long is no longer counted.
    #[serde(with = "humantime_serde")]
    pub beacon_silence: Duration,
    /// The most processes that are remembered. Beacons of more are counted and dropped.
    pub processes_max: usize,
    pub room: RoomConfig,
    pub scaler: ScalerConfig,
}

/// KEDA's external scaler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScalerConfig {
    /// Where KEDA's operator asks, without TLS and without credentials: it learns how much there is to do and changes nothing. `0.0.0.0:7710` where a
    /// network policy lets only KEDA in. Unset: nobody is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// The waiting room.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomConfig {
    /// The most sign-ups a second that are let in, whatever gateways have room for and providers take. Unset: no bound but theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_ups_per_second: Option<f64>,
    /// Polls a second that a whole room may cost. The more people wait, the longer they are told to.
    pub polls_max: f64,
    /// The mean time of a write to the store, of the whole fleet and of either kind, from which on it has nothing to spare for more sign-ups: fewer are let in
    /// then, the fewer the longer it is. A quarter of a second: the ten or so writes of a sign-up, one after another, then take as long as
    /// people wait for a page.
    #[serde(with = "humantime_serde")]
    pub store_busy: Duration,
    /// A scheduled opening, such as `2026-12-01T18:00:00Z`: nobody is let in before, and among those who come before places are drawn by
    /// lot. Once in the life of a room, that is of its store. Unset: the room is open.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<SystemTime>,
}

impl RoomConfig {
    pub(crate) fn opening(&self) -> Option<Timestamp> {
        let since = self.opens_at?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Timestamp::ZERO.saturating_add(since))
    }
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self {
            sign_ups_per_second: None,
            polls_max: spillway_waiting_room::POLLS_MAX,
            store_busy: Duration::from_millis(250),
            opens_at: None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            takeover_after: Duration::from_millis(3_500),
            valid_for: Duration::from_millis(2_500),
            renew_every: Duration::from_secs(1),
            poll_every: Duration::from_millis(500),
            call_timeout: Duration::from_millis(500),
            beacon_silence: Duration::from_secs(5),
            processes_max: 10_000,
            room: RoomConfig::default(),
            scaler: ScalerConfig::default(),
        }
    }
}

/// Why a configuration cannot be used. The text names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{0} must be a number more than 0")]
    Rate(&'static str),
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    #[error(
        "valid_for must be less than 9/11 of takeover_after, so that a holder whose clock is 10 % slow ends before a \
         contender whose clock is 10 % fast begins"
    )]
    Overlap,
    #[error(
        "renew_every and two times call_timeout must be less than valid_for, so that one lost call loses no lease"
    )]
    Renewal,
}

impl Config {
    /// # Errors
    ///
    /// When a value cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let zeros = [
            ("takeover_after", self.takeover_after.is_zero()),
            ("valid_for", self.valid_for.is_zero()),
            ("renew_every", self.renew_every.is_zero()),
            ("poll_every", self.poll_every.is_zero()),
            ("call_timeout", self.call_timeout.is_zero()),
            ("beacon_silence", self.beacon_silence.is_zero()),
            ("processes_max", self.processes_max == 0),
            ("room.store_busy", self.room.store_busy.is_zero()),
        ];
        if let Some((key, _)) = zeros.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero(key));
        }
        let rates = [
            ("room.sign_ups_per_second", self.room.sign_ups_per_second.unwrap_or(1.0)),
            ("room.polls_max", self.room.polls_max),
        ];
        if let Some((key, _)) = rates.into_iter().find(|(_, rate)| !rate.is_finite() || *rate <= 0.0) {
            return Err(ConfigError::Rate(key));
        }
        if self.valid_for.saturating_mul(11) >= self.takeover_after.saturating_mul(9) {
            return Err(ConfigError::Overlap);
        }
        if self.renew_every.saturating_add(self.call_timeout.saturating_mul(2)) >= self.valid_for {
            return Err(ConfigError::Renewal);
        }
        Ok(())
    }

    pub(crate) fn timing(&self) -> Timing {
        Timing {
            takeover_after: self.takeover_after,
            valid_for: self.valid_for,
            renew_every: self.renew_every,
            poll_every: self.poll_every,
            retry_pause: self.call_timeout / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_works() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_named() {
        let default = Config::default;
        assert_eq!(Config { processes_max: 0, ..default() }.check(), Err(ConfigError::Zero("processes_max")));
        let room = RoomConfig { sign_ups_per_second: Some(0.0), ..RoomConfig::default() };
        let closed = Config { room, ..default() };
        assert_eq!(closed.check(), Err(ConfigError::Rate("room.sign_ups_per_second")));
        let hasty = Config { takeover_after: Duration::from_secs(3), ..default() };
        assert_eq!(hasty.check(), Err(ConfigError::Overlap));
        let patient = Config { call_timeout: Duration::from_millis(750), ..default() };
        assert_eq!(patient.check(), Err(ConfigError::Renewal));
    }
}
