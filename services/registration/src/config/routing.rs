use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::ConfigError;
use crate::routing::{BudgetLimits, GuardLimits};

/// A country calling code, such as 49: a number, or a string where it is the key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct CountryCode(pub u16);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a country calling code, such as 49")]
pub struct CountryCodeError(String);

impl TryFrom<String> for CountryCode {
    type Error = CountryCodeError;

    fn try_from(text: String) -> Result<Self, CountryCodeError> {
        match text.parse() {
            // ITU-T E.164: one to three digits, the first not a zero.
            Ok(code @ 1..=999) if !text.starts_with(['0', '+']) => Ok(Self(code)),
            _ => Err(CountryCodeError(text)),
        }
    }
}

impl<'de> Deserialize<'de> for CountryCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CodeVisitor)
    }
}

struct CodeVisitor;

impl Visitor<'_> for CodeVisitor {
    type Value = CountryCode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a country calling code, such as 49")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<CountryCode, E> {
        CountryCode::try_from(text.to_owned()).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<CountryCode, E> {
        CountryCode::try_from(number.to_string()).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<CountryCode, E> {
        CountryCode::try_from(number.to_string()).map_err(E::custom)
    }
}

impl From<CountryCode> for String {
    fn from(code: CountryCode) -> Self {
        code.to_string()
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a provider is chosen for each code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoutingConfig {
    /// What a proved number may cost, in millionths of the currency's unit. A provider that is dearer by a tenth of this
    /// is chosen when ten per cent more of its codes are typed.
    pub worth: u64,
    /// How long a code has at least to be typed before it counts as one that did not arrive. It is twice the present
    /// delivery delay if that is more, and ten minutes at most.
    #[serde(with = "humantime_serde")]
    pub grace_min: Duration,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self { worth: 1_000_000, grace_min: Duration::from_secs(60) }
    }
}

/// What codes may cost, in millionths of the currency's unit, at all registration processes together: each borrows what it spends, in small
/// shares, from a ledger in the store. When half of an amount is spent, that is logged; when all
/// is, codes stay queued until the next hour or day begins, in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hour: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<u64>,
    /// A day in one country calling code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country_day: Option<u64>,
    /// The same where a country needs another amount.
    pub countries: BTreeMap<CountryCode, u64>,
}

impl BudgetConfig {
    pub(crate) fn limits(&self) -> BudgetLimits {
        BudgetLimits {
            hour: self.hour,
            day: self.day,
            country_day: self.country_day,
            countries: self.countries.iter().map(|(code, amount)| (code.0, *amount)).collect(),
        }
    }
}

/// Against pumping: numbers whose network pays somebody for the SMS that we send. Sandboxes that cost nothing are not
/// guarded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    pub enabled: bool,
    /// Numbers that share all but their last four digits are cut off while the share of their codes that is typed is
    /// surely below this.
    pub conversion_min: f64,
    /// Codes that are needed to be sure. Twice as many for a network, twenty times for a country.
    pub codes_min: NonZeroU32,
    /// Codes of one such prefix that may be out at a time before one has been typed; each that is typed allows four
    /// more. More have to wait.
    pub out_max: NonZeroU32,
    /// What was counted counts half after this time, so that a prefix comes back.
    #[serde(with = "humantime_serde")]
    pub half_life: Duration,
    /// Prefixes, networks and countries remembered, at about 200 bytes each.
    pub places_max: NonZeroU32,
}

impl Default for GuardConfig {
    fn default() -> Self {
        let some = |n| NonZeroU32::new(n).expect("not zero");
        Self {
            enabled: true,
            conversion_min: 0.25,
            codes_min: some(30),
            out_max: some(30),
            half_life: Duration::from_secs(3_600),
            places_max: some(65_536),
        }
    }
}

impl GuardConfig {
    pub(crate) fn limits(&self) -> Option<GuardLimits> {
        self.enabled.then(|| GuardLimits {
            conversion_min: self.conversion_min,
            codes_min: self.codes_min.get(),
            out_max: self.out_max.get(),
            half_life: self.half_life,
            places_max: self.places_max.get() as usize,
        })
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        // At 1 the bound would be below it for everybody, and negative or no numbers cut nobody off.
        if !(self.conversion_min > 0.0 && self.conversion_min < 1.0) {
            return Err(ConfigError::Share("guard.conversion_min"));
        }
        if self.half_life.is_zero() {
            return Err(ConfigError::Zero("guard.half_life"));
        }
        Ok(())
    }
}

impl RoutingConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.worth == 0 {
            return Err(ConfigError::Zero("routing.worth"));
        }
        if self.grace_min.is_zero() {
            return Err(ConfigError::Zero("routing.grace_min"));
        }
        Ok(())
    }
}

/// What a code costs, in millionths of the currency's unit, such as `{ default = 50_000, 49 = 75_000 }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CostConfig {
    pub default: u64,
    /// By country calling code.
    #[serde(flatten)]
    pub countries: BTreeMap<CountryCode, u64>,
}

impl CostConfig {
    pub(crate) fn by_country(&self) -> HashMap<u16, u64> {
        self.countries.iter().map(|(code, cost)| (code.0, *cost)).collect()
    }
}
