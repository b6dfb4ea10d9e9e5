//! The gateway's limits. Each says why its number is what it is, and what happens when it is hit.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::attestation::{WebhookAttestation, WebhookConfig, WebhookConfigError};

#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub identity: IdentityConfig,
    pub devices: DeviceCacheConfig,
    pub send: SendConfig,
    pub session: SessionConfig,
    pub room: RoomConfig,
    pub discover: DiscoverConfig,
}

/// Which numbers an account has asked about, remembered so that asking again costs nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscoverConfig {
    /// The most pairs of account and number remembered in one `remembered_for`, at 1.5 bytes each, and as many of the one
    /// before. When there are more, they are forgotten sooner and cost a permit again.
    pub remembered_max: usize,
    /// The least time for which they are remembered, if there is room.
    #[serde(with = "humantime_serde")]
    pub remembered_for: Duration,
}

/// The waiting room in front of sign-ups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomConfig {
    /// Whether a sign-up begins with an admission from the room. Without it, an admission is checked when there is one.
    pub required: bool,
    /// Whether a place costs a computation: 33,000 hashes on a quiet day, which is a blink for a phone.
    pub proof_of_work: bool,
    /// Whether devices are asked who they are when their turn comes. Absent: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation: Option<AttestationConfig>,
}

/// How devices are judged that claim their turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttestationConfig {
    pub webhook: WebhookConfig,
    /// Devices that are asked about at a time. Whoever comes when there are as many is told to come again.
    pub at_once: usize,
    /// Whether devices are let in while the webhook has no verdict. If not, nobody is called until it has: what lies behind the
    /// door costs money.
    pub admit_unjudged: bool,
}

impl Default for AttestationConfig {
    fn default() -> Self {
        Self { webhook: WebhookConfig::default(), at_once: 256, admit_unjudged: false }
    }
}

impl Default for DiscoverConfig {
    fn default() -> Self {
        // Address books of 30,000 people; at most 48 MB.
        Self { remembered_max: 16_000_000, remembered_for: Duration::from_secs(24 * 3_600) }
    }
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self { required: false, proof_of_work: true, attestation: None }
    }
}

/// Tokens and tickets, with which a device proves itself without a look-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityConfig {
    /// How long a token is good. Short, because a gateway that missed the news lets a removed device go on for as
    /// long; long enough that a busy client renews it a few times an hour. An expired token is UNAUTHENTICATED.
    #[serde(with = "humantime_serde")]
    pub token_lifetime: Duration,
    /// How long a resume ticket is good: a phone that slept through a day resumes without a look-up. An expired
    /// ticket is UNAUTHENTICATED, and the client uses its credential.
    #[serde(with = "humantime_serde")]
    pub ticket_lifetime: Duration,
    /// How long tokens and tickets may be renewed from one another before the credential must be shown again. Bounds
    /// what a device keeps that was removed while no gateway that it talks to was there to hear of it.
    #[serde(with = "humantime_serde")]
    pub proof_age_max: Duration,
    /// Used tickets that are remembered, at about 48 bytes each. When there are more, the oldest could be used again.
    pub used_tickets_max: usize,
    /// Recently changed accounts that are remembered, at about 80 bytes each. When there are more, the tokens and
    /// tickets of everybody that are older than the one forgotten cost a cached look-up once.
    pub changed_accounts_max: usize,
}

