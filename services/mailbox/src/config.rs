use std::time::Duration;

use serde::{Deserialize, Serialize};
use spillway_store::mailboxes::{Capacity, PageLimit};

/// The largest page in bytes that can be configured: with one more envelope it must pass the 4 MiB at which gRPC
/// clients stop reading by default.
const PAGE_BYTES_CEILING: usize = 2 * 1024 * 1024;

/// Settings of the mailbox role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many messages a mailbox holds before it is full.
    pub messages_max: u64,
    /// How many bytes of messages a mailbox holds before it is full.
    pub bytes_max: u64,
    /// From which share of either a sender is told that the mailbox is nearly full.
    pub near_full_percent: u8,
    /// The most messages that one fetch returns.
    pub page_messages_max: usize,
    /// The most bytes of messages that one fetch returns, except that one message is always returned.
    pub page_bytes_max: usize,
    /// How often the space of messages that nobody collected within 31 days is reclaimed.
    #[serde(with = "humantime_serde")]
    pub expiry_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            messages_max: 10_000,
            bytes_max: 64_000_000,
            near_full_percent: 80,
            page_messages_max: 100,
            // A reply over a message bus with the usual limit of 1 MiB a message stays well inside it.
            page_bytes_max: 400 * 1024,
            expiry_interval: Duration::from_secs(10 * 60),
        }
    }
}

/// Why a configuration cannot be used. The text names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    #[error("near_full_percent must be between 1 and 100, not {0}")]
    Percent(u8),
    #[error("page_bytes_max must be at most {PAGE_BYTES_CEILING}, not {0}")]
    PageBytes(usize),
}

impl Config {
    /// # Errors
    ///
    /// When a value cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let zeros = [
            ("messages_max", self.messages_max == 0),
            ("bytes_max", self.bytes_max == 0),
            ("page_messages_max", self.page_messages_max == 0),
            ("page_bytes_max", self.page_bytes_max == 0),
            ("expiry_interval", self.expiry_interval.is_zero()),
        ];
        if let Some((key, _)) = zeros.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero(key));
        }
        if !(1..=100).contains(&self.near_full_percent) {
            return Err(ConfigError::Percent(self.near_full_percent));
        }
        if self.page_bytes_max > PAGE_BYTES_CEILING {
            return Err(ConfigError::PageBytes(self.page_bytes_max));
        }
        Ok(())
    }

    pub(crate) const fn capacity(&self) -> Capacity {
        Capacity { messages: self.messages_max, bytes: self.bytes_max }
    }

    pub(crate) const fn page_limit(&self) -> PageLimit {
        PageLimit { messages: self.page_messages_max, bytes: self.page_bytes_max }
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
        let no_time = Config { expiry_interval: Duration::ZERO, ..Config::default() };
        assert_eq!(no_time.check(), Err(ConfigError::Zero("expiry_interval")));
        let percent = Config { near_full_percent: 101, ..Config::default() };
        assert_eq!(percent.check(), Err(ConfigError::Percent(101)));
        let page = Config { page_bytes_max: 4 * 1024 * 1024, ..Config::default() };
        assert_eq!(page.check(), Err(ConfigError::PageBytes(4 * 1024 * 1024)));
    }
}
