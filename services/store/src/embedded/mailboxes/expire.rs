//! Takes away messages that are too old to be read.
//!
//! Each insert notes the day and the mailbox, so that this need not walk over all that is alive. Days are expired
//! whole, when their last message is past [`RETENTION`]; readers do not see messages past it anyhow.

use std::ops::Bound;
use std::sync::PoisonError;

use spillway_types::{MessageId, Timestamp};

use super::super::metrics::Operation;
use super::super::tables::entry_key;
use super::super::transaction::Transaction;
use super::record::{ArrivalRow, DAY, MessageRow, day};
use super::{EmbeddedMailboxes, ROW_BYTES, remove, sized_rows, tally, write_tally};
use crate::StoreError;
use crate::mailboxes::RETENTION;

/// Messages and arrivals taken in one write: about a millisecond of the commit thread's time.
const STEP_MESSAGES_MAX: usize = 256;
const STEP_ARRIVALS_MAX: usize = 64;
/// Messages after which a call returns.
const CALL_MESSAGES_MAX: usize = 8 * STEP_MESSAGES_MAX;

struct Step {
    messages: usize,
    /// Where to go on; `None` when the last expired arrival is done.
    from: Option<ArrivalRow>,
}

/// Arrivals whose messages were all deleted long ago are by far the most and cost little, so a call does not return
/// for them: it answers 0 only when nothing is left.
pub(super) async fn expire(mailboxes: &EmbeddedMailboxes, now: Timestamp) -> Result<usize, StoreError> {
    let place = || mailboxes.expire_from.lock().unwrap_or_else(PoisonError::into_inner);
    // Going on where the last call stopped spares a walk over what it took away.
    let mut from = place().take();
    let mut began_at_first = from.is_none();
    let mut messages = 0;
    loop {
        let expire = move |transaction: &mut Transaction<'_>| step(transaction, from, now);
        let bytes = ROW_BYTES * STEP_MESSAGES_MAX;
        let step = mailboxes.access.write(Operation::MailboxExpire, bytes, expire).await?;
        messages += step.messages;
        from = step.from;
        if messages >= CALL_MESSAGES_MAX {
            *place() = from;
            return Ok(messages);
        }
        if from.is_none() {
            if began_at_first || messages > 0 {
                return Ok(messages);
            }
            began_at_first = true;
        }
    }
}

fn step(
    transaction: &mut Transaction<'_>,
    from: Option<ArrivalRow>,
    now: Timestamp,
) -> Result<Step, StoreError> {
    let table = &transaction.tables.arrivals;
    let first = from.unwrap_or_else(|| ArrivalRow::first_of(0));
    let end = ArrivalRow::first_of(day(now.saturating_sub(RETENTION)));
    if first.as_bytes() >= end.as_bytes() {
        return Ok(Step { messages: 0, from: None });
    }
    let range = (Bound::Included(*first.as_bytes()), Bound::Excluded(*end.as_bytes()));
    let arrivals = transaction
        .range::<[u8; 20]>(table, range)
        .take(STEP_ARRIVALS_MAX)
        .map(|row| ArrivalRow::decode(table.what, &entry_key(row)?))
        .collect::<Result<Vec<_>, _>>()?;

    let mut messages = 0;
    for arrival in &arrivals {
        // Each arrival is done whole before the next is read, because a mailbox may be among them twice.
        let room = STEP_MESSAGES_MAX - messages;
        let taken = take(transaction, *arrival, room)?;
        messages += taken;
        if taken == room {
            return Ok(Step { messages, from: Some(*arrival) });
        }
    }
    let from = arrivals.last().filter(|_| arrivals.len() == STEP_ARRIVALS_MAX).copied();
    Ok(Step { messages, from })
}

/// Takes away up to `room` messages of a mailbox until the end of a day, and the arrival if that was all.
fn take(transaction: &mut Transaction<'_>, arrival: ArrivalRow, room: usize) -> Result<usize, StoreError> {
    let mailbox = arrival.mailbox();
    let day_end = DAY.as_micros() as u64 * (u64::from(arrival.day()) + 1);
    let last = MessageId::last_at(Timestamp::from_micros(day_end - 1));
    let first = MessageRow::new(mailbox, MessageId::MIN);
    let range =
        (Bound::Included(*first.as_bytes()), Bound::Included(*MessageRow::new(mailbox, last).as_bytes()));
    let stored = sized_rows(transaction, range, room)?;
    remove(transaction, mailbox, &stored)?;
    if stored.len() < room {
        let mut tally = tally(transaction, mailbox)?;
        if tally.day == Some(arrival.day()) {
            tally.day = None;
            write_tally(transaction, mailbox, tally);
        }
        transaction.remove(&transaction.tables.arrivals, arrival.as_bytes());
    }
    Ok(stored.len())
}
