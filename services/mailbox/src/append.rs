use spillway_api::internal::v1::{AppendResponse, append_response::Outcome};
use spillway_api::{Reason, Refusal};
use spillway_chassis::traces;
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_store::mailboxes::{Capacity, Put, StoredMessage, Usage};
use spillway_types::{MailboxId, MessageId};
use tracing::Instrument as _;

use crate::Mailbox;
use crate::error::store_refusal;
use crate::window::{WINDOW, born};

/// What became of a message, when nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    Stored { near_full: bool },
    Full,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// Nothing was written.
    #[error("the id is too old, or too far in the future, to be written")]
    OutOfWindow,
    /// It was written, too late for anybody to rely on it.
    #[error("the write took so long that it cannot be acknowledged under this id")]
    Fenced,
    /// It was written where nobody will read it.
    #[error("the clock was set back, and the mailbox has been read up to a later time than the id's")]
    Settled,
    /// Nothing was written: nobody would read it.
    #[error("the id is from before its mailbox: a clock is off by a minute or more")]
    Unborn,
    #[error("the message could not be stored")]
    Store(#[from] StoreError),
    #[error("the append did not end")]
    Died(#[source] tokio::task::JoinError),
}

impl Mailbox {
    /// Stores a message and tells the device.
    ///
    /// The work is a task of its own. When the sender's connection breaks, the caller's future is dropped, perhaps
    /// between the write and the hint; the store would still be right, but a device that is online would get the
    /// message only at its next sweep, minutes later. A task costs about a microsecond beside a write to disk.
    pub(crate) async fn append(
        &self,
        mailbox: MailboxId,
        message: StoredMessage,
    ) -> Result<Appended, AppendError> {
        let this = self.clone();
        let work = self.shared.tasks.spawn("append", async move {
            let outcome = this.store_and_hint(mailbox, message).await;
            this.shared.metrics.count_append(&outcome);
            outcome
        });
        work.await.map_err(AppendError::Died)?
    }

    async fn store_and_hint(
        &self,
        mailbox: MailboxId,
        message: StoredMessage,
    ) -> Result<Appended, AppendError> {
        let role = &*self.shared;
        let id = message.id;
        if !WINDOW.admits(id, role.clock.now()) {
            return Err(AppendError::OutOfWindow);
        }
        if id <= MessageId::last_at(born(mailbox)) {
            return Err(AppendError::Unborn);
        }
        let capacity = role.config.capacity();
        let usage = match role
            .mailboxes
            .put(mailbox, message.clone(), capacity)
            .instrument(traces::step("store append"))
            .await?
        {
            Put::Stored(usage) => usage,
            Put::Full => return Ok(Appended::Full),
        };
        // The clock is read after the write was answered: this is what the watermark's proof rests on.
        if !WINDOW.acknowledges(id, role.clock.now()) {
            return Err(AppendError::Fenced);
        }
        if role.highest_settled.may_cover(id) {
            let settled = role.mailboxes.settled(mailbox).await?;
            if id <= MessageId::last_at(settled) {
                return Err(AppendError::Settled);
            }
        }
        role.hints.stored(mailbox, message).await;
        let near_full = is_near_full(usage, capacity, role.config.near_full_percent);
        Ok(Appended::Stored { near_full })
    }
}

fn is_near_full(usage: Usage, capacity: Capacity, percent: u8) -> bool {
    let reached = |used: u64, most: u64| u128::from(used) * 100 >= u128::from(most) * u128::from(percent);
    reached(usage.messages, capacity.messages) || reached(usage.bytes, capacity.bytes)
}

impl From<Appended> for AppendResponse {
    fn from(appended: Appended) -> Self {
        let (outcome, near_full) = match appended {
            Appended::Stored { near_full } => (Outcome::Stored, near_full),
            Appended::Full => (Outcome::Full, true),
        };
        Self { outcome: outcome.into(), near_full }
    }
}

impl ServiceError for AppendError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::OutOfWindow | Self::Fenced => Refusal::new(Reason::IdOutOfWindow, self.to_string()),
            Self::Settled | Self::Unborn => Refusal::new(Reason::Unavailable, self.to_string()),
            Self::Store(error) => store_refusal(error),
            Self::Died(_) => Refusal::new(Reason::Internal, self.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use spillway_api::internal::v1::mailbox_hint::Hint;
    use spillway_bus::BusError;
    use spillway_types::Clock as _;

    use super::*;
    use crate::Config;
    use crate::testing::Fixture;
    use crate::wire;

    const STORED: Appended = Appended::Stored { near_full: false };

    #[tokio::test]
    async fn what_is_older_than_its_mailbox_is_not_acknowledged() {
        let fixture = Fixture::new();
        let message = fixture.message("hello");
        // By a clock that is off by more than anybody reads back.
        let ahead = fixture.clock.now().saturating_add(Duration::from_secs(61));
        let mailbox = MailboxId::minted(ahead, [7; 10]);
        let error = fixture.mailbox.append(mailbox, message.clone()).await.unwrap_err();
        assert!(matches!(error, AppendError::Unborn), "{error:?}");
        assert_eq!(error.refusal().reason, Reason::Unavailable);
        // One mailbox with a wrong birth makes nobody look up anything.
        fixture.read(mailbox).await;
        fixture.stored(MailboxId::random()).await;
        assert_eq!(fixture.store.looked_up.load(Ordering::SeqCst), 0);

        let mailbox = MailboxId::minted(fixture.clock.now().saturating_add(Duration::from_secs(10)), [7; 10]);
        fixture.mailbox.append(mailbox, message.clone()).await.unwrap();
        assert_eq!(fixture.read(mailbox).await.messages, [message]);
    }

    #[tokio::test]
    async fn the_hint_comes_after_the_write_and_carries_the_message() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let mut hints = fixture.subscribe(mailbox).await;
        let message = fixture.message("hello");
        fixture.store.hold(true);
        let append = fixture.mailbox.append(mailbox, message.clone());
        let ((), appended) = tokio::join!(
            async {
                fixture.store.put_has_come().await;
                assert_eq!(hints.now().await, None, "a hint before the write");
                fixture.store.hold(false);
            },
            append
        );
        assert_eq!(appended.unwrap(), STORED);
        assert_eq!(hints.now().await, Some(Hint::Stored(wire::stored_message(message.clone()))));
        assert_eq!(fixture.contents(mailbox).await, [message]);
    }

    #[tokio::test]
    async fn a_large_message_only_wakes() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let mut hints = fixture.subscribe(mailbox).await;
        for (size, whole) in [(64 * 1024, true), (64 * 1024 + 1, false)] {
            fixture.mailbox.append(mailbox, fixture.message(vec![0; size])).await.unwrap();
            assert_eq!(matches!(hints.now().await, Some(Hint::Stored(_))), whole, "{size} bytes");
        }
    }

    #[tokio::test]
    async fn a_repeated_append_is_the_same_message() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let message = fixture.message("hello");
        for _ in 0..2 {
            assert_eq!(fixture.mailbox.append(mailbox, message.clone()).await.unwrap(), STORED);
            fixture.clock.advance(Duration::from_secs(5));
        }
        assert_eq!(fixture.contents(mailbox).await, [message]);
    }

    #[tokio::test]
    async fn an_id_outside_the_window_is_not_written() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let late = fixture.message("late");
        fixture.clock.advance(Duration::from_millis(10_001));
        let early = fixture.message("early");
        fixture.clock.rewind(Duration::from_millis(15_002));
        let early_error = fixture.mailbox.append(mailbox, early).await.unwrap_err();
        fixture.clock.advance(Duration::from_millis(15_002));
        let late_error = fixture.mailbox.append(mailbox, late).await.unwrap_err();
        for error in [early_error, late_error] {
            assert!(matches!(error, AppendError::OutOfWindow), "{error:?}");
            assert_eq!(error.refusal().reason, Reason::IdOutOfWindow);
        }
        assert_eq!(fixture.contents(mailbox).await, []);
    }

    #[tokio::test]
    async fn a_write_that_took_too_long_is_neither_acknowledged_nor_hinted() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let mut hints = fixture.subscribe(mailbox).await;
        fixture.store.puts_take(Duration::from_millis(20_001));
        let error = fixture.mailbox.append(mailbox, fixture.message("slow")).await.unwrap_err();
        assert!(matches!(error, AppendError::Fenced), "{error:?}");
        assert_eq!(error.refusal().reason, Reason::IdOutOfWindow);
        assert_eq!(hints.now().await, None);

        fixture.store.puts_take(Duration::from_secs(20));
        assert_eq!(fixture.mailbox.append(mailbox, fixture.message("just so")).await.unwrap(), STORED);
    }

    #[tokio::test]
    async fn a_clock_that_steps_by_ten_seconds_loses_nothing() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let mut kept = vec![fixture.stored(mailbox).await];
        // Raises the watermark as far as it may go.
        fixture.read(mailbox).await;
        fixture.clock.rewind(Duration::from_secs(10));
        kept.insert(0, fixture.stored(mailbox).await);
        fixture.clock.advance(Duration::from_secs(20));
        fixture.read(mailbox).await;
        kept.push(fixture.stored(mailbox).await);
        assert_eq!(fixture.read(mailbox).await.messages, kept);
    }

    #[tokio::test]
    async fn after_a_large_step_back_nothing_is_acknowledged_that_nobody_would_read() {
        let (fixture, read, unread) = (Fixture::new(), MailboxId::random(), MailboxId::random());
        let hour = Duration::from_secs(60 * 60);
        fixture.clock.advance(hour);
        fixture.read(read).await;
        fixture.clock.rewind(hour);
        let error = fixture.mailbox.append(read, fixture.message("hello")).await.unwrap_err();
        assert!(matches!(error, AppendError::Settled), "{error:?}");
        assert_eq!(error.refusal().reason, Reason::Unavailable);

        let kept = fixture.stored(unread).await;
        assert_eq!(fixture.read(unread).await.messages, [kept]);
        fixture.clock.advance(hour);
        let kept = fixture.stored(read).await;
        assert_eq!(fixture.read(read).await.messages, [kept]);
    }

    #[tokio::test]
    async fn a_sender_is_warned_before_the_mailbox_is_full() {
        let fixture = Fixture::with(Config { messages_max: 10, ..Config::default() });
        let mailbox = MailboxId::random();
        for number in 1..=10 {
            let appended = fixture.mailbox.append(mailbox, fixture.message("hello")).await.unwrap();
            assert_eq!(appended, Appended::Stored { near_full: number >= 8 }, "message {number}");
        }
        let mut hints = fixture.subscribe(mailbox).await;
        let appended = fixture.mailbox.append(mailbox, fixture.message("hello")).await.unwrap();
        assert_eq!(appended, Appended::Full);
        assert_eq!(hints.now().await, None);
        assert_eq!(AppendResponse::from(appended), AppendResponse { outcome: 2, near_full: true });
    }

    #[test]
    fn bytes_count_towards_nearly_full_too() {
        let capacity = Capacity { messages: 10, bytes: 1_000 };
        assert!(!is_near_full(Usage { messages: 1, bytes: 799 }, capacity, 80));
        assert!(is_near_full(Usage { messages: 1, bytes: 800 }, capacity, 80));
        let huge = Capacity { messages: u64::MAX, bytes: u64::MAX };
        assert!(is_near_full(Usage { messages: 1, bytes: u64::MAX }, huge, 80));
    }

    #[tokio::test]
    async fn a_caller_that_hangs_up_leaves_no_half_done_append() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let mut hints = fixture.subscribe(mailbox).await;
        let message = fixture.message("hello");
        fixture.store.hold(true);
        {
            let append = fixture.mailbox.append(mailbox, message.clone());
            tokio::select! {
                biased;
                outcome = append => panic!("the store is held, but the append ended: {outcome:?}"),
                () = fixture.store.put_has_come() => {}
            }
        }
        fixture.store.hold(false);
        assert!(matches!(hints.next().await, Hint::Stored(_)));
        assert_eq!(fixture.contents(mailbox).await, [message]);
    }

    #[tokio::test]
    async fn failures_of_the_store_say_whether_to_come_back() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let silent = std::sync::Arc::new(BusError::Disconnected);
        let corrupt = StoreError::Corrupt { what: "usage", problem: "too short".to_owned() };
        for (failure, reason) in [
            (StoreError::Unavailable(silent), Reason::Unavailable),
            (StoreError::DiskFull, Reason::Unavailable),
            (StoreError::Stopped("fsync failed".to_owned()), Reason::Unavailable),
            (corrupt, Reason::Internal),
        ] {
            let is_disk_full = matches!(failure, StoreError::DiskFull);
            fixture.store.fail(failure);
            let error = fixture.mailbox.append(mailbox, fixture.message("hello")).await.unwrap_err();
            let refusal = error.refusal();
            assert_eq!(refusal.reason, reason);
            assert_eq!(refusal.message.contains("disk is full"), is_disk_full, "{refusal}");
        }
    }
}
