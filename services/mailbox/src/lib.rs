//! The mailbox role: stores messages for devices, hands them out, and forgets them when the device has them.
//!
//! Workers keep nothing between calls and know nothing of each other; any of them serves any mailbox.
//!
//! Invariants:
//! - A message that was acknowledged is on disk, and a read that starts at the settled watermark finds it until the
//!   device has acknowledged it. `window` holds the times and the proof.
//! - A hint is published after the write that it tells of, so whoever looks at the store because of it finds it.
//! - Every operation may be repeated.
//!
//! Deliberately absent: an order across senders (ids are minted at gateways, whose clocks differ), de-duplication of
//! a sender's retries (the receiving client does it, by guid), and any look inside an envelope.

mod acknowledge;
mod append;
mod config;
mod error;
mod expiry;
mod fetch;
mod grpc;
mod hints;
mod metrics;
mod purge;
#[cfg(test)]
mod testing;
mod whisper;
mod window;
mod wire;

use std::sync::Arc;

use prometheus::Registry;
use spillway_api::internal::v1::mailbox_server::MailboxServer;
use spillway_bus::Bus;
use spillway_chassis::Tasks;
use spillway_store::Mailboxes;
use spillway_types::Clock;

pub use config::{Config, ConfigError};
pub use error::BuildError;
pub use metrics::describe_metrics;
pub use wire::{ACKNOWLEDGED_IDS_MAX, ENVELOPE_BYTES_MAX, PURGED_MAILBOXES_MAX};

use crate::hints::Hints;
use crate::metrics::Metrics;
use crate::window::HighestSettled;

/// What the role works with.
#[derive(Debug)]
pub struct Deps {
    pub mailboxes: Arc<dyn Mailboxes>,
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    /// Appends run here, so whoever drains the process waits for them; and the reclaiming of expired messages.
    pub tasks: Tasks,
    pub registry: Registry,
}

/// The role. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Mailbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    mailboxes: Arc<dyn Mailboxes>,
    hints: Hints,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    metrics: Metrics,
    highest_settled: HighestSettled,
}

impl Mailbox {
    /// Also starts the task that reclaims expired messages, so it must be called within a runtime.
    ///
    /// # Errors
    ///
    /// When a setting cannot work, or the registry already has this role's metrics.
    pub fn new(config: Config, deps: Deps) -> Result<Self, BuildError> {
        config.check()?;
        let metrics = Metrics::register(&deps.registry)?;
        let shared = Shared {
            hints: Hints::new(deps.bus, metrics.hints.clone()),
            mailboxes: deps.mailboxes,
            clock: deps.clock,
            tasks: deps.tasks,
            metrics,
            highest_settled: HighestSettled::default(),
            config,
        };
        let mailbox = Self { shared: Arc::new(shared) };
        let expiry = mailbox.clone();
        mailbox.shared.tasks.spawn("mailbox_expiry", async move { expiry.expire_until_cancelled().await });
        Ok(mailbox)
    }

    /// The service, with its limits on the size of messages.
    pub fn into_server(self) -> MailboxServer<Self> {
        let reply_bytes_max = wire::reply_bytes_max(&self.shared.config);
        MailboxServer::new(self)
            .max_decoding_message_size(wire::REQUEST_BYTES_MAX)
            .max_encoding_message_size(reply_bytes_max)
    }
}
