//! A service whose requests say what it does, in any home.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use prometheus::Registry;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::mailbox_server::{Mailbox, MailboxServer};
use spillway_api::internal::v1::{
    AcknowledgeRequest, AcknowledgeResponse, AppendRequest, AppendResponse, FetchRequest, FetchResponse,
    PurgeRequest, PurgeResponse, StoredMessage, WhisperRequest, WhisperResponse,
};
use spillway_api::v1::messages_client::MessagesClient;
use spillway_api::v1::messages_server::{Messages, MessagesServer};
use spillway_api::v1::{
    Delivery, SendRequest, SendResponse, SessionRequest, SessionResponse, StaleDevices, session_request,
    session_response,
};
use spillway_api::{Reason, Refusal};
use spillway_bus::nats::{ConnectionState, Nats, NatsConfig, Requests, Responders};
use spillway_chassis::Tasks;
use spillway_rpc::{
    BusServerConfig, Channel, ClientConfig, ClientMetrics, Deadline, Downstream, Server, ServerConfig,
    ServerMetrics, ServiceError, TcpConfig, client_stack, into_status, over_bus, peer_address, tcp,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status, Streaming};

pub(crate) const BOUND: Duration = Duration::from_secs(10);
pub(crate) const REQUEST_BYTES_MAX: usize = 1_024;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Home {
    InProcess,
    Tcp,
    Bus,
}

impl Home {
    pub(crate) const ALL: [Self; 3] = [Self::InProcess, Self::Tcp, Self::Bus];
    /// The bus has unary calls of internal services only.
    pub(crate) const WITH_STREAMS: [Self; 2] = [Self::InProcess, Self::Tcp];

    /// A channel to `server` in this home.
    pub(crate) async fn settle(self, server: Server, tasks: &Tasks) -> Channel {
        match self {
            Self::InProcess => server.in_process(),
            Self::Tcp => {
                let (listener, port) = listen().await;
                server.serve(listener, None, tasks);
                connect(port)
            }
            Self::Bus => {
                let fleet = Fleet::new();
                fleet.serve(server, &BusServerConfig::default(), tasks).await;
                let channel = fleet.channel(tasks).await;
                served(&channel).await;
                channel
            }
        }
    }
}

/// Runs a case in each home. The output of a failure ends with the home it failed in.
pub(crate) async fn in_every_home(case: impl AsyncFn(World)) {
    run(&Home::ALL, case).await;
}

/// For cases with streams.
pub(crate) async fn in_homes_with_streams(case: impl AsyncFn(World)) {
    run(&Home::WITH_STREAMS, case).await;
}

async fn run(homes: &[Home], case: impl AsyncFn(World)) {
    for home in homes {
        println!("home: {home:?}");
        tokio::time::timeout(6 * BOUND, case(World::new(*home).await)).await.expect("the case hangs");
    }
}

/// Processes that share a prefix on NATS, which nobody else has.
pub(crate) struct Fleet {
    pub(crate) config: NatsConfig,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self::at(&nats_address())
    }

    pub(crate) fn at(address: &str) -> Self {
        let prefix = format!("test-{:016x}", rand::random::<u64>());
        let servers = vec![format!("nats://{address}")];
        Self { config: NatsConfig { servers, prefix, ..NatsConfig::default() } }
    }

    /// The same fleet, reached through another address.
    pub(crate) fn through(&self, port: u16) -> Self {
        let servers = vec![format!("nats://127.0.0.1:{port}")];
        Self { config: NatsConfig { servers, ..self.config.clone() } }
    }

    pub(crate) fn nats(&self, tasks: &Tasks) -> Nats {
        Nats::new(self.config.clone(), "test", &Registry::new(), tasks).unwrap()
    }

    /// One more process that serves.
    pub(crate) async fn serve(&self, server: Server, config: &BusServerConfig, tasks: &Tasks) {
        // Its connection outlives the drain, as a process's does.
        let responders = Responders::open(&self.nats(&Tasks::new())).await.unwrap();
        server.serve_bus(&responders, config, tasks).await;
    }

    /// One more process that calls.
    pub(crate) async fn channel(&self, tasks: &Tasks) -> Channel {
        let nats = self.nats(tasks);
        let requests = Requests::open(&nats).await.unwrap();
        connected(&requests).await;
        over_bus(&nats, requests)
    }
}

pub(crate) fn nats_address() -> String {
    std::env::var("SPILLWAY_TEST_NATS")
        .expect("SPILLWAY_TEST_NATS is not set: run `cargo xtask test`, which starts what the tests need")
}

