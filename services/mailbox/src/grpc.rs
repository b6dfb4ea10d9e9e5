use spillway_api::internal::v1::mailbox_server;
use spillway_api::internal::v1::{
    AcknowledgeRequest, AcknowledgeResponse, AppendRequest, AppendResponse, FetchRequest, FetchResponse,
    PurgeRequest, PurgeResponse, WhisperRequest, WhisperResponse,
};
use spillway_api::{FieldError, Refusal};
use spillway_rpc::into_status;
use tonic::{Request, Response, Status};

use crate::{Mailbox, wire};

#[tonic::async_trait]
impl mailbox_server::Mailbox for Mailbox {
    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let request = request.into_inner();
        let mailbox = wire::mailbox_id(&request.mailbox_id).map_err(invalid)?;
        let message = wire::message(&request.id, &request.guid, request.envelope).map_err(invalid)?;
        let appended = self.append(mailbox, message).await.map_err(into_status)?;
        Ok(Response::new(appended.into()))
    }

    async fn whisper(&self, request: Request<WhisperRequest>) -> Result<Response<WhisperResponse>, Status> {
        let request = request.into_inner();
        let mailbox = wire::mailbox_id(&request.mailbox_id).map_err(invalid)?;
        let guid = spillway_api::guid("guid", &request.guid).map_err(invalid)?;
        let envelope = wire::envelope(request.envelope).map_err(invalid)?;
        self.whisper(mailbox, guid, envelope).await;
        Ok(Response::new(WhisperResponse {}))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        let request = request.into_inner();
        let mailbox = wire::mailbox_id(&request.mailbox_id).map_err(invalid)?;
        let after = wire::after(&request.after).map_err(invalid)?;
        let most = self.shared.config.page_limit();
        let limit = wire::page_limit(request.messages_max, request.bytes_max, most);
        let known = wire::settled(request.settled_us);
        let fetched = self.fetch(mailbox, after, known, limit).await.map_err(into_status)?;
        let messages = fetched.page.messages.into_iter().map(wire::stored_message).collect();
        let settled_us = fetched.settled.as_micros();
        Ok(Response::new(FetchResponse { messages, more: fetched.page.more, settled_us }))
    }

    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeResponse>, Status> {
        let request = request.into_inner();
        let mailbox = wire::mailbox_id(&request.mailbox_id).map_err(invalid)?;
        let ids = wire::acknowledged_ids(&request.ids).map_err(invalid)?;
        self.acknowledge(mailbox, &ids).await.map_err(into_status)?;
        Ok(Response::new(AcknowledgeResponse {}))
    }

    async fn purge(&self, request: Request<PurgeRequest>) -> Result<Response<PurgeResponse>, Status> {
        let mailboxes = wire::purged_mailboxes(&request.into_inner().mailbox_ids).map_err(invalid)?;
        self.purge(&mailboxes).await.map_err(into_status)?;
        Ok(Response::new(PurgeResponse {}))
    }
}

fn invalid(error: FieldError) -> Status {
    Refusal::from(error).into_status()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prometheus::Registry;
    use spillway_api::internal::v1::append_response::Outcome;
    use spillway_api::internal::v1::mailbox_client::MailboxClient;
    use spillway_rpc::{Channel, ServerMetrics, in_process};
    use spillway_types::{Guid, MailboxId};
    use tonic::Code;
    use tonic::service::Routes;

    use super::*;
    use crate::ENVELOPE_BYTES_MAX;
    use crate::testing::Fixture;

    fn client(fixture: &Fixture) -> MailboxClient<Channel> {
        let routes = Routes::new(fixture.mailbox.clone().into_server());
        MailboxClient::new(in_process(routes, &ServerMetrics::new(&Registry::new())))
    }

    fn append(fixture: &Fixture, mailbox_id: &Bytes, envelope_bytes: usize) -> AppendRequest {
        AppendRequest {
            mailbox_id: mailbox_id.clone(),
            id: fixture.message("").id.to_bytes().to_vec().into(),
            guid: Guid::random().as_bytes().to_vec().into(),
            envelope: vec![7; envelope_bytes].into(),
        }
    }

    #[tokio::test]
    async fn the_largest_message_goes_all_the_way() {
        let fixture = Fixture::new();
        let mut client = client(&fixture);
        let mailbox_id = Bytes::copy_from_slice(MailboxId::random().as_bytes());
        let sent = append(&fixture, &mailbox_id, ENVELOPE_BYTES_MAX);
        let answer = client.append(sent.clone()).await.unwrap().into_inner();
        assert_eq!((answer.outcome(), answer.near_full), (Outcome::Stored, false));

        // Twice, since a page is larger than its bytes when a message is.
        client.append(append(&fixture, &mailbox_id, ENVELOPE_BYTES_MAX)).await.unwrap();
        let fetch = FetchRequest { mailbox_id: mailbox_id.clone(), ..FetchRequest::default() };
        let page = client.fetch(fetch.clone()).await.unwrap().into_inner();
        assert_eq!(
            (page.messages[0].id.clone(), page.messages[0].envelope.len()),
            (sent.id, ENVELOPE_BYTES_MAX)
        );

        let ids = vec![page.messages[0].id.clone()];
        client.acknowledge(AcknowledgeRequest { mailbox_id, ids }).await.unwrap();
        let rest = client.fetch(fetch).await.unwrap().into_inner();
        assert!(rest.messages.len() == 1 && rest.messages[0].guid != sent.guid);
    }

    #[tokio::test]
    async fn what_is_too_large_or_malformed_is_refused() {
        let fixture = Fixture::new();
        let mut client = client(&fixture);
        let mailbox_id = Bytes::copy_from_slice(MailboxId::random().as_bytes());
        let large = client.append(append(&fixture, &mailbox_id, ENVELOPE_BYTES_MAX + 1)).await.unwrap_err();
        assert_eq!(large.code(), Code::InvalidArgument);
        let huge = client.append(append(&fixture, &mailbox_id, 2 * ENVELOPE_BYTES_MAX)).await.unwrap_err();
        assert_eq!(huge.code(), Code::OutOfRange);
        let nameless = client.append(append(&fixture, &Bytes::new(), 1)).await.unwrap_err();
        assert_eq!(nameless.code(), Code::InvalidArgument);
        assert!(nameless.message().starts_with("mailbox_id"), "{nameless}");
    }
}
