use spillway_api::Refusal;
use spillway_rpc::{Chain, ServiceError};
use spillway_store::StoreError;
use spillway_store::mailboxes::{Page, PageLimit};
use spillway_types::{MailboxId, MessageId, Timestamp};

use crate::Mailbox;
use crate::error::store_refusal;
use crate::window::{RAISE_STEP, WINDOW, born, worth_raising};

#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the mailbox could not be read")]
    Store(#[from] StoreError),
}

/// A page, and where later reads may begin: at the watermark as it is stored now, or at the birth of a mailbox that has none yet.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) page: Page,
    pub(crate) settled: Timestamp,
}

impl Mailbox {
    /// Messages after `after`, and never from below the settled watermark; without `after`, from the watermark.
    ///
    /// `known` is the watermark of an earlier answer. It only rises, so no undelivered message lies below an old one either, and a
    /// session that sweeps needs one read for it and not two. A mailbox that has just come to be needs one as well.
    pub(crate) async fn fetch(
        &self,
        mailbox: MailboxId,
        after: Option<MessageId>,
        known: Option<Timestamp>,
        limit: PageLimit,
    ) -> Result<Fetched, FetchError> {
        let role = &*self.shared;
        // Before anything is read: the watermark's proof rests on it.
        let read_start = role.clock.now();
        let born = born(mailbox);
        let settled = match known {
            Some(known) => known,
            // Looking up a watermark that can save no more than this would cost more than it saves.
            None if read_start.since(born) <= RAISE_STEP => born,
            None => role.mailboxes.settled(mailbox).await?.max(born),
        };
        // A birth is no watermark: appends compare with it whatever they have seen.
        if settled > born {
            role.highest_settled.saw(settled);
        }
        let floor = MessageId::last_at(settled);
        let start = after.unwrap_or(MessageId::MIN).max(floor);
        let page = role.mailboxes.page(mailbox, start, limit, read_start).await?;
        role.metrics.count_fetch(page.messages.len(), read_start, settled);
        if start > floor {
            return Ok(Fetched { page, settled });
        }
        let lowest_live = page.messages.first().map(|message| message.id);
        let risen = WINDOW.settled_after_read(read_start, lowest_live);
        let settled = self.raise_settled(mailbox, settled, risen).await;
        Ok(Fetched { page, settled })
    }

    /// The watermark that is stored afterwards.
    async fn raise_settled(&self, mailbox: MailboxId, from: Timestamp, to: Timestamp) -> Timestamp {
        if !worth_raising(from, to) {
            return from;
        }
        // Before it is stored, so that no append overlooks it.
        self.shared.highest_settled.saw(to);
        match self.shared.mailboxes.raise_settled(mailbox, to).await {
            Ok(()) => {
                self.shared.metrics.settled_raises.inc();
                to
            }
            // The caller has its page, and the next sweep tries again.
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "settled watermark was not stored");
                from
            }
        }
    }
}

impl ServiceError for FetchError {
    fn refusal(&self) -> Refusal {
        let Self::Store(error) = self;
        store_refusal(error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use spillway_types::Clock;

    use super::*;
    use crate::testing::{ALL, Fixture};

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn pages_continue_where_the_last_ended() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let mut stored = Vec::new();
        for _ in 0..5 {
            stored.push(fixture.stored(mailbox).await);
        }
        let (mut fetched, mut after) = (Vec::new(), None);
        for more in [true, true, false] {
            let limit = PageLimit { messages: 2, ..ALL };
            let page = fixture.mailbox.fetch(mailbox, after, None, limit).await.unwrap().page;
            assert_eq!(page.more, more);
            after = page.messages.last().map(|message| message.id);
            fetched.extend(page.messages);
        }
        assert_eq!(fetched, stored);
    }

    #[tokio::test]
    async fn the_watermark_trails_the_clock_and_stays_below_what_is_live() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        fixture.read(mailbox).await;
        assert_eq!(fixture.settled(mailbox).await, fixture.clock.now().saturating_sub(MINUTE));

        let message = fixture.stored(mailbox).await;
        fixture.clock.advance(60 * MINUTE);
        assert_eq!(fixture.read(mailbox).await.messages.len(), 1);
        // It may have risen, but the message is found again.
        assert_eq!(fixture.read(mailbox).await.messages.len(), 1);
        assert!(fixture.settled(mailbox).await < message.id.time());

        fixture.mailbox.acknowledge(mailbox, &[message.id]).await.unwrap();
        fixture.read(mailbox).await;
        assert_eq!(fixture.settled(mailbox).await, fixture.clock.now().saturating_sub(MINUTE));
    }

