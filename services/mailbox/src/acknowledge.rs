use spillway_api::Refusal;
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_types::{MailboxId, MessageId};

use crate::Mailbox;
use crate::error::store_refusal;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AcknowledgeError {
    #[error("messages could not be deleted")]
    Store(#[from] StoreError),
}

impl Mailbox {
    /// Deletes messages that the device has. Ids that are not there, or not there any more, are ignored.
    pub(crate) async fn acknowledge(
        &self,
        mailbox: MailboxId,
        ids: &[MessageId],
    ) -> Result<(), AcknowledgeError> {
        self.shared.mailboxes.delete(mailbox, ids, self.shared.clock.now()).await?;
        self.shared.metrics.acknowledged.inc_by(ids.len() as u64);
        Ok(())
    }
}

impl ServiceError for AcknowledgeError {
    fn refusal(&self) -> Refusal {
        let Self::Store(error) = self;
        store_refusal(error)
    }
}

#[cfg(test)]
mod tests {
    use spillway_api::Reason;

    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn what_the_device_has_is_deleted_and_repeating_that_is_safe() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let first = fixture.stored(mailbox).await;
        let second = fixture.stored(mailbox).await;
        let never_stored = fixture.message("elsewhere");
        for _ in 0..2 {
            fixture.mailbox.acknowledge(mailbox, &[first.id, never_stored.id]).await.unwrap();
            assert_eq!(fixture.contents(mailbox).await, std::slice::from_ref(&second));
        }
    }

    #[tokio::test]
    async fn a_late_repetition_of_the_append_stays_deleted() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let message = fixture.stored(mailbox).await;
        fixture.mailbox.acknowledge(mailbox, &[message.id]).await.unwrap();
        fixture.mailbox.append(mailbox, message).await.unwrap();
        assert_eq!(fixture.contents(mailbox).await, []);
    }

    #[tokio::test]
    async fn a_failed_acknowledgement_may_be_repeated() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let message = fixture.stored(mailbox).await;
        fixture.store.fail(StoreError::DiskFull);
        let error = fixture.mailbox.acknowledge(mailbox, &[message.id]).await.unwrap_err();
        assert_eq!(error.refusal().reason, Reason::Unavailable);
        fixture.mailbox.acknowledge(mailbox, &[message.id]).await.unwrap();
        assert_eq!(fixture.contents(mailbox).await, []);
    }
}
