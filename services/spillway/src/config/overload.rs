//! Overload control of this process.

use serde::{Deserialize, Serialize};
use spillway_admission::{AdmissionConfig, AdmissionConfigError};

use super::roles::Role;

/// Settings of each place where calls arrive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverloadConfig {
    /// The public port.
    pub gateway: AdmissionConfig,
    /// Each role's calls from the bus. Registration begins with 4 seats for each processor, unless `limiter.initial` says
    /// otherwise.
    pub workers: AdmissionConfig,
}

/// For each processor, the least calls that a gateway serves at a time. It mostly waits for workers, and with the two of a
/// worker it would cut far below what it can do when all of them slow down together (simulated: E4).
const GATEWAY_LEAST_SEATS: u32 = 32;

/// For each processor, what registration begins with. Its writes are the dearest there are for the database that the mailboxes
/// share, so existing users would pay for what it begins too much, and it would take a database that never was without a
/// crowd of sign-ups for one that is slow by itself. Newcomers lose little: where there is room it grows by half each second.
const REGISTRATION_FIRST_SEATS: u32 = 4;

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

    /// The settings of a role's calls from the bus, with what depends on the role and the machine.
    pub(crate) fn of_worker(&self, role: Role) -> AdmissionConfig {
        let mut config = self.workers.clone();
        if role == Role::Registration {
            let cores = config.cores.unwrap_or_else(cores);
            let first = REGISTRATION_FIRST_SEATS.saturating_mul(cores).min(config.limiter.most);
            config.limiter.initial.get_or_insert(first);
        }
        config
    }
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registration_begins_small_unless_it_is_told_otherwise() {
        let mut config = OverloadConfig::default();
        config.workers.cores = Some(2);
        let first = |config: &OverloadConfig, role| config.of_worker(role).limiter.initial;
        assert_eq!(first(&config, Role::Registration), Some(8));
        assert_eq!(first(&config, Role::Mailbox), None);
        config.workers.limiter.most = 5;
        assert_eq!(first(&config, Role::Registration), Some(5));
        config.workers.limiter.initial = Some(3);
        assert_eq!(first(&config, Role::Registration), Some(3));
    }
}