pub(crate) async fn connected(requests: &Requests) {
    let mut state = requests.state();
    let up = state.wait_for(ConnectionState::is_connected);
    tokio::time::timeout(BOUND, up).await.expect("NATS does not answer").unwrap();
}

/// Waits until somebody serves mailboxes. The handler does not count these calls.
pub(crate) async fn served(channel: &Channel) {
    let probe = async {
        while MailboxClient::new(channel.clone()).purge(PurgeRequest::default()).await.unwrap_err().code()
            != Code::Unimplemented
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(BOUND, probe).await.expect("nobody serves");
}

pub(crate) struct World {
    pub(crate) handler: Handler,
    /// The transport alone, without a client stack.
    pub(crate) channel: Channel,
    pub(crate) registry: Registry,
    pub(crate) tasks: Tasks,
}

impl World {
    pub(crate) async fn new(home: Home) -> Self {
        Self::with_config(home, ServerConfig::default()).await
    }

    pub(crate) async fn with_config(home: Home, config: ServerConfig) -> Self {
        Self::with_handler(home, config, Handler::default()).await
    }

    pub(crate) async fn with_handler(home: Home, config: ServerConfig, handler: Handler) -> Self {
        let (registry, tasks) = (Registry::new(), Tasks::new());
        let channel = home.settle(handler.server(config, &registry), &tasks).await;
        Self { handler, channel, registry, tasks }
    }

    pub(crate) fn mailbox(&self) -> MailboxClient<Channel> {
        MailboxClient::new(self.channel.clone())
    }

    pub(crate) fn messages(&self) -> MessagesClient<Channel> {
        MessagesClient::new(self.channel.clone())
    }

    pub(crate) async fn ask(&self, command: &str) -> Result<String, Status> {
        ask(&self.channel, fetch(command)).await
    }

    /// The value of the first series of this family whose labels contain all of `labels`.
    pub(crate) fn metric(&self, family: &str, labels: &[&str]) -> f64 {
        metric(&self.registry, family, labels)
    }
}

pub(crate) fn metric(registry: &Registry, family: &str, labels: &[&str]) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|candidate| candidate.name() == family);
    let series = family.into_iter().flat_map(|family| family.get_metric()).find(|metric| {
        labels.iter().all(|wanted| metric.get_label().iter().any(|label| label.value() == *wanted))
    });
    series.map_or(0.0, |series| {
        let histogram = series.get_histogram().get_sample_count() as f64;
        series.get_counter().get_value() + series.get_gauge().get_value() + histogram
    })
}

pub(crate) async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

pub(crate) fn connect(port: u16) -> Channel {
    let endpoint = format!("http://127.0.0.1:{port}").parse().unwrap();
    tcp(endpoint, &TcpConfig::default(), None).unwrap()
}

pub(crate) fn with_client_stack(transport: Channel) -> Channel {
    client_stack(
        transport,
        &ClientConfig::default(),
        &ClientMetrics::new(&Registry::new()),
        &Downstream::default(),
    )
}

pub(crate) fn fetch(command: &str) -> Request<FetchRequest> {
    Request::new(FetchRequest {
        after: Bytes::copy_from_slice(command.as_bytes()),
        ..FetchRequest::default()
    })
}

pub(crate) async fn ask(channel: &Channel, request: Request<FetchRequest>) -> Result<String, Status> {
    let response = MailboxClient::new(channel.clone()).fetch(request).await?.into_inner();
    Ok(String::from_utf8(response.messages[0].envelope.to_vec()).unwrap())
}

/// Waits for something that another task does and nobody announces.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(BOUND, wait).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

/// What a client must not be able to hand to a handler.
#[derive(Clone, Debug)]
pub(crate) struct Marker;

#[derive(Clone)]
pub(crate) struct Handler {
    /// A `wait` takes one.
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) started: Arc<AtomicUsize>,
    /// `wait`s that ended in any way.
    pub(crate) ended: Arc<AtomicUsize>,
    /// Where `hop` goes.
    pub(crate) next: Option<Channel>,
    /// What `large` answers with.
    pub(crate) answer_bytes: usize,
    pub(crate) request_bytes_max: usize,
}

impl Default for Handler {
    fn default() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(0)),
            started: Arc::default(),
            ended: Arc::default(),
            next: None,
            answer_bytes: 0,
            request_bytes_max: REQUEST_BYTES_MAX,
        }
    }
}