    #[tokio::test]
    async fn a_read_that_starts_above_the_watermark_does_not_raise_it() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let unseen = fixture.stored(mailbox).await;
        let seen = fixture.stored(mailbox).await;
        fixture.clock.advance(60 * MINUTE);
        let page = fixture.mailbox.fetch(mailbox, Some(seen.id), None, ALL).await.unwrap().page;
        assert_eq!(page, Page::default());
        assert_eq!(fixture.settled(mailbox).await, Timestamp::ZERO);
        assert_eq!(fixture.read(mailbox).await.messages, [unseen, seen]);
    }

    #[tokio::test]
    async fn a_small_rise_is_not_written() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        for _ in 0..31 {
            fixture.read(mailbox).await;
            fixture.clock.advance(MINUTE);
        }
        // The first from nothing, then after 15 and 30 minutes.
        assert_eq!(fixture.store.raises.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_watermark_that_cannot_be_stored_costs_the_caller_nothing() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let message = fixture.stored(mailbox).await;
        fixture.store.fail(StoreError::DiskFull);
        assert_eq!(fixture.read(mailbox).await.messages, [message]);
        assert_eq!(fixture.store.raises.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_known_watermark_saves_its_look_up_and_hides_nothing() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let first = fixture.mailbox.fetch(mailbox, None, None, ALL).await.unwrap();
        assert_eq!(first.settled, fixture.settled(mailbox).await);
        let looked_up = fixture.store.looked_up.load(Ordering::SeqCst);

        // Somebody else raises it meanwhile, so that what this session knows is out of date.
        fixture.clock.advance(60 * MINUTE);
        fixture.mailbox.fetch(mailbox, None, None, ALL).await.unwrap();
        let message = fixture.stored(mailbox).await;
        let known = Some(first.settled);
        let swept = fixture.mailbox.fetch(mailbox, None, known, ALL).await.unwrap();
        assert_eq!(swept.page.messages, [message]);
        // The one of the other session, and none of the sweep.
        assert_eq!(fixture.store.looked_up.load(Ordering::SeqCst), looked_up + 1);
        assert!(fixture.settled(mailbox).await >= swept.settled, "it never falls");
    }

    #[tokio::test]
    async fn a_new_mailbox_is_read_from_its_birth_without_a_look_up() {
        let fixture = Fixture::new();
        let mailbox = MailboxId::minted(fixture.clock.now(), [7; 10]);
        let message = fixture.stored(mailbox).await;
        assert_eq!(fixture.read(mailbox).await.messages, std::slice::from_ref(&message));
        assert_eq!(fixture.store.looked_up.load(Ordering::SeqCst), 0);

        fixture.clock.advance(30 * MINUTE);
        assert_eq!(fixture.read(mailbox).await.messages, [message]);
        assert_eq!(fixture.store.looked_up.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_watermark_that_was_not_stored_is_not_told() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        fixture.mailbox.fetch(mailbox, None, None, ALL).await.unwrap();
        let stored = fixture.settled(mailbox).await;
        fixture.clock.advance(MINUTE);
        // A rise that is not worth its write, so that small rises add up to one that is.
        let small = fixture.mailbox.fetch(mailbox, None, Some(stored), ALL).await.unwrap();
        assert_eq!(small.settled, stored);
        fixture.clock.advance(60 * MINUTE);
        fixture.store.fail(StoreError::DiskFull);
        assert_eq!(fixture.mailbox.fetch(mailbox, None, Some(stored), ALL).await.unwrap().settled, stored);
    }
}
