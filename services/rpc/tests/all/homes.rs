//! The ways in which a call in process could differ from one over a socket, and does not.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use spillway_api::internal::v1::{AppendRequest, AppendResponse, FetchRequest};
use spillway_api::v1::{
    Ack, SessionRequest, SessionResponse, StaleDevices, session_request, session_response,
};
use spillway_api::{Reason, Refusal, SmallBuffers};
use spillway_rpc::ServiceError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming};

use crate::world::{
    BOUND, Marker, QuotaError, REQUEST_BYTES_MAX, World, ask, fetch, in_every_home, in_homes_with_streams,
    until,
};

/// An open session: what is sent as acks comes back as deliveries.
pub(crate) struct Session {
    pub(crate) acks: mpsc::Sender<SessionRequest>,
    pub(crate) answers: Streaming<SessionResponse>,
}

impl Session {
    pub(crate) async fn open(world: &World) -> Self {
        let (acks, requests) = mpsc::channel(4);
        let answers = world.messages().session(ReceiverStream::new(requests)).await.unwrap().into_inner();
        Self { acks, answers }
    }

    pub(crate) async fn echo(&mut self, id: &'static str) -> Result<Option<Bytes>, tonic::Status> {
        let ack = Ack { ids: vec![Bytes::from_static(id.as_bytes())] };
        self.acks.send(SessionRequest { frame: Some(session_request::Frame::Ack(ack)) }).await.unwrap();
        let answer = tokio::time::timeout(BOUND, self.answers.message()).await.unwrap()?;
        Ok(answer.map(|answer| match answer.frame {
            Some(session_response::Frame::Delivery(delivery)) => delivery.id,
            other => panic!("unexpected {other:?}"),
        }))
    }
}

#[tokio::test]
async fn the_callers_deadline_ends_the_call_and_the_handler() {
    in_every_home(async |world| {
        let mut request = fetch("wait");
        request.set_timeout(Duration::from_millis(50));
        let status = ask(&world.channel, request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(Refusal::from_status(&status).unwrap().reason, Reason::Deadline);
        until("the end of the handler", || world.handler.ended() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_an_internal_refusal_and_the_caller_lives() {
    in_every_home(async |world| {
        let status = world.ask("panic").await.unwrap_err();
        assert_eq!(Refusal::from_status(&status).unwrap().reason, Reason::Internal);
        assert_eq!(world.ask("hello").await.unwrap(), "hello");
    })
    .await;
}

#[tokio::test]
async fn a_panic_in_a_stream_is_an_internal_refusal() {
    in_homes_with_streams(async |world| {
        let mut session = Session::open(&world).await;
        assert_eq!(session.echo("a").await.unwrap().unwrap(), "a");
        let status = session.echo("panic").await.unwrap_err();
        assert_eq!(Refusal::from_status(&status).unwrap().reason, Reason::Internal);
    })
    .await;
}

#[tokio::test]
async fn dropping_the_caller_drops_the_handler() {
    in_every_home(async |world| {
        {
            let mut call = pin!(world.ask("wait"));
            let started = until("the call", || world.handler.started() == 1);
            tokio::select! {
                answer = call.as_mut() => panic!("unexpected {answer:?}"),
                () = started => {}
            }
        }
        until("the end of the handler", || world.handler.ended() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn the_callers_address_is_known_in_no_home_and_metadata_travels_in_all() {
    in_every_home(async |world| {
        assert_eq!(world.ask("address").await.unwrap(), "false");
        let mut request = fetch("metadata");
        request.metadata_mut().insert("x-caller", "gateway".parse().unwrap());
        assert_eq!(ask(&world.channel, request).await.unwrap(), "gateway");
    })
    .await;
}

#[tokio::test]
async fn metadata_come_back_whole() {
    in_every_home(async |world| {
        let mut request = fetch("hello");
        let bytes = tonic::metadata::MetadataValue::from_bytes(&[0, 10, 13, 255]);
        request.metadata_mut().append("x-caller", "one".parse().unwrap());
        request.metadata_mut().append("x-caller", "two: three, ".parse().unwrap());
        request.metadata_mut().insert_bin("x-bytes-bin", bytes.clone());
        let response = world.mailbox().fetch(request).await.unwrap();
        let texts: Vec<_> =
            response.metadata().get_all("x-caller").iter().map(|text| text.to_str().unwrap()).collect();
        assert_eq!(texts.iter().map(|text| text.trim_end()).collect::<Vec<_>>(), ["one", "two: three,"]);
        assert_eq!(response.metadata().get_bin("x-bytes-bin").unwrap(), bytes);
    })
    .await;
}

#[tokio::test]
async fn the_callers_extensions_do_not_travel() {
    in_every_home(async |world| {
        let mut request = fetch("extension");
        request.extensions_mut().insert(Marker);
        assert_eq!(ask(&world.channel, request).await.unwrap(), "false");
    })
    .await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_with_the_same_code() {
    in_every_home(async |world| {
        let append = |bytes| AppendRequest { envelope: vec![0; bytes].into(), ..AppendRequest::default() };
        world.mailbox().append(append(REQUEST_BYTES_MAX - 8)).await.unwrap();
        let status = world.mailbox().append(append(REQUEST_BYTES_MAX)).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange);
    })
    .await;
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_mistake() {
    in_every_home(async |world| {
        // Its third field is a number where an append has bytes.
        let other = FetchRequest { messages_max: 1, ..FetchRequest::default() };
        let path = PathAndQuery::from_static("/spillway.internal.v1.Mailbox/Append");
        let codec = SmallBuffers::<FetchRequest, AppendResponse>::default();
        let mut client = tonic::client::Grpc::new(world.channel.clone());
        client.ready().await.unwrap();
        let status = client.unary(Request::new(other), path, codec).await.unwrap_err();
        assert_eq!(Refusal::from_status(&status).unwrap().reason, Reason::InvalidArgument);
    })
    .await;
}

#[tokio::test]
async fn a_session_echoes_and_ends_with_its_client() {
    in_homes_with_streams(async |world| {
        let mut session = Session::open(&world).await;
        for id in ["a", "b", "c"] {
            assert_eq!(session.echo(id).await.unwrap().unwrap(), id);
        }
        // Half-closed by the client: the server ends its side with a good status.
        let Session { acks, mut answers } = session;
        drop(acks);
        assert_eq!(answers.message().await.unwrap(), None);

        let open = Session::open(&world).await;
        let ended = world.handler.ended();
        drop(open);
        until("the end of the session", || world.handler.ended() > ended).await;
    })
    .await;
}

#[tokio::test]
async fn a_refusal_arrives_whole() {
    in_every_home(async |world| {
        let status = world.ask("refuse").await.unwrap_err();
        let refusal = Refusal::from_status(&status).unwrap();
        assert_eq!(refusal, QuotaError.refusal());
        assert_eq!(refusal.detail::<StaleDevices>().unwrap().missing, [1]);
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "1500");
    })
    .await;
}

#[tokio::test]
async fn a_pause_that_outlasts_the_deadline_is_not_left_to_a_library() {
    in_every_home(async |world| {
        let mut request = fetch("refuse for an hour");
        request.set_timeout(BOUND);
        let status = ask(&world.channel, request).await.unwrap_err();
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
        let told = Refusal::from_status(&status).unwrap().retry_after;
        assert_eq!(told, Some(Duration::from_secs(3_600)), "the user still learns when to come back");
    })
    .await;
}
