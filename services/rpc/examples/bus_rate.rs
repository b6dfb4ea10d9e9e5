//! Unary calls over the bus against the client library's own requests, taken in turn: 512 bytes there and back, 64
//! callers. `cargo run --release -p spillway-rpc --example bus_rate -- 127.0.0.1:4222`

use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::mailbox_server::{Mailbox, MailboxServer};
use spillway_api::internal::v1::{
    AcknowledgeRequest, AcknowledgeResponse, AppendRequest, AppendResponse, FetchRequest, FetchResponse,
    PurgeRequest, PurgeResponse, StoredMessage, WhisperRequest, WhisperResponse,
};
use spillway_bus::nats::floor::RawRequests;
use spillway_bus::nats::{ConnectionState, Nats, NatsConfig, Requests, Responders};
use spillway_chassis::Tasks;
use spillway_rpc::{
    BusServerConfig, Channel, ClientConfig, ClientMetrics, Downstream, Server, ServerConfig, ServerMetrics,
    client_stack, over_bus,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// The one that the service has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CALLERS: usize = 64;
const PAYLOAD_BYTES: usize = 512;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;

/// Gives back what it gets.
#[derive(Clone)]
struct Echo;

#[tonic::async_trait]
impl Mailbox for Echo {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        let message = StoredMessage { envelope: request.into_inner().after, ..StoredMessage::default() };
        Ok(Response::new(FetchResponse { messages: vec![message], ..FetchResponse::default() }))
    }

    async fn append(&self, _: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn whisper(&self, _: Request<WhisperRequest>) -> Result<Response<WhisperResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn acknowledge(
        &self,
        _: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn purge(&self, _: Request<PurgeRequest>) -> Result<Response<PurgeResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("the address of NATS, such as 127.0.0.1:4222, is missing")?;
    let tasks = Tasks::new();
    let config = NatsConfig {
        servers: vec![format!("nats://{address}")],
        prefix: format!("rate-{:016x}", rand::random::<u64>()),
        ..NatsConfig::default()
    };
    let nats = Nats::new(config, "rate", &Registry::new(), &tasks)?;
    let raw = RawRequests::open(&nats, &nats.subject("floor"), &tasks).await?;
    let channel = unary(&nats, &tasks).await?;
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);

    let (mut floors, mut calls) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (raw, body) = (raw.clone(), payload.clone());
        let floor = rate(&tasks, move || {
            let (raw, body) = (raw.clone(), body.clone());
            async move { raw.ask(body).await.is_some() }
        })
        .await;
        let (client, body) = (MailboxClient::new(channel.clone()), payload.clone());
        let call = rate(&tasks, move || {
            let (mut client, after) = (client.clone(), body.clone());
            async move { client.fetch(FetchRequest { after, ..FetchRequest::default() }).await.is_ok() }
        })
        .await;
        // The first round warms up.
        if round > 0 {
            println!("raw {floor:>9.0}/s   unary {call:>9.0}/s   ratio {:.2}", call / floor);
            floors.push(floor);
            calls.push(call);
        }
    }
    let (floor, call) = (median(floors), median(calls));
    println!("median: raw {floor:.0}/s, unary {call:.0}/s, ratio {:.2}", call / floor);
    Ok(())
}

/// As the roles have it: a connection to call, another to serve, and the client's stack in front.
async fn unary(nats: &Nats, tasks: &Tasks) -> Result<Channel, Box<dyn std::error::Error>> {
    let registry = Registry::new();
    let server = Server::new(ServerConfig::default(), "rate", &ServerMetrics::new(&registry))
        .add_service(MailboxServer::new(Echo));
    let responders = Responders::open(nats).await?;
    server.serve_bus(&responders, &BusServerConfig::default(), tasks).await;
    let requests = Requests::open(nats).await?;
    responders.state().wait_for(ConnectionState::is_connected).await?;
    requests.state().wait_for(ConnectionState::is_connected).await?;
    let transport = over_bus(nats, requests);
    Ok(client_stack(
        transport,
        &ClientConfig::default(),
        &ClientMetrics::new(&registry),
        &Downstream::default(),
    ))
}

/// Calls each second that were answered, by callers that each make one after another.
async fn rate<F>(tasks: &Tasks, call: impl Fn() -> F + Clone + Send + 'static) -> f64
where
    F: Future<Output = bool> + Send + 'static,
{
    let begun = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let call = call.clone();
            tasks.spawn("caller", async move {
                let mut answered = 0_u32;
                while begun.elapsed() < ROUND {
                    answered += u32::from(call().await);
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.unwrap_or(0);
    }
    f64::from(answered) / begun.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
