use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::keeper::CATCH_UP_MAX;

/// The public API promises this many numbers in one call; a larger setting would help nobody.
const NUMBERS_CEILING: usize = 1_000;

/// Settings of the directory role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The most numbers that one call may ask about.
    pub numbers_max: usize,
    pub filter: FilterConfig,
}

/// What keeps questions about strangers away from the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterConfig {
    /// The most memory for one filter, of which there are two while it is built anew. It takes 1.5 bytes an entry, and up
    /// to 3 after a day on which their number trebled. Where that is not enough, more questions than 1 in 100 reach
    /// the store.
    pub bytes_max: usize,
    /// How often it is built anew from the store, which forgets entries that are gone. Each process spreads it by a tenth.
    #[serde(with = "humantime_serde")]
    pub rebuild_every: Duration,
    /// How often the store is asked for what is new. The bus tells at once, but may lose it; this finds what was lost.
    #[serde(with = "humantime_serde")]
    pub catch_up_every: Duration,
    /// How long a process that has not finished its first filter is not ready. After that it is ready without, and asks the
    /// store about everybody.
    #[serde(with = "humantime_serde")]
    pub ready_within: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { numbers_max: NUMBERS_CEILING, filter: FilterConfig::default() }
    }
}

impl Default for FilterConfig {
    fn default() -> Self {
        Self {
            // Some 180 million entries.
            bytes_max: 256 << 20,
            rebuild_every: Duration::from_secs(3_600),
            catch_up_every: Duration::from_secs(10),
            ready_within: Duration::from_secs(60),
        }
    }
}

/// Why a configuration cannot be used. The text names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("numbers_max must be between 1 and {NUMBERS_CEILING}, not {0}")]
    NumbersMax(usize),
    #[error("filter.bytes_max must be at least {FILTER_BYTES_MIN}")]
    FilterBytes,
    #[error("filter.rebuild_every must not be zero")]
    RebuildEvery,
    #[error(
        "filter.catch_up_every must be more than zero and at most {CATCH_UP_MAX:?}, or who can be found would not be found within a minute"
    )]
    CatchUpEvery,
}

/// A filter that is smaller saves nothing worth having.
const FILTER_BYTES_MIN: usize = 1 << 20;

impl Config {
    /// # Errors
    ///
    /// When a value cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let filter = &self.filter;
        if !(1..=NUMBERS_CEILING).contains(&self.numbers_max) {
            return Err(ConfigError::NumbersMax(self.numbers_max));
        }
        if filter.bytes_max < FILTER_BYTES_MIN {
            return Err(ConfigError::FilterBytes);
        }
        if filter.rebuild_every.is_zero() {
            return Err(ConfigError::RebuildEvery);
        }
        if filter.catch_up_every.is_zero() || filter.catch_up_every > CATCH_UP_MAX {
            return Err(ConfigError::CatchUpEvery);
        }
        Ok(())
    }
}
