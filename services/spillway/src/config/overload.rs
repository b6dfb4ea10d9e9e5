//! Overload control of this process.

use serde::{Deserialize, Serialize};
use spillway_admission::{AdmissionConfig, AdmissionConfigError};

/// Settings of each place where calls arrive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverloadConfig {
    /// The public port.
    pub gateway: AdmissionConfig,
    /// Each role's calls from the bus.
    pub workers: AdmissionConfig,
}

/// For each processor, the least calls that a gateway serves at a time. It mostly waits for workers, and with the two of a
/// worker it would cut far below what it can do when all of them slow down together (simulated: E4).
const GATEWAY_LEAST_SEATS: u32 = 32;

impl OverloadConfig {
    /// # Errors
    ///
    /// The first value that cannot work.
    pub fn check(&self) -> Result<(), AdmissionConfigError> {
        self.gateway.validate()?;
        self.workers.validate()
    }

    /// The gateway's settings with what depends on the machine.
    pub(crate) fn of_gateway(&self) -> AdmissionConfig {
        let mut config = self.gateway.clone();
        let cores = config.cores.unwrap_or_else(cores);
        let least = GATEWAY_LEAST_SEATS.saturating_mul(cores).min(config.limiter.most);
        config.limiter.least.get_or_insert(least);
        config
    }
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}
