use spillway_api::Refusal;
use spillway_rpc::{Chain, ServiceError};
use spillway_store::StoreError;
use spillway_store::mailboxes::{Page, PageLimit};
use spillway_types::{MailboxId, MessageId, Timestamp};

use crate::Mailbox;
use crate::error::store_refusal;
use crate::window::{WINDOW, worth_raising};

#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the mailbox could not be read")]
    Store(#[from] StoreError),
}

impl Mailbox {
    /// Messages after `after`, and never from below the settled watermark; without `after`, from the watermark.
    pub(crate) async fn fetch(
        &self,
        mailbox: MailboxId,
        after: Option<MessageId>,
        limit: PageLimit,
    ) -> Result<Page, FetchError> {
        let role = &*self.shared;
        // Before anything is read: the watermark's proof rests on it.
        let read_start = role.clock.now();
        let settled = role.mailboxes.settled(mailbox).await?;
        role.highest_settled.saw(settled);
        let floor = MessageId::last_at(settled);
        let start = after.unwrap_or(MessageId::MIN).max(floor);
        let page = role.mailboxes.page(mailbox, start, limit, read_start).await?;
        if start == floor {
            let lowest_live = page.messages.first().map(|message| message.id);
            self.raise_settled(mailbox, settled, WINDOW.settled_after_read(read_start, lowest_live)).await;
        }
        role.metrics.count_fetch(page.messages.len(), read_start, settled);
        Ok(page)
    }

    async fn raise_settled(&self, mailbox: MailboxId, from: Timestamp, to: Timestamp) {
        if !worth_raising(from, to) {
            return;
        }
        // Before it is stored, so that no append overlooks it.
        self.shared.highest_settled.saw(to);
        match self.shared.mailboxes.raise_settled(mailbox, to).await {
            Ok(()) => self.shared.metrics.settled_raises.inc(),
            // The caller has its page, and the next sweep tries again.
            Err(error) => tracing::warn!(error = %Chain(&error), "settled watermark was not stored"),
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
            let page = fixture.mailbox.fetch(mailbox, after, limit).await.unwrap();
            assert_eq!(page.more, more);
            after = page.messages.last().map(|message| message.id);
            fetched.extend(page.messages);
        }
        assert_eq!(fetched, stored);
    }

    #[tokio::test]
    async fn the_watermark_trails_the_clock_and_stays_below_what_is_live() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        fixture.mailbox.fetch(mailbox, None, ALL).await.unwrap();
        assert_eq!(fixture.settled(mailbox).await, fixture.clock.now().saturating_sub(MINUTE));

        let message = fixture.stored(mailbox).await;
        fixture.clock.advance(60 * MINUTE);
        assert_eq!(fixture.mailbox.fetch(mailbox, None, ALL).await.unwrap().messages.len(), 1);
        // It may have risen, but the message is found again.
        assert_eq!(fixture.mailbox.fetch(mailbox, None, ALL).await.unwrap().messages.len(), 1);
        assert!(fixture.settled(mailbox).await < message.id.time());

        fixture.mailbox.acknowledge(mailbox, &[message.id]).await.unwrap();
        fixture.mailbox.fetch(mailbox, None, ALL).await.unwrap();
        assert_eq!(fixture.settled(mailbox).await, fixture.clock.now().saturating_sub(MINUTE));
    }

    #[tokio::test]
    async fn a_read_that_starts_above_the_watermark_does_not_raise_it() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let unseen = fixture.stored(mailbox).await;
        let seen = fixture.stored(mailbox).await;
        fixture.clock.advance(60 * MINUTE);
        let page = fixture.mailbox.fetch(mailbox, Some(seen.id), ALL).await.unwrap();
        assert_eq!(page, Page::default());
        assert_eq!(fixture.settled(mailbox).await, Timestamp::ZERO);
        assert_eq!(fixture.mailbox.fetch(mailbox, None, ALL).await.unwrap().messages, [unseen, seen]);
    }

    #[tokio::test]
    async fn a_small_rise_is_not_written() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        for _ in 0..31 {
            fixture.mailbox.fetch(mailbox, None, ALL).await.unwrap();
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
        assert_eq!(fixture.mailbox.fetch(mailbox, None, ALL).await.unwrap().messages, [message]);
        assert_eq!(fixture.store.raises.load(Ordering::SeqCst), 1);
    }
}
