mod routing;

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use routing::{BudgetConfig, CostConfig, CountryCode, CountryCodeError, GuardConfig, RoutingConfig};

use crate::provider::{self, ProviderConfig, ProvidersError};

/// Settings of the registration role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who delivers codes. Empty: the one of the section `[provider]`.
    pub providers: Vec<ProviderConfig>,
    pub routing: RoutingConfig,
    pub budget: BudgetConfig,
    pub guard: GuardConfig,
    pub verification: VerificationConfig,
    pub dispatch: DispatchConfig,
    pub devices: DevicesConfig,
    pub keys: KeysConfig,
}

/// Why a configuration cannot be used. The text names the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    #[error("{0} must be between 0 and 1")]
    Share(&'static str),
    #[error("providers cannot be used")]
    Providers(#[from] ProvidersError),
}

impl Config {
    /// # Errors
    ///
    /// The first value that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.routing.check()?;
        self.guard.check()?;
        Ok(provider::check(&self.providers, &self.budget)?)
    }
}

/// What one verification session allows. The lists follow Signal's registration service: a delay for each repetition,
/// and when the list is used up, the action is over for that session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerificationConfig {
    /// Wait after the first SMS, the second, and so on. One more SMS than this list is long can be had.
    ///
    /// 1, 3 and 10 minutes: most codes arrive within one minute, and each further SMS costs money and helps less.
    #[serde(with = "durations")]
    pub sms_delays: Vec<Duration>,
    /// Wait between the hand-over of the first SMS and the first voice call: a call costs several times an SMS, so it
    /// is for those whom the SMS did not reach.
    #[serde(with = "humantime_serde")]
    pub voice_after_sms: Duration,
    /// As `sms_delays`, for voice calls.
    #[serde(with = "durations")]
    pub voice_delays: Vec<Duration>,
    /// Wait after the first try of a code, the second, and so on. One more try than this list is long can be had.
    ///
    /// Six tries at a six-digit code guess it with probability 6 in a million. The first two are free because people
    /// mistype.
    #[serde(with = "durations")]
    pub check_delays: Vec<Duration>,
    /// How long a code is good after its hand-over, at least. It is more while delivery is slow: four times the delay
    /// that nine of ten codes have at present.
    #[serde(with = "humantime_serde")]
    pub code_lifetime: Duration,
    /// How long a session lives after the last moment at which something new was possible in it.
    #[serde(with = "humantime_serde")]
    pub idle_lifetime: Duration,
    /// How long a session lives in all. Only a code handed over shortly before, or a number just proved, stretches it.
    #[serde(with = "humantime_serde")]
    pub lifetime_max: Duration,
}

impl Default for VerificationConfig {
    fn default() -> Self {
        Self {
            sms_delays: [60, 180, 600].map(Duration::from_secs).into(),
            voice_after_sms: Duration::from_secs(60),
            voice_delays: [180, 600].map(Duration::from_secs).into(),
            check_delays: [0, 0, 5, 15, 60].map(Duration::from_secs).into(),
            code_lifetime: Duration::from_secs(600),
            idle_lifetime: Duration::from_secs(600),
            lifetime_max: Duration::from_secs(1_800),
        }
    }
}

/// How queued codes are handed to the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DispatchConfig {
    /// Calls to the provider at the same time. 256 calls of 0.3 s are 850 codes a second, more than providers take.
    pub concurrency: NonZeroUsize,
    /// Codes in a queue in memory. The rest waits in the store, so this bounds memory and loses nothing.
    pub queue_max: NonZeroUsize,
    /// How often, on average, the store is asked for codes that the work queue does not know of.
    #[serde(with = "humantime_serde")]
    pub reap_interval: Duration,
    /// Codes that are brought back to the work queue each time. 1,000 in 2 s are more than a process hands over.
    pub reap_max: NonZeroUsize,
    /// How much longer than `provider_timeout` a worker holds a code: time to write, and for clocks that differ. A
    /// worker that dies delays the codes in its hands by both together.
    #[serde(with = "humantime_serde")]
    pub claim_margin: Duration,
    /// How often expired sessions are forgotten.
    #[serde(with = "humantime_serde")]
    pub expiry_interval: Duration,
    /// How long one call to the provider may take.
    #[serde(with = "humantime_serde")]
    pub provider_timeout: Duration,
    /// Pause after the first failed hand-over of a code; doubled for each further one.
    #[serde(with = "humantime_serde")]
    pub backoff_min: Duration,
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// Failed hand-overs after which a request is given up, and the person has to ask again. Eight take two minutes.
    pub attempts_max: NonZeroU8,
}

impl Default for DispatchConfig {
    fn default() -> Self {
        Self {
            concurrency: NonZeroUsize::new(256).expect("not zero"),
            queue_max: NonZeroUsize::new(10_000).expect("not zero"),
            reap_interval: Duration::from_secs(2),
            reap_max: NonZeroUsize::new(1_000).expect("not zero"),
            claim_margin: Duration::from_secs(15),
            expiry_interval: Duration::from_secs(60),
            provider_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
            attempts_max: NonZeroU8::new(8).expect("not zero"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DevicesConfig {
    /// Devices of an account, the primary one included. 6, as at Signal: every send is multiplied by it.
    pub devices_max: NonZeroU8,
    /// How long a link token is good: the time to scan a code on the other device.
    #[serde(with = "humantime_serde")]
    pub link_token_lifetime: Duration,
}

impl Default for DevicesConfig {
    fn default() -> Self {
        Self {
            devices_max: NonZeroU8::new(6).expect("not zero"),
            link_token_lifetime: Duration::from_secs(600),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysConfig {
    /// One-time keys stored for a device; more are dropped. Two uploads of the greatest size.
    pub one_time_max: usize,
}

impl Default for KeysConfig {
    fn default() -> Self {
        Self { one_time_max: 200 }
    }
}

/// Lists of durations in the form that `humantime_serde` gives to one.
mod durations {
    use std::time::Duration;

    use humantime_serde::Serde;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(durations: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(durations.iter().map(|duration| Serde::from(*duration)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
        let durations = Vec::<Serde<Duration>>::deserialize(deserializer)?;
        Ok(durations.into_iter().map(Serde::into_inner).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_survive_being_written_and_read() {
        let written = serde_json::to_value(Config::default()).unwrap();
        assert_eq!(written["verification"]["sms_delays"], serde_json::json!(["1m", "3m", "10m"]));
        assert_eq!(serde_json::from_value::<Config>(written).unwrap(), Config::default());
    }
}
