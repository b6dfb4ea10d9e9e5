//! The times that make "acknowledged means kept" true with workers that know nothing of each other.
//!
//! A message becomes visible some time after its id was minted, perhaps after messages with greater ids, so a reader
//! may not go on from the last id it saw. Nor can it read from the beginning every time. It starts at the *settled*
//! watermark instead, and the rules here keep this true:
//!
//! > No acknowledged message that was not delivered lies at or below `settled`.
//!
//! Why: a message with id `r` is acknowledged only if its write was answered before `r + fence` on the clock of the
//! worker that wrote it ([`Window::acknowledges`]). `settled` rises above `r` only by a read that began at
//! `r + trail` or later on its reader's clock. With clocks at most [`SKEW_MAX`] from true time and
//! `trail > fence + 2 * SKEW_MAX`, that read began after the write was answered, so it saw the message unless it had
//! been deleted, and messages are deleted only after their device has acknowledged them. A live message it saw keeps
//! `settled` below itself. A write that becomes visible later was not acknowledged under that id; its sender was told
//! to try again and used another.
//!
//! The proof needs, from the rest of the crate and from the store:
//! - the clock is read before the read begins;
//! - the read started at `settled` (what lies between `settled` and a later start has not been looked at);
//! - a page holds the oldest live messages, so that its first is the lowest, and none is empty while there are any;
//! - a read sees every write that was answered before it began;
//! - a worker's clock is at most [`SKEW_MAX`] off. The constants leave room for 20 s. Against a clock that is set back
//!   by more than that, as at a boot with a wrong hardware clock, [`HighestSettled`] helps.
//!
//! `model` runs these functions against dying workers, late writes and wrong clocks, and shows what is lost when
//! one of the rules is left out.

#[cfg(test)]
mod model;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use spillway_store::mailboxes::GRAVE;
use spillway_types::{MailboxId, MessageId, Timestamp};

/// How far a clock may be from true time. Operators are warned long before.
const SKEW_MAX: Duration = Duration::from_secs(5);

/// The window of this service.
pub(crate) const WINDOW: Window = Window {
    // Half the fence: an append that starts last still has ten seconds to write. Gateways repeat one id for as long.
    append: Duration::from_secs(10),
    ahead: SKEW_MAX,
    fence: Duration::from_secs(20),
    trail: Duration::from_secs(60),
};

const _: () = {
    let skew = 2 * SKEW_MAX.as_micros();
    assert!(WINDOW.trail.as_micros() > WINDOW.fence.as_micros() + skew, "the watermark would pass messages");
    assert!(
        WINDOW.fence.as_micros() > WINDOW.append.as_micros(),
        "an admitted append could never be acknowledged"
    );
    assert!(GRAVE.as_micros() >= WINDOW.fence.as_micros() + skew, "a repeated insert would raise the dead");
};

/// A watermark is stored when it rises by this much. Any rise is correct; each costs a write, and saves the next reads
/// the deleted messages in between. Sweeps come every five minutes for each connected device, so this is at most one
/// write for three of them, and a read skips at most a quarter of an hour's deleted messages.
pub(crate) const RAISE_STEP: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// An id that is older is not written any more.
    append: Duration,
    /// An id that is further in the future shows a wrong clock.
    ahead: Duration,
    /// A message whose write took until its id was older than this is not acknowledged.
    fence: Duration,
    /// How far the watermark stays behind the reader's clock.
    trail: Duration,
}

impl Window {
    /// Whether a message with this id may be written.
    pub(crate) fn admits(&self, id: MessageId, now: Timestamp) -> bool {
        let minted = id.time();
        now.since(minted) <= self.append && minted.since(now) <= self.ahead
    }

    /// Whether a message whose write was answered `now` may be acknowledged.
    pub(crate) fn acknowledges(&self, id: MessageId, now: Timestamp) -> bool {
        now.since(id.time()) <= self.fence
    }

    /// How far the watermark may rise after a read that began at `read_start`, started at the watermark, and saw
    /// `lowest_live` first, or nothing.
    pub(crate) fn settled_after_read(
        &self,
        read_start: Timestamp,
        lowest_live: Option<MessageId>,
    ) -> Timestamp {
        let trailing = read_start.saturating_sub(self.trail);
        lowest_live.map_or(trailing, |id| trailing.min(id.time().saturating_sub(Duration::from_micros(1))))
    }
}

