use bytes::Bytes;
use spillway_types::{Guid, MailboxId};

use crate::Mailbox;

impl Mailbox {
    /// Gives a message to the device if it is online. It cannot fail: a whisper that is lost is no failure.
    pub(crate) async fn whisper(&self, mailbox: MailboxId, guid: Guid, envelope: Bytes) {
        self.shared.hints.whisper(mailbox, guid, envelope).await;
    }
}

#[cfg(test)]
mod tests {
    use spillway_api::internal::v1::mailbox_hint::Hint;

    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn a_whisper_reaches_a_session_and_is_not_stored() {
        let (fixture, mailbox, guid) = (Fixture::new(), MailboxId::random(), Guid::random());
        fixture.mailbox.whisper(mailbox, guid, Bytes::from_static(b"nobody listens")).await;
        let mut hints = fixture.subscribe(mailbox).await;
        fixture.mailbox.whisper(mailbox, guid, Bytes::from_static(b"typing")).await;
        let Some(Hint::Whisper(whisper)) = hints.now().await else { panic!("no whisper arrived") };
        assert_eq!((&whisper.guid[..], &whisper.envelope[..]), (&guid.as_bytes()[..], &b"typing"[..]));
        assert_eq!(fixture.contents(mailbox).await, []);
    }
}
