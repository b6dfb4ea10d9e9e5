//! Whatever somebody outside sends, he adds no series: labels come from closed lists.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::uri::PathAndQuery;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use spillway_api::v1;
use spillway_types::{Clock as _, SystemClock};
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};

use super::super::raw::{RawCodec, authorized};
use super::super::support::{Node, get};
use super::not_on_the_page;

const ODD_CALLS: usize = 150;
/// Of one process with all roles; most are buckets of the latencies of methods.
const SERIES_MAX: usize = 6_000;

/// Without values.
async fn series(node: &Node) -> BTreeSet<String> {
    let (_, page) = get(&node.server.admin, "/metrics").await;
    let series = page.lines().filter(|line| !line.starts_with('#'));
    series.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

fn word(random: &mut StdRng) -> String {
    let length = random.random_range(1..40);
    (0..length).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect()
}

/// One call that no client would make. How it ends is all the same.
async fn odd_call(channel: &Channel, node: &Node, random: &mut StdRng) {
    let services = [
        "spillway.v1.Messages",
        "spillway.v1.SignUp",
        "spillway.internal.v1.Mailbox",
        "grpc.health.v1.Health",
    ];
    let methods = ["Send", "StartVerification", "Append", "Enter", "Poll", "Discover"];
    let path = match random.random_range(0..4) {
        0 => format!("/{}/{}", word(random), word(random)),
        1 => format!("/{}/{}", services[random.random_range(0..services.len())], word(random)),
        2 => format!("/{}", word(random)),
        _ => format!(
            "/{}/{}",
            services[random.random_range(0..services.len())],
            methods[random.random_range(0..methods.len())]
        ),
    };
    let mut body = vec![0; random.random_range(0..60)];
    random.fill_bytes(&mut body);
    let mut request = authorized(&format!("{} {}", word(random), word(random)), Bytes::from(body));
    for name in ["traceparent", "x-spillway-class", "user-agent", "grpc-timeout", "x-forwarded-for"] {
        if random.random_bool(0.5) {
            request.metadata_mut().insert(name, word(random).parse().unwrap());
        }
    }
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    client.unary::<Bytes, Bytes, _>(request, PathAndQuery::try_from(path).unwrap(), RawCodec).await.ok();
    get(&node.server.admin, &format!("/{}", word(random))).await;
}

/// Numbers of all countries, real ones and others.
async fn odd_numbers(node: &Node, random: &mut StdRng) {
    let mut sign_up = node.client().await.sign_up();
    for _ in 0..30 {
        let number = format!("+{}", random.random_range(1_000_000_u64..999_999_999_999_999));
        let request = v1::StartVerificationRequest { number, ..Default::default() };
        sign_up.start_verification(Request::new(request)).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_input_adds_no_series() {
    let seed = SystemClock.now().as_micros();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let node = Node::start("cardinality", &[]).await;
    let [alice, bob] = node.people().await;
    alice.reaches(&bob).await;
    let channel = Endpoint::from_shared(node.server.public.clone()).unwrap().connect().await.unwrap();
    let mut round = async || {
        for _ in 0..ODD_CALLS {
            odd_call(&channel, &node, &mut random).await;
        }
        odd_numbers(&node, &mut random).await;
        series(&node).await
    };
    let first = round().await;
    let second = round().await;
    // A method that ends with another code for the first time: of those there are 17 for each method.
    let new: Vec<_> = second.difference(&first).filter(|series| !series.contains("code=\"")).collect();
    assert!(new.is_empty(), "{new:#?}");
    assert!(second.len() < SERIES_MAX, "{} series", second.len());
    let page = get(&node.server.admin, "/metrics").await.1;
    assert_eq!(not_on_the_page(&page).await, [""; 0], "a value that is on no list");
    println!("{} series", second.len());
}
