use spillway_api::Refusal;
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_types::MailboxId;

use crate::Mailbox;
use crate::error::store_refusal;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PurgeError {
    #[error("a mailbox could not be deleted")]
    Store(#[from] StoreError),
}

impl Mailbox {
    /// Deletes mailboxes and ends the sessions of their devices. When it fails half way, repeating it does the rest.
    ///
    /// A sender whose list of devices is a moment old may append to the mailbox afterwards. Nobody reads that, and it
    /// expires.
    pub(crate) async fn purge(&self, mailboxes: &[MailboxId]) -> Result<(), PurgeError> {
        for &mailbox in mailboxes {
            self.shared.mailboxes.purge(mailbox).await?;
            self.shared.hints.device_removed(mailbox).await;
        }
        Ok(())
    }
}

impl ServiceError for PurgeError {
    fn refusal(&self) -> Refusal {
        let Self::Store(error) = self;
        store_refusal(error)
    }
}

#[cfg(test)]
mod tests {
    use spillway_api::internal::v1::DeviceRemoved;
    use spillway_api::internal::v1::mailbox_hint::Hint;

    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn mailboxes_are_emptied_and_their_sessions_told() {
        let fixture = Fixture::new();
        let [gone, kept] = [MailboxId::random(), MailboxId::random()];
        fixture.stored(gone).await;
        let message = fixture.stored(kept).await;
        let mut hints = fixture.subscribe(gone).await;
        for _ in 0..2 {
            fixture.mailbox.purge(&[gone]).await.unwrap();
            assert_eq!(fixture.contents(gone).await, []);
            assert_eq!(hints.now().await, Some(Hint::DeviceRemoved(DeviceRemoved {})));
        }
        assert_eq!(fixture.contents(kept).await, [message]);
    }

    #[tokio::test]
    async fn a_session_is_not_told_of_what_did_not_happen() {
        let (fixture, mailbox) = (Fixture::new(), MailboxId::random());
        let mut hints = fixture.subscribe(mailbox).await;
        fixture.store.fail(StoreError::DiskFull);
        fixture.mailbox.purge(&[mailbox]).await.unwrap_err();
        assert_eq!(hints.now().await, None);
    }
}
