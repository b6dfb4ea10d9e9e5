//! What is counted.

use std::pin::pin;
use std::time::Duration;

use http::Request;
use prometheus::Registry;
use spillway_rpc::{ClientConfig, ClientMetrics, Downstream, client_stack};
use tonic::body::Body;
use tower::ServiceExt;

use crate::homes::Session;
use crate::world::{ask, connect, fetch, in_every_home, in_homes_with_streams, listen, metric, until};

const REQUESTS: &str = "spillway_rpc_server_requests_total";
const IN_FLIGHT: &str = "spillway_rpc_server_in_flight";
const DURATION: &str = "spillway_rpc_server_duration_seconds";

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    in_every_home(async |world| {
        world.ask("hello").await.unwrap();
        world.ask("refuse").await.unwrap_err();
        world.ask("panic").await.unwrap_err();
        for (code, expected) in [("ok", 1.0), ("resource_exhausted", 1.0), ("internal", 1.0)] {
            let labels = ["spillway.internal.v1.Mailbox", "Fetch", code];
            until(code, || world.metric(REQUESTS, &labels) == expected).await;
        }
        until("three durations", || world.metric(DURATION, &["Fetch"]) == 3.0).await;
        assert_eq!(world.metric(IN_FLIGHT, &["Fetch"]), 0.0);
    })
    .await;
}

#[tokio::test]
async fn a_call_that_its_caller_dropped_counts_as_cancelled() {
    in_every_home(async |world| {
        {
            let mut call = pin!(world.ask("wait"));
            let in_flight = until("the call", || world.metric(IN_FLIGHT, &["Fetch"]) == 1.0);
            tokio::select! {
                answer = call.as_mut() => panic!("unexpected {answer:?}"),
                () = in_flight => {}
            }
        }
        until("the count", || world.metric(REQUESTS, &["Fetch", "cancelled"]) == 1.0).await;
        assert_eq!(world.metric(IN_FLIGHT, &["Fetch"]), 0.0);
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_in_flight_until_it_ends_and_has_no_latency() {
    in_homes_with_streams(async |world| {
        let mut session = Session::open(&world).await;
        session.echo("a").await.unwrap();
        assert_eq!(world.metric("spillway_rpc_server_started_total", &["Session"]), 1.0);
        assert_eq!(world.metric(IN_FLIGHT, &["Session"]), 1.0);
        let Session { acks, mut answers } = session;
        drop(acks);
        assert!(answers.message().await.unwrap().is_none());
        until("the end", || world.metric(REQUESTS, &["Session", "ok"]) == 1.0).await;
        assert_eq!(world.metric(IN_FLIGHT, &["Session"]), 0.0);
        assert_eq!(world.metric(DURATION, &["Session"]), 0.0);
    })
    .await;
}

#[tokio::test]
async fn callers_count_what_they_see() {
    in_every_home(async |world| {
        let registry = Registry::new();
        let metrics = ClientMetrics::new(&registry);
        let config = ClientConfig { unary_deadline_default: Duration::from_millis(50) };
        let channel = client_stack(world.channel.clone(), &config, &metrics, &Downstream::default());
        ask(&channel, fetch("hello")).await.unwrap();
        ask(&channel, fetch("wait")).await.unwrap_err();
        let count = |code| metric(&registry, "spillway_rpc_client_requests_total", &["Fetch", code]);
        assert_eq!(count("ok"), 1.0);
        assert_eq!(count("deadline_exceeded"), 1.0);

        let (listener, port) = listen().await;
        drop(listener);
        let nowhere = client_stack(connect(port), &ClientConfig::default(), &metrics, &Downstream::default());
        ask(&nowhere, fetch("hello")).await.unwrap_err();
        assert_eq!(count("unavailable"), 1.0);
    })
    .await;
}

#[tokio::test]
async fn a_path_that_nobody_knows_makes_no_series_of_its_own() {
    in_homes_with_streams(async |world| {
        let request = Request::post("/no.such.Service/Method").body(Body::empty()).unwrap();
        let response = world.channel.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers().get("grpc-status").unwrap(), "12");
        drop(response);
        until("the count", || world.metric(REQUESTS, &["other", "unimplemented"]) == 1.0).await;
    })
    .await;
}