struct CountOnDrop(Arc<AtomicUsize>);

impl Drop for CountOnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("quota is used up")]
pub(crate) struct QuotaError;

impl ServiceError for QuotaError {
    fn refusal(&self) -> Refusal {
        let detail = StaleDevices { missing: vec![1], extra: vec![2], stale: vec![3] };
        Refusal::new(Reason::Quota, "quota is used up: ä")
            .retry_after(Some(Duration::from_millis(1_500)))
            .with_detail(&detail)
    }
}

impl Handler {
    pub(crate) fn server(&self, config: ServerConfig, registry: &Registry) -> Server {
        let mailbox = MailboxServer::new(self.clone()).max_decoding_message_size(self.request_bytes_max);
        Server::new(config, "test", &ServerMetrics::new(registry))
            .add_service(mailbox)
            .add_service(MessagesServer::new(self.clone()))
    }

    pub(crate) fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }

    async fn obey(&self, command: &str, request: &Request<FetchRequest>) -> Result<String, Status> {
        self.started.fetch_add(1, Ordering::SeqCst);
        Ok(match command {
            "hello" => "hello".to_owned(),
            "wait" => {
                let _ended = CountOnDrop(Arc::clone(&self.ended));
                self.gate.acquire().await.unwrap().forget();
                "released".to_owned()
            }
            "panic" => {
                tokio::task::yield_now().await;
                panic!("as the request asked")
            }
            "refuse" => return Err(into_status(QuotaError)),
            "refuse for an hour" => {
                let refusal = QuotaError.refusal().retry_after(Some(Duration::from_secs(3_600)));
                return Err(refusal.into_status());
            }
            "extension" => request.extensions().get::<Marker>().is_some().to_string(),
            "address" => request.remote_addr().is_some().to_string(),
            "peer" => peer_address(request).map_or("none".to_owned(), |peer| peer.ip().to_string()),
            "large" => "x".repeat(self.answer_bytes),
            "metadata" => request.metadata().get("x-caller").unwrap().to_str().unwrap().to_owned(),
            "deadline" => remaining_us(Deadline::of(request)),
            "hop" => {
                let mut onward = fetch("deadline");
                // Longer than the caller allows.
                onward.set_timeout(Duration::from_secs(3_600));
                let next = ask(self.next.as_ref().unwrap(), onward).await?;
                format!("{} {next}", remaining_us(Deadline::of(request)))
            }
            other => {
                let onward = other.strip_prefix("forward ").expect("a command");
                ask(self.next.as_ref().unwrap(), fetch(onward)).await?
            }
        })
    }
}

fn remaining_us(deadline: Option<Deadline>) -> String {
    deadline.map_or("none".to_owned(), |deadline| deadline.remaining().as_micros().to_string())
}

#[tonic::async_trait]
impl Mailbox for Handler {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        let command = String::from_utf8(request.get_ref().after.to_vec()).unwrap();
        let answer = self.obey(&command, &request).await?;
        let message = StoredMessage { envelope: answer.into(), ..StoredMessage::default() };
        let mut response =
            Response::new(FetchResponse { messages: vec![message], ..FetchResponse::default() });
        // What the caller said comes back.
        for name in ["x-caller", "x-bytes-bin"] {
            for (key, value) in
                request.metadata().clone().into_headers().iter().filter(|(key, _)| *key == name)
            {
                response.metadata_mut().as_mut().append(key, value.clone());
            }
        }
        Ok(response)
    }

    async fn append(&self, _: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        Ok(Response::new(AppendResponse::default()))
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

#[tonic::async_trait]
impl Messages for Handler {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionResponse, Status>> + Send>>;

    async fn send(&self, _: Request<SendRequest>) -> Result<Response<SendResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    /// Answers each ack with a delivery for each of its ids.
    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let ended = CountOnDrop(Arc::clone(&self.ended));
        let answers = request.into_inner().flat_map(move |frame| {
            let _held = &ended;
            let ids = match frame.map(|frame| frame.frame) {
                Ok(Some(session_request::Frame::Ack(ack))) => ack.ids,
                _ => Vec::new(),
            };
            assert!(!ids.iter().any(|id| id == "panic"), "as the request asked");
            futures::stream::iter(ids.into_iter().map(|id| {
                let delivery = Delivery { id, ..Delivery::default() };
                Ok(SessionResponse { frame: Some(session_response::Frame::Delivery(delivery)) })
            }))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
