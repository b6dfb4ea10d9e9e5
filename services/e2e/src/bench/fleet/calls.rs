//! Unary calls over the bus against the client library's own requests: [`ENVELOPE_BYTES`] there and back.
//!
//! Both are asked and answered in this process, over connections of their own, so that nothing but the transport
//! differs.
//!
//! [`ENVELOPE_BYTES`]: crate::bench::ENVELOPE_BYTES

use anyhow::{Result, ensure};
use bytes::Bytes;
use prometheus::Registry;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::mailbox_server::{Mailbox, MailboxServer};
use spillway_api::internal::v1::{
    AcknowledgeRequest, AcknowledgeResponse, AppendRequest, AppendResponse, FetchRequest, FetchResponse,
    PurgeRequest, PurgeResponse, StoredMessage, WhisperRequest, WhisperResponse,
};
use spillway_bus::nats::floor::RawRequests;
use spillway_bus::nats::{ConnectionState, Requests, Responders};
use spillway_rpc::{
    BusServerConfig, Channel, ClientConfig, ClientMetrics, Downstream, Server, ServerConfig, ServerMetrics,
    client_stack, over_bus,
};
use tonic::{Request, Response, Status};

use super::world::World;
use crate::bench::Options;
use crate::bench::closed_loop::compare;
use crate::bench::message::CONTENT;
use crate::bench::table::{Row, Target};

pub(crate) const ROW: &str = "unary call over the bus";

pub(crate) async fn unary(options: &Options, world: &World) -> Result<Row> {
    let channel = channel(world).await?;
    let raw = requests(world).await?;
    let compared = compare(
        "unary calls",
        options.window(),
        move |_, _| call(channel.clone()),
        move |_, _| ask(raw.clone()),
    )
    .await?;
    Ok(Row::ratio(ROW, compared.value, "1/s", compared.floor, Target::AtLeast(0.5)))
}

pub(crate) async fn requests(world: &World) -> Result<RawRequests> {
    let nats = world.nats()?;
    Ok(RawRequests::open(&nats, &nats.subject("floor"), world.tasks()).await?)
}

pub(crate) async fn ask(raw: RawRequests) -> Result<()> {
    let answer = raw.ask(Bytes::from_static(CONTENT)).await;
    ensure!(answer.is_some_and(|answer| answer == CONTENT), "a raw request was not answered");
    Ok(())
}

async fn call(channel: Channel) -> Result<()> {
    let request = FetchRequest { after: Bytes::from_static(CONTENT), ..FetchRequest::default() };
    let answer = MailboxClient::new(channel).fetch(request).await?.into_inner();
    ensure!(answer.messages[0].envelope == CONTENT, "a call was answered with something else");
    Ok(())
}

/// As the roles have it: a connection to call, another to serve, and both stacks.
async fn channel(world: &World) -> Result<Channel> {
    let (nats, registry) = (world.nats()?, Registry::new());
    let server = Server::new(ServerConfig::default(), "bench", &ServerMetrics::new(&registry))
        .add_service(MailboxServer::new(Echo));
    let responders = Responders::open(&nats).await?;
    server.serve_bus(&responders, &BusServerConfig::default(), world.tasks()).await;
    let requests = Requests::open(&nats).await?;
    responders.state().wait_for(ConnectionState::is_connected).await?;
    requests.state().wait_for(ConnectionState::is_connected).await?;
    let transport = over_bus(&nats, requests);
    Ok(client_stack(
        transport,
        &ClientConfig::default(),
        &ClientMetrics::new(&registry),
        &Downstream::default(),
    ))
}

/// Fetching from it gives back what it was asked with.
#[derive(Clone, Debug)]
struct Echo;

#[tonic::async_trait]
impl Mailbox for Echo {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        let message = StoredMessage { envelope: request.into_inner().after, ..StoredMessage::default() };
        Ok(Response::new(FetchResponse { messages: vec![message], ..FetchResponse::default() }))
    }

    async fn append(&self, _: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        Err(not_here())
    }

    async fn whisper(&self, _: Request<WhisperRequest>) -> Result<Response<WhisperResponse>, Status> {
        Err(not_here())
    }

    async fn acknowledge(
        &self,
        _: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeResponse>, Status> {
        Err(not_here())
    }

    async fn purge(&self, _: Request<PurgeRequest>) -> Result<Response<PurgeResponse>, Status> {
        Err(not_here())
    }
}

fn not_here() -> Status {
    Status::unimplemented("only for the measurement of calls")
}
