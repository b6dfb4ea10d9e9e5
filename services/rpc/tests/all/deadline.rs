//! How deadlines travel.

use std::time::Duration;

use spillway_api::{Reason, Refusal};
use spillway_rpc::ServerConfig;
use tonic::Code;

use crate::world::{
    Handler, Home, World, ask, connect, fetch, in_every_home, in_homes_with_streams, listen,
    with_client_stack,
};

/// A handler in `home` whose `hop` calls `next`.
async fn in_front_of(next: spillway_rpc::Channel, home: Home) -> World {
    let handler = Handler { next: Some(next), ..Handler::default() };
    World::with_handler(home, ServerConfig::default(), handler).await
}

#[tokio::test]
async fn a_deadline_shrinks_from_hop_to_hop() {
    for home in Home::ALL {
        println!("home: {home:?}");
        let back = World::new(home).await;
        let front = in_front_of(with_client_stack(back.channel.clone()), home).await;
        let mut request = fetch("hop");
        request.set_timeout(Duration::from_secs(5));
        let answer = ask(&front.channel, request).await.unwrap();
        let [front_us, back_us] = [0, 1].map(|i| answer.split(' ').nth(i).unwrap().parse::<u64>().unwrap());
        // The front reads its clock after the back has answered.
        assert!((1..5_000_000).contains(&back_us), "{answer}");
        assert!((1..5_000_000).contains(&front_us), "{answer}");
    }
}

#[tokio::test]
async fn a_call_without_any_deadline_gets_the_default() {
    in_every_home(async |world| {
        assert_eq!(world.ask("deadline").await.unwrap(), "none");
        let stacked = with_client_stack(world.channel.clone());
        let remaining_us: u64 = ask(&stacked, fetch("deadline")).await.unwrap().parse().unwrap();
        assert!((1..=10_000_000).contains(&remaining_us), "{remaining_us}");
    })
    .await;
}

#[tokio::test]
async fn a_deadline_that_was_not_sent_on_does_not_reach_further_in() {
    for home in Home::ALL {
        println!("home: {home:?}");
        let back = World::new(home).await;
        let middle = in_front_of(with_client_stack(back.channel.clone()), home).await;
        // No client stack here, so the middle is called without a deadline.
        let front = in_front_of(middle.channel.clone(), home).await;
        let call = async |command| {
            let mut request = fetch(command);
            request.set_timeout(Duration::from_secs(5));
            ask(&front.channel, request).await.unwrap()
        };
        assert_eq!(call("forward deadline").await, "none");
        let back_us: u64 = call("forward forward deadline").await.parse().unwrap();
        assert!(back_us > 5_000_000, "{back_us}: not the default of the middle");
    }
}

#[tokio::test]
async fn a_call_that_arrives_too_late_does_not_run() {
    in_every_home(async |world| {
        let mut request = fetch("hello");
        request.metadata_mut().insert("grpc-timeout", "0m".parse().unwrap());
        let status = ask(&world.channel, request).await.unwrap_err();
        assert_eq!(Refusal::from_status(&status).unwrap().reason, Reason::Deadline);
        assert_eq!(world.handler.started(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_malformed_deadline_is_refused() {
    in_every_home(async |world| {
        let mut request = fetch("hello");
        request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
        assert_eq!(ask(&world.channel, request).await.unwrap_err().code(), Code::InvalidArgument);
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    in_homes_with_streams(async |world| {
        let (_acks, requests) = tokio::sync::mpsc::channel(1);
        let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(requests));
        request.set_timeout(Duration::from_millis(100));
        let mut answers = world.messages().session(request).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    })
    .await;
}

#[tokio::test]
async fn a_stream_gets_no_default_deadline() {
    in_homes_with_streams(async |world| {
        let config = spillway_rpc::ClientConfig { unary_deadline_default: Duration::from_millis(20) };
        let metrics = spillway_rpc::ClientMetrics::new(&prometheus::Registry::new());
        let channel = spillway_rpc::client_stack(
            world.channel.clone(),
            &config,
            &metrics,
            &spillway_rpc::Downstream::default(),
        );
        let stacked = World { channel, ..world };
        let mut session = crate::homes::Session::open(&stacked).await;
        // By the time this call has run out of the default, the session would have too.
        assert_eq!(stacked.ask("wait").await.unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(session.echo("still here").await.unwrap().unwrap(), "still here");
    })
    .await;
}

#[tokio::test]
async fn a_silent_server_is_given_up_at_the_deadline() {
    // Accepts, because the kernel does, and never says a word.
    let (_listener, port) = listen().await;
    let mut request = fetch("hello");
    request.set_timeout(Duration::from_millis(50));
    let status = ask(&connect(port), request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}
