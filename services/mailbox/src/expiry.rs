use spillway_rpc::Chain;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::Mailbox;

impl Mailbox {
    /// Reclaims the space of expired messages now and then. Reads leave those out in any case, so it may be late.
    pub(crate) async fn expire_until_cancelled(&self) {
        let every = self.shared.config.expiry_interval;
        // Not at once: a process that has just started has better things to do with its disk.
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cancelled = self.shared.tasks.cancelled();
        tokio::pin!(cancelled);
        loop {
            tokio::select! {
                () = &mut cancelled => return,
                _ = ticks.tick() => self.expire().await,
            }
        }
    }

    /// In the store's small steps, so that other work gets its turn between them.
    async fn expire(&self) {
        while !self.shared.tasks.is_cancelled() {
            match self.shared.mailboxes.expire(self.shared.clock.now()).await {
                Ok(0) => return,
                Ok(count) => self.shared.metrics.expired.inc_by(count as u64),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "expired messages were not reclaimed");
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spillway_store::StoreError;
    use spillway_store::mailboxes::RETENTION;
    use spillway_types::MailboxId;

    use crate::testing::Fixture;

    #[tokio::test]
    async fn what_nobody_collected_is_reclaimed() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        fixture.stored(mailbox).await;
        fixture.clock.advance(RETENTION - Duration::from_secs(60));
        let young = fixture.stored(mailbox).await;
        fixture.mailbox.expire().await;
        assert_eq!(fixture.mailbox.shared.metrics.expired.get(), 0);

        // Well past it: a store may reclaim by the day.
        fixture.clock.advance(Duration::from_secs(3 * 24 * 60 * 60));
        fixture.store.fail(StoreError::DiskFull);
        fixture.mailbox.expire().await;
        fixture.mailbox.expire().await;
        assert_eq!(fixture.mailbox.shared.metrics.expired.get(), 1);
        assert_eq!(fixture.contents(mailbox).await, [young]);
    }

    #[tokio::test]
    async fn the_task_ends_when_it_is_asked_to() {
        let fixture = Fixture::new();
        fixture.tasks.close_and_wait(Duration::from_secs(10)).await.unwrap();
    }
}
