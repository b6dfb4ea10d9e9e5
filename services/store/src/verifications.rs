//! Verification sessions, and the durable queue of codes to hand to a provider.

use async_trait::async_trait;
use bytes::Bytes;
use spillway_types::{AccountId, KeyedHash, NumberMac, Timestamp};

use crate::{Cas, StoreError};

/// Keyed hash of the session's secret, so that a leaked store lets nobody finish a sign-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerificationId(pub [u8; 32]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Sms,
    Voice,
}

/// Which provider, by a hash of its name: short enough to keep in every session, and the same in all processes whatever
/// the order of their settings. 0 to 2^32 - 1; the registration role refuses settings with two names of one tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderTag(pub u32);

/// A code that waits for a provider. A session has at most one: a new request replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedCode {
    pub transport: Transport,
    pub since: Timestamp,
    /// Nobody hands it over before this time: a worker is at it, or a pause after a failure runs. A worker sets it by
    /// a conditional write before it calls the provider, so that of two workers one goes on.
    pub held_until: Timestamp,
    /// Hand-overs that failed.
    pub attempts: u8,
}

impl QueuedCode {
    /// A request that nobody has tried to hand over yet.
    pub const fn new(transport: Transport, since: Timestamp) -> Self {
        Self { transport, since, held_until: Timestamp::ZERO, attempts: 0 }
    }
}

/// A code that a provider took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentCode {
    pub mac: KeyedHash,
    pub handed_over_at: Timestamp,
    pub expires_at: Timestamp,
    /// Absent when an older version recorded it, or when no provider was asked.
    pub provider: Option<ProviderTag>,
}

/// A verification session, read and written whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    pub id: VerificationId,
    /// The first stored version is 1.
    pub version: u64,
    pub number: NumberMac,
    /// The number for the provider, encrypted by the registration role.
    pub sealed_number: Bytes,
    pub queued: Option<QueuedCode>,
    pub sent: Option<SentCode>,
    /// Providers that failed in this session, the one that failed last at the end. At most
    /// [`FAILED_MAX`](Self::FAILED_MAX), each once.
    pub failed: Vec<ProviderTag>,
    pub sms_requested: u8,
    pub voice_requested: u8,
    pub checks: u8,
    pub next_sms_at: Timestamp,
    pub next_voice_at: Timestamp,
    pub next_check_at: Timestamp,
    pub verified: bool,
    /// The account that this session made.
    pub account: Option<AccountId>,
    pub created_at: Timestamp,
    /// The session is over then.
    pub expires_at: Timestamp,
    /// Until when no other session may have this id, though this one may be over before: a place in the waiting room
    /// opens one, for as long as it can be shown. [`Timestamp::ZERO`] if nothing but the session asks for the id.
    pub taken_until: Timestamp,
}

impl Verification {
    /// More providers than anybody configures; when there are more, the one that failed first is forgotten.
    pub const FAILED_MAX: usize = 16;

    /// Until when a store keeps it.
    pub fn kept_until(&self) -> Timestamp {
        self.expires_at.max(self.taken_until)
    }
}

#[async_trait]
pub trait Verifications: std::fmt::Debug + Send + Sync {
    /// A session whose [`kept_until`](Verification::kept_until) has passed may be absent already. One that is there may
    /// be over all the same, which callers check.
    async fn get(&self, id: VerificationId) -> Result<Option<Verification>, StoreError>;

    /// Stores the session if the stored version is `expected` (`None`: if there is none). `verification.version`
    /// must be the one after; a session that is moved from another store keeps the version it had there.
    ///
    /// The queue follows `verification.queued`: whenever caller or store dies, no session has a queued code that
    /// [`queued`](Self::queued) does not find.
    async fn put(&self, verification: &Verification, expected: Option<u64>) -> Result<Cas, StoreError>;

    /// Sessions with a queued code, held ones included, longest waiting first (by `since`), at most `limit`.
    /// Those that have waited for an hour may be missing: nobody waits so long for a code.
    async fn queued(&self, limit: usize) -> Result<Vec<VerificationId>, StoreError>;

    /// Forgets sessions that had to be kept until a time before `now`; answers with how many. A store that forgets them
    /// by itself, some seconds after that time, does nothing and answers 0.
    async fn expire(&self, now: Timestamp) -> Result<usize, StoreError>;
}
