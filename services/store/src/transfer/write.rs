//! Writing one record into a store that may have it already, or something else in its place.

use std::time::Duration;

use spillway_types::Timestamp;

use super::monitor::Monitor;
use super::record::Record;
use crate::keys::KeyUpload;
use crate::mailboxes::{Capacity, Put};
use crate::{Cas, Store, StoreError};

/// A destination that does not answer is asked again after this, then after twice as long, and so on up to the longest:
/// some 12 s altogether, which outlasts a node that leaves and a coordinator that is chosen anew.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_millis(6_400);

/// The mailbox was within its limits where it comes from.
const ANY_SIZE: Capacity = Capacity { messages: u64::MAX, bytes: u64::MAX };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in the destination, now or since earlier.
    Stored,
    /// It ended on the way, and was not written.
    Expired,
    /// The destination has something else in its place, and keeps it.
    Conflict,
}

/// What became of the records of one section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub stored: u64,
    pub expired: u64,
    pub conflicts: u64,
}

impl Tally {
    pub(super) fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Stored => self.stored += 1,
            Outcome::Expired => self.expired += 1,
            Outcome::Conflict => self.conflicts += 1,
        }
    }
}

/// `may_be_partial`: an earlier import may have been interrupted within this record.
pub(super) async fn write(
    store: &Store,
    record: &Record,
    now: Timestamp,
    may_be_partial: bool,
) -> Result<Outcome, StoreError> {
    if record.has_expired(now) {
        return Ok(Outcome::Expired);
    }
    let agrees = match record {
        Record::Account(account) => match store.accounts.put(account, None).await? {
            Cas::Applied => true,
            Cas::Conflict => store.accounts.get(account.id).await?.as_ref() == Some(account),
        },
        Record::Claim(claim) => store.accounts.claim(*claim).await? == *claim,
        Record::Directory { number, account } => {
            let standing = store.directory.lookup(&[*number]).await?.into_iter().next().flatten();
            if standing.is_none() {
                store.directory.put(*number, *account).await?;
            }
            standing.is_none_or(|standing| standing == *account)
        }
        Record::Keys { device, keys } => {
            let standing = store.keys.stored(*device).await?;
            let is_free = standing == KeyUpload::default() || (may_be_partial && is_part(&standing, keys));
            if is_free && standing != *keys {
                store.keys.upload(*device, keys, usize::MAX).await?;
            }
            is_free || standing == *keys
        }
        Record::Settled { mailbox, settled } => {
            // A mailbox that is settled further has been in use: it would not be read from far enough back.
            let standing = store.mailboxes.settled(*mailbox).await?;
            if standing < *settled {
                store.mailboxes.raise_settled(*mailbox, *settled).await?;
            }
            standing <= *settled
        }
        Record::Verification(session) => match store.verifications.put(session, None).await? {
            Cas::Applied => true,
            Cas::Conflict => store.verifications.get(session.id).await?.as_ref() == Some(session),
        },
        // A stored message with this id stays as it is. That it is the same one is for the verification to see, which
        // reads many at a time.
        Record::Message { mailbox, message } => {
            matches!(store.mailboxes.put(*mailbox, message.clone(), ANY_SIZE).await?, Put::Stored(_))
        }
    };
    Ok(if agrees { Outcome::Stored } else { Outcome::Conflict })
}

/// Whether all of `stored` is in `keys`. Only an interrupted import may fill it up: elsewhere a one-time key that is
/// missing has been given away, and must not be given away again.
fn is_part(stored: &KeyUpload, keys: &KeyUpload) -> bool {
    (stored.signed.is_none() || stored.signed == keys.signed)
        && (stored.last_resort.is_none() || stored.last_resort == keys.last_resort)
        && stored.one_time.iter().all(|key| keys.one_time.contains(key))
}

/// Repeats what a store did not answer. Only for what may be repeated.
pub(super) async fn patiently<T, F>(monitor: &Monitor, operation: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = PAUSE_MIN;
    loop {
        match operation().await {
            Err(StoreError::Unavailable(_)) if pause <= PAUSE_MAX && !monitor.is_stopping() => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
}