/// Who a send must reach, remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceCacheConfig {
    /// Accounts remembered, at about 300 bytes each. When there are more, the least used are looked up again.
    pub accounts_max: usize,
    /// How long a list of devices is believed when no event says otherwise: the longest time for which a lost event
    /// lets senders miss a new device.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// The longest wait for registration; then the call is UNAVAILABLE.
    #[serde(with = "humantime_serde")]
    pub load_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SendConfig {
    /// Envelopes in one send: as many as an account can have devices. More are INVALID_ARGUMENT.
    pub envelopes_max: usize,
    /// Bytes of one envelope's content. More are INVALID_ARGUMENT; attachments do not travel here.
    pub content_bytes_max: usize,
    /// How long one try of an append may take. Far below the mailbox's fence of 20 s, so that a second try fits.
    #[serde(with = "humantime_serde")]
    pub try_timeout: Duration,
    /// How long a message id is used for retries. Half of the mailbox's fence: a younger id can still be accepted,
    /// an older one is refused by the mailbox.
    #[serde(with = "humantime_serde")]
    pub same_id_for: Duration,
    /// When the gateway stops trying and answers UNAVAILABLE. The caller's deadline may come first.
    #[serde(with = "humantime_serde")]
    pub give_up_after: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// How long a new stream may stay silent. Then it ends with HELLO_EXPECTED.
    #[serde(with = "humantime_serde")]
    pub hello_timeout: Duration,
    /// Deliveries sent ahead of acks. When so many are unacked, the rest waits in the store.
    pub in_flight_max: usize,
    /// Encoded frames that wait for the client to read. When so many bytes wait, deliveries stop.
    pub outbound_bytes_max: usize,
    /// How long deliveries may be stopped for that reason. Then the stream ends with SLOW_READER.
    #[serde(with = "humantime_serde")]
    pub slow_reader_timeout: Duration,
    /// Messages and bytes of one page read from a mailbox: what one session holds of the store at a time.
    pub page_messages_max: u32,
    pub page_bytes_max: u32,
    /// Reads at a time that no hint has asked for: the first one of a session, sweeps, and those after an outage of the bus. The
    /// rest waits in the order in which it came. When thousands come back together, their streams open first, sends go on, and
    /// hints are delivered; a read takes some milliseconds, so that ten thousand sessions have read within half a minute. Unset: 2
    /// for each processor of the gateway. With four times as many, three nodes of Cassandra beside it on two processors took so much
    /// of them that sends did not work for 15 s after 5,000 devices had come back, and with these for 5 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_in_turn: Option<usize>,
    /// The longest wait for the mailbox when reading or acknowledging; then it is tried again.
    #[serde(with = "humantime_serde")]
    pub call_timeout: Duration,
    /// How long acks are collected before they go to the mailbox. A crash within it costs duplicates, not messages.
    #[serde(with = "humantime_serde")]
    pub ack_delay: Duration,
    /// Acks that are sent without waiting for `ack_delay`.
    pub ack_batch: usize,
    /// The time over which a drain spreads the departures of its sessions.
    #[serde(with = "humantime_serde")]
    pub migrate_spread: Duration,
    /// How long after the time that it was told a session is closed that has not left.
    #[serde(with = "humantime_serde")]
    pub migrate_grace: Duration,
    /// The most sessions that are told in a second to come again elsewhere, while this gateway has clearly more than the others. Each
    /// costs the gateway that takes it a handshake and a read, so as many as one does beside its work. 0: none ever.
    pub rebalance_max: u32,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            token_lifetime: Duration::from_secs(10 * 60),
            ticket_lifetime: Duration::from_secs(24 * 3600),
            proof_age_max: Duration::from_secs(7 * 24 * 3600),
            used_tickets_max: 200_000,
            changed_accounts_max: 100_000,
        }
    }
}

impl Default for DeviceCacheConfig {
    fn default() -> Self {
        Self { accounts_max: 100_000, ttl: Duration::from_secs(60), load_timeout: Duration::from_secs(2) }
    }
}

impl Default for SendConfig {
    fn default() -> Self {
        Self {
            envelopes_max: 127,
            content_bytes_max: 256 << 10,
            try_timeout: Duration::from_secs(2),
            same_id_for: Duration::from_secs(10),
            give_up_after: Duration::from_secs(30),
        }
    }
}