/// Where reads of a mailbox begin at the earliest: no message of it has an id from before. Zero if its id does not tell when it was
/// minted.
///
/// Whoever minted it may have had a clock that was ahead of the gateways', by twice [`SKEW_MAX`] while clocks are right. By more, and
/// messages would lie where nobody reads; so an append refuses an id that is not above this, as it does below the watermark.
pub(crate) fn born(mailbox: MailboxId) -> Timestamp {
    mailbox.minted_at().map_or(Timestamp::ZERO, born_at)
}

fn born_at(minted_at: Timestamp) -> Timestamp {
    minted_at.saturating_sub(WINDOW.trail)
}

/// The highest watermark of any mailbox that this process has seen.
///
/// While clocks are right it is far below every id that is admitted. Once a clock that was ahead has been set back, new
/// ids may lie below the watermark of their mailbox, where nobody would ever read them; those must not be acknowledged.
/// This tells, without a read, that there is nothing to fear. It does not outlive the process.
#[derive(Debug, Default)]
pub(crate) struct HighestSettled(AtomicU64);

impl HighestSettled {
    pub(crate) fn saw(&self, settled: Timestamp) {
        self.0.fetch_max(settled.as_micros(), Ordering::Relaxed);
    }

    /// Whether some mailbox's watermark is at or above this id.
    pub(crate) fn may_cover(&self, id: MessageId) -> bool {
        id <= MessageId::last_at(Timestamp::from_micros(self.0.load(Ordering::Relaxed)))
    }
}

/// Whether a rise of the watermark is worth its write.
pub(crate) fn worth_raising(from: Timestamp, to: Timestamp) -> bool {
    to.since(from) >= RAISE_STEP
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_610_722_800_000);

    fn minted(at: Timestamp) -> MessageId {
        MessageId::last_at(at)
    }

    #[test]
    fn ids_are_admitted_from_ten_seconds_ago_to_five_ahead() {
        let second = Duration::from_secs(1);
        let micro = Duration::from_micros(1);
        assert!(WINDOW.admits(minted(NOW.saturating_sub(10 * second)), NOW));
        assert!(!WINDOW.admits(minted(NOW.saturating_sub(10 * second + micro)), NOW));
        assert!(WINDOW.admits(minted(NOW.saturating_add(5 * second)), NOW));
        assert!(!WINDOW.admits(minted(NOW.saturating_add(5 * second + micro)), NOW));
    }

    proptest! {
        #[test]
        fn the_watermark_stays_below_what_is_live_and_behind_the_clock(
            read_start in 0_u64..4_000_000_000_000_000,
            live_at in prop::option::of(0_u64..4_000_000_000_000_000),
        ) {
            let read_start = Timestamp::from_micros(read_start);
            let lowest = live_at.map(|at| minted(Timestamp::from_micros(at)));
            let settled = WINDOW.settled_after_read(read_start, lowest);
            prop_assert!(settled <= read_start.saturating_sub(WINDOW.trail));
            if let Some(id) = lowest.filter(|id| id.time() > Timestamp::ZERO) {
                prop_assert!(MessageId::last_at(settled) < id, "a read from the watermark would pass {id}");
            }
        }

        #[test]
        fn what_could_still_be_acknowledged_is_above_every_watermark(
            age_us in 0_u64..120_000_000,
            reader_skew_us in -5_000_000_i64..=5_000_000,
            worker_skew_us in -5_000_000_i64..=5_000_000,
        ) {
            let id = minted(NOW.saturating_sub(Duration::from_micros(age_us)));
            let clock = |skew: i64| Timestamp::from_micros(NOW.as_micros().checked_add_signed(skew).unwrap());
            // A read that begins now and sees nothing, and a write that is answered now.
            let settled = WINDOW.settled_after_read(clock(reader_skew_us), None);
            if WINDOW.acknowledges(id, clock(worker_skew_us)) {
                prop_assert!(id > MessageId::last_at(settled));
            }
        }
    }
}
