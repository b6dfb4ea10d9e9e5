//! Overrides of the table in [`LIMITS`](crate::LIMITS).

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quota::table::{Limit, LimitSpec};

/// The longest time in which an emptied bucket may fill again. CDSI's discovery quota, the slowest of the defaults,
/// needs 347 days. governor counts nanoseconds in 64 bits, which end after 584 years.
const REFILL_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Changes to quotas by name; what is not named keeps its row of the table.
///
/// ```toml
/// [quotas.messages]
/// burst = 120
/// period = "500ms"
///
/// [quotas.verification_start_network]
/// shadow = true
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuotaConfig(BTreeMap<Limit, LimitOverride>);

/// What is to be different about one quota.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitOverride {
    /// Permits in a full bucket, hence the most that one request can ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Time in which one permit comes back.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub period: Option<Duration>,
    /// Keys remembered, at 16 bytes each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_max: Option<u32>,
    /// Count what would be refused, and refuse nothing.
    pub shadow: bool,
    /// `false`: neither count nor refuse.
    pub enabled: bool,
}

impl LimitOverride {
    const NONE: Self = Self { burst: None, period: None, keys_max: None, shadow: false, enabled: true };
}

impl Default for LimitOverride {
    fn default() -> Self {
        Self::NONE
    }
}

/// Why a configuration of quotas cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaConfigError {
    #[error("quota `{}`: {field} must not be zero", .limit.name())]
    Zero { limit: Limit, field: &'static str },
    #[error("quota `{}`: an empty bucket would take longer than ten years to fill (burst times period)", .limit.name())]
    RefillTooLong { limit: Limit },
}

impl QuotaConfig {
    /// The override of one quota; the default when there is none.
    pub fn limit(&self, limit: Limit) -> &LimitOverride {
        self.0.get(&limit).unwrap_or(&LimitOverride::NONE)
    }

    pub fn set(&mut self, limit: Limit, change: LimitOverride) -> &mut Self {
        self.0.insert(limit, change);
        self
    }

    /// # Errors
    ///
    /// The first quota whose numbers mean nothing.
    pub fn validate(&self) -> Result<(), QuotaConfigError> {
        for &limit in self.0.keys() {
            let Settings { burst, period, keys_max, .. } = Settings::resolve(limit.spec(), self.limit(limit));
            let zero = |field| QuotaConfigError::Zero { limit, field };
            NonZeroU32::new(burst).ok_or(zero("burst"))?;
            NonZeroU32::new(keys_max).ok_or(zero("keys_max"))?;
            if period.is_zero() {
                return Err(zero("period"));
            }
            if period.checked_mul(burst).is_none_or(|refill| refill > REFILL_MAX) {
                return Err(QuotaConfigError::RefillTooLong { limit });
            }
        }
        Ok(())
    }
}

/// A row of the table with its override applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) burst: u32,
    pub(crate) period: Duration,
    pub(crate) keys_max: u32,
    pub(crate) shadow: bool,
    pub(crate) enabled: bool,
}

impl Settings {
    pub(crate) fn resolve(spec: &LimitSpec, over: &LimitOverride) -> Self {
        Self {
            burst: over.burst.unwrap_or(spec.burst),
            period: over.period.unwrap_or(spec.period),
            keys_max: over.keys_max.unwrap_or(spec.keys_max),
            shadow: over.shadow,
            enabled: over.enabled,
        }
    }

    /// Whether state counted under `other` means the same under these settings.
    pub(crate) fn same_buckets(&self, other: &Self) -> bool {
        (self.burst, self.period, self.keys_max) == (other.burst, other.period, other.keys_max)
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<QuotaConfig, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_one() {
        let error = parse("[mesages]\nburst = 1").unwrap_err();
        assert_eq!(error, "no quota is named `mesages`; did you mean `messages`?");
        assert!(parse("[messages]\nbirst = 1").unwrap_err().contains("birst"));
    }

    #[test]
    fn overrides_survive_printing() {
        let config =
            parse("[messages]\nburst = 7\nperiod = \"250ms\"\n[key_fetch]\nenabled = false").unwrap_err();
        assert!(config.contains("keys_fetch"), "{config}");
        let config =
            parse("[messages]\nburst = 7\nperiod = \"250ms\"\n[keys_fetch]\nenabled = false").unwrap();
        assert_eq!(config.limit(Limit::Messages).period, Some(Duration::from_millis(250)));
        assert_eq!(parse(&toml::to_string(&config).unwrap()), Ok(config));
    }

    #[test]
    fn meaningless_numbers_are_refused() {
        let limit = Limit::Messages;
        let validate = |text| parse(text).unwrap().validate();
        let zero = |field| Err(QuotaConfigError::Zero { limit, field });
        assert_eq!(validate("[messages]\nburst = 0"), zero("burst"));
        assert_eq!(validate("[messages]\nperiod = \"0s\""), zero("period"));
        assert_eq!(validate("[messages]\nkeys_max = 0"), zero("keys_max"));
        assert_eq!(validate("[messages]\nperiod = \"1y\""), Err(QuotaConfigError::RefillTooLong { limit }));
        assert_eq!(validate("[messages]\nperiod = \"50days\""), Ok(()));
    }

    #[test]
    fn the_table_itself_is_valid() {
        let mut config = QuotaConfig::default();
        for spec in &crate::LIMITS {
            config.set(spec.limit, LimitOverride::default());
        }
        assert_eq!(config.validate(), Ok(()));
    }
}