impl SessionConfig {
    pub(crate) fn reads_in_turn(&self) -> usize {
        let for_processors = || std::thread::available_parallelism().map_or(2, |cores| 2 * cores.get());
        self.reads_in_turn.unwrap_or_else(for_processors)
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            hello_timeout: Duration::from_secs(10),
            in_flight_max: 256,
            outbound_bytes_max: 256 << 10,
            slow_reader_timeout: Duration::from_secs(30),
            page_messages_max: 100,
            page_bytes_max: 256 << 10,
            reads_in_turn: None,
            call_timeout: Duration::from_secs(5),
            ack_delay: Duration::from_millis(100),
            ack_batch: 64,
            migrate_spread: Duration::from_secs(5),
            migrate_grace: Duration::from_secs(2),
            rebalance_max: 200,
        }
    }
}

/// How long after minting the mailbox takes an id (half of its acknowledgement fence of 20 s).
const ID_WINDOW: Duration = Duration::from_secs(10);

/// Why a configuration cannot be used. The text names the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{0} must not be zero")]
    Zero(&'static str),
    #[error("send.same_id_for must be at most {ID_WINDOW:?}, after which the mailbox refuses the id")]
    IdWindow,
    #[error(
        "send.try_timeout must be less than send.same_id_for, or a lost answer would never be asked for again"
    )]
    NoRetry,
    #[error("room.attestation.webhook: {0}")]
    Attestation(#[source] WebhookConfigError),
}

impl Config {
    /// # Errors
    ///
    /// When a value cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Self { identity, devices, send, session, room, discover } = self;
        let zeros = [
            ("identity.token_lifetime", identity.token_lifetime.is_zero()),
            ("identity.ticket_lifetime", identity.ticket_lifetime.is_zero()),
            ("identity.proof_age_max", identity.proof_age_max.is_zero()),
            ("identity.used_tickets_max", identity.used_tickets_max == 0),
            ("identity.changed_accounts_max", identity.changed_accounts_max == 0),
            ("devices.accounts_max", devices.accounts_max == 0),
            ("devices.load_timeout", devices.load_timeout.is_zero()),
            ("send.envelopes_max", send.envelopes_max == 0),
            ("send.content_bytes_max", send.content_bytes_max == 0),
            ("send.try_timeout", send.try_timeout.is_zero()),
            ("session.hello_timeout", session.hello_timeout.is_zero()),
            ("session.in_flight_max", session.in_flight_max == 0),
            ("session.outbound_bytes_max", session.outbound_bytes_max == 0),
            ("session.reads_in_turn", session.reads_in_turn == Some(0)),
            ("session.page_messages_max", session.page_messages_max == 0),
            ("session.page_bytes_max", session.page_bytes_max == 0),
            ("session.call_timeout", session.call_timeout.is_zero()),
            ("discover.remembered_max", discover.remembered_max == 0),
            ("discover.remembered_for", discover.remembered_for.is_zero()),
        ];
        if let Some((key, _)) = zeros.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero(key));
        }
        if send.same_id_for > ID_WINDOW {
            return Err(ConfigError::IdWindow);
        }
        if send.try_timeout >= send.same_id_for {
            return Err(ConfigError::NoRetry);
        }
        if let Some(attestation) = &room.attestation {
            if attestation.at_once == 0 {
                return Err(ConfigError::Zero("room.attestation.at_once"));
            }
            WebhookAttestation::new(&attestation.webhook).map_err(ConfigError::Attestation)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_can_be_used_and_an_id_older_than_its_window_cannot() {
        let mut config = Config::default();
        config.check().unwrap();
        config.send.same_id_for = Duration::from_secs(11);
        assert!(matches!(config.check(), Err(ConfigError::IdWindow)));
        config.send.same_id_for = config.send.try_timeout;
        assert!(matches!(config.check(), Err(ConfigError::NoRetry)));
        config.session.in_flight_max = 0;
        assert!(matches!(config.check(), Err(ConfigError::Zero("session.in_flight_max"))));
    }

    #[test]
    fn a_webhook_that_cannot_be_asked_is_found_at_once() {
        let mut config = Config::default();
        config.room.attestation = Some(AttestationConfig::default());
        let text = config.check().unwrap_err().to_string();
        assert_eq!(text, "room.attestation.webhook: url is not an http or https address");
    }
}
