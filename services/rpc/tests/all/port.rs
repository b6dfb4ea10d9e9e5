//! What only a port has: connections, their limits, their end, health and reflection.

use std::time::Duration;

use futures::future::join;
use prometheus::Registry;
use spillway_api::{Reason, Refusal};
use spillway_chassis::{Drain, Health, Tasks};
use spillway_rpc::{Server, ServerConfig, ServerMetrics};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::homes::Session;
use crate::world::{BOUND, Handler, Home, World, ask, connect, fetch, listen, until};

const CONNECTIONS: &str = "spillway_rpc_server_connections";
const REFUSED: &str = "spillway_rpc_server_connections_refused_total";

struct Port {
    world: World,
    port: u16,
}

async fn open(config: ServerConfig) -> Port {
    let (registry, tasks, handler) = (Registry::new(), Tasks::new(), Handler::default());
    let (listener, port) = listen().await;
    handler.server(config, &registry).serve(listener, None, &tasks);
    Port { world: World { handler, channel: connect(port), registry, tasks }, port }
}

/// The peer closed the connection, whatever it said before.
async fn closed(mut stream: TcpStream) {
    let mut said = Vec::new();
    let outcome = tokio::time::timeout(BOUND, stream.read_to_end(&mut said)).await;
    // A reset is an end as well.
    let _end = outcome.expect("the connection stayed open");
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_and_a_place_is_free_again() {
    let Port { world, port } = open(ServerConfig { connections_max: 1, ..ServerConfig::default() }).await;
    let first = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    until("the first", || world.metric(CONNECTIONS, &["test"]) == 1.0).await;
    closed(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await;
    assert_eq!(world.metric(REFUSED, &["limit"]), 1.0);
    drop(first);
    until("the end of the first", || world.metric(CONNECTIONS, &["test"]) == 0.0).await;
    assert_eq!(world.ask("hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn a_connection_has_no_more_streams_than_allowed() {
    let Port { world, .. } =
        open(ServerConfig { concurrent_streams_max: 1, ..ServerConfig::default() }).await;
    // The limit is known to a client from its first exchange on.
    assert_eq!(world.ask("hello").await.unwrap(), "hello");
    let second = async {
        until("the first", || world.handler.started() == 2).await;
        let mut request = fetch("hello");
        request.set_timeout(Duration::from_millis(100));
        let status = ask(&world.channel, request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(world.handler.started(), 2, "the second ran beside the first");
        world.handler.gate.add_permits(1);
    };
    let (first, ()) = join(world.ask("wait"), second).await;
    assert_eq!(first.unwrap(), "released");
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let config = ServerConfig { handshake_timeout: Duration::from_millis(50), ..ServerConfig::default() };
    let Port { world, port } = open(config).await;
    closed(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await;
    until("the count", || world.metric(REFUSED, &["silent"]) == 1.0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_with_a_session_is_not() {
    let config = ServerConfig { idle_max: Duration::from_millis(20), ..ServerConfig::default() };
    let config = ServerConfig { handshake_timeout: config.idle_max, ..config };
    let Port { world, port } = open(config).await;
    let mut session = Session::open(&world).await;
    let idle = connect(port);
    assert_eq!(ask(&idle, fetch("hello")).await.unwrap(), "hello");
    until("the end of the idle connection", || world.metric(CONNECTIONS, &["test"]) == 1.0).await;
    assert_eq!(session.echo("still here").await.unwrap().unwrap(), "still here");
    // A client that was told to go away would connect anew for this.
    assert_eq!(world.ask("hello").await.unwrap(), "hello");
    assert_eq!(world.metric(CONNECTIONS, &["test"]), 1.0);
    // The client of the idle one notices and connects again.
    assert_eq!(ask(&idle, fetch("hello")).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_drain_lets_calls_finish_and_takes_no_new_ones() {
    let Port { world, port } = open(ServerConfig::default()).await;
    let drain = async {
        until("the call", || world.handler.started() == 1).await;
        world.tasks.cancel();
        until("the end of accepting", || std::net::TcpStream::connect(("127.0.0.1", port)).is_err()).await;
        let status = ask(&connect(port), fetch("hello")).await.unwrap_err();
        assert_eq!(Refusal::from_status(&status).unwrap().reason, Reason::Unavailable);
        world.handler.gate.add_permits(1);
        world.tasks.close_and_wait(BOUND).await.unwrap();
    };
    let (answer, ()) = join(world.ask("wait"), drain).await;
    assert_eq!(answer.unwrap(), "released");
}

#[tokio::test]
async fn a_drain_cuts_what_exceeds_its_bound() {
    let config = ServerConfig { drain_max: Duration::from_millis(50), ..ServerConfig::default() };
    let Port { world, .. } = open(config).await;
    let drain = async {
        until("the call", || world.handler.started() == 1).await;
        world.tasks.close_and_wait(BOUND).await.unwrap();
        until("the end of the handler", || world.handler.ended() == 1).await;
    };
    let (answer, ()) = join(world.ask("wait"), drain).await;
    assert_eq!(Refusal::from_status(&answer.unwrap_err()).unwrap().reason, Reason::Unavailable);
}

#[tokio::test]
async fn the_edge_can_tell_where_a_call_came_from() {
    assert_eq!(World::new(Home::Tcp).await.ask("peer").await.unwrap(), "127.0.0.1");
    assert_eq!(World::new(Home::InProcess).await.ask("peer").await.unwrap(), "none");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let (listener, port) = listen().await;
    drop(listener);
    let status = ask(&connect(port), fetch("hello")).await.unwrap_err();
    assert_eq!(Refusal::from_status(&status).unwrap().reason, Reason::Unavailable);
}

#[tokio::test]
async fn a_broken_connection_ends_a_session_with_unavailable() {
    let world = World::with_config(
        Home::Tcp,
        ServerConfig { drain_max: Duration::from_millis(1), ..ServerConfig::default() },
    )
    .await;
    let mut session = Session::open(&world).await;
    assert_eq!(session.echo("a").await.unwrap().unwrap(), "a");
    world.tasks.close_and_wait(BOUND).await.unwrap();
    let status = tokio::time::timeout(BOUND, session.answers.message()).await.unwrap().unwrap_err();
    assert_eq!(Refusal::from_status(&status).unwrap().reason, Reason::Unavailable);
}

#[tokio::test]
async fn health_follows_readiness_and_reflection_lists_what_the_port_serves() {
    let tasks = Tasks::new();
    let drain = Drain::new(&tasks);
    let health = Health::new(drain.handle());
    let store = health.component("store", "opening");
    let channel = Server::new(ServerConfig::default(), "test", &ServerMetrics::new(&Registry::new()))
        .add_health(&health, &tasks)
        .add_reflection()
        .in_process();

    let mut client = HealthClient::new(channel.clone());
    let mut statuses = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut reaches = async |wanted: ServingStatus| {
        let wait = async { while statuses.message().await.unwrap().unwrap().status() != wanted {} };
        tokio::time::timeout(BOUND, wait).await.unwrap();
    };
    reaches(ServingStatus::NotServing).await;
    store.ready();
    reaches(ServingStatus::Serving).await;
    drain.handle().begin();
    reaches(ServingStatus::NotServing).await;
    tasks.close_and_wait(BOUND).await.unwrap();
    let end = tokio::time::timeout(BOUND, statuses.message()).await.unwrap();
    assert!(matches!(end, Ok(None)), "a watcher that holds up the drain: {end:?}");

    let mut services = services(channel).await;
    services.sort_unstable();
    assert_eq!(services, ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]);
}

async fn services(channel: spillway_rpc::Channel) -> Vec<String> {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers =
        client.server_reflection_info(futures::stream::iter([list])).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("unexpected {other:?}"),
    }
}
