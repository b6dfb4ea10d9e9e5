use serde::{Deserialize, Serialize};

/// The public API promises this many numbers in one call; a larger setting would help nobody.
const NUMBERS_CEILING: usize = 1_000;

/// Settings of the directory role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The most numbers that one call may ask about.
    pub numbers_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { numbers_max: NUMBERS_CEILING }
    }
}

/// Why a configuration cannot be used. The text names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("numbers_max must be between 1 and {NUMBERS_CEILING}, not {0}")]
    NumbersMax(usize),
}

impl Config {
    /// # Errors
    ///
    /// When a value cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        if (1..=NUMBERS_CEILING).contains(&self.numbers_max) {
            Ok(())
        } else {
            Err(ConfigError::NumbersMax(self.numbers_max))
        }
    }
}
