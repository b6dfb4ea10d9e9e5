//! A client made from KEDA's own protocol, against the server on a socket.

use std::collections::HashMap;
use std::net::SocketAddr;

use spillway_api::externalscaler::external_scaler_client::ExternalScalerClient;
use spillway_api::internal::v1 as wire;
use spillway_bus::LocalBus;
use spillway_rpc::{Channel, Server, ServerConfig, ServerMetrics, TcpConfig, tcp};
use spillway_types::Timestamp;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::*;
use crate::Config;
use crate::testing::{MemoryLeases, Node, beacon, node};

const BOUND: Duration = Duration::from_secs(10);

struct Served {
    node: Node,
    keda: ExternalScalerClient<Channel>,
}

/// Listens for as short a time as can be before it answers.
async fn serve() -> Served {
    let config = Config { beacon_silence: Duration::from_millis(800), ..Config::default() };
    let node = node(7, config, Arc::new(MemoryLeases::default()), &Arc::new(LocalBus::new()));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = ServerMetrics::new(&prometheus::Registry::new());
    Server::new(ServerConfig::default(), "scaler", &metrics)
        .add_service(node.control.scaler(&node.tasks))
        .serve(listener, None, &node.tasks);
    let endpoint = format!("http://{address}").parse().unwrap();
    let channel = tcp(endpoint, &TcpConfig::default(), None).unwrap();
    Served { node, keda: ExternalScalerClient::new(channel) }
}

fn object(pairs: &[(&str, &str)]) -> ScaledObjectRef {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let scaler_metadata: HashMap<_, _> = pairs.collect();
    ScaledObjectRef { name: "gateway".to_owned(), namespace: "spillway".to_owned(), scaler_metadata }
}

impl Served {
    /// `load` is in flight, queued, refused and capacity.
    fn hear(&self, number: u8, name: &str, load: [u64; 4]) {
        let beacon = beacon(number, name, &[wire::Role::Gateway], load);
        let wall = Timestamp::from_micros(beacon.sent_at_us);
        self.node.control.shared.fleet.heard(beacon, Instant::now(), wall).unwrap();
    }

    /// Long enough for the scaler to believe it.
    async fn hear_on(&self, fleet: &[(u8, &str, [u64; 4])]) {
        for _ in 0..20 {
            fleet.iter().for_each(|(number, name, load)| self.hear(*number, name, *load));
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn value(&self, object: ScaledObjectRef) -> Result<f64, Status> {
        let metric_name = "demand-gateway".to_owned();
        let request = GetMetricsRequest { scaled_object_ref: Some(object), metric_name };
        let answer = self.keda.clone().get_metrics(request).await?.into_inner();
        assert_eq!(answer.metric_values[0].metric_name, "demand-gateway");
        Ok(answer.metric_values[0].metric_value_float)
    }
}

#[tokio::test]
async fn keda_is_told_the_replicas_that_the_demand_fills() {
    let served = serve().await;
    let gateway = object(&[("role", "gateway"), ("scalerAddress", "control:7710")]);
    let spec = served.keda.clone().get_metric_spec(gateway.clone()).await.unwrap().into_inner();
    let [spec] = &spec.metric_specs[..] else { panic!("{spec:?}") };
    assert_eq!((spec.metric_name.as_str(), spec.target_size_float), ("demand-gateway", 0.7));

    let unheard = served.value(gateway.clone()).await.unwrap_err();
    assert_eq!(unheard.code(), Code::Unavailable, "not zero: {unheard:?}");
    served.hear(1, "a", [50, 10, 0, 100]);
    let young = served.value(gateway.clone()).await.unwrap_err();
    assert!(young.message().contains("not known yet"), "{young:?}");

    served.hear_on(&[(1, "a", [50, 10, 0, 100]), (2, "b", [100, 100, 640, 100])]).await;
    // 900 seats of demand where 100 fill a replica.
    assert_eq!(served.value(gateway.clone()).await.unwrap(), 9.0);
    assert!(served.keda.clone().is_active(gateway.clone()).await.unwrap().into_inner().result);
    let floored = object(&[("role", "gateway"), ("floor", "20"), ("target", "0.5")]);
    assert_eq!(served.value(floored).await.unwrap(), 10.0, "20 replicas at the target");

    // Half of the fleet is not heard any more.
    for _ in 0..12 {
        served.hear(1, "a", [50, 10, 0, 100]);
        sleep(Duration::from_millis(100)).await;
    }
    let half = served.value(gateway.clone()).await.unwrap_err();
    assert!(half.code() == Code::Unavailable && half.message().contains("silent"), "{half:?}");
    let left = served.keda.clone().is_active(gateway).await.unwrap().into_inner();
    assert!(left.result, "the role is wanted whatever is known");
    let mailbox = object(&[("role", "mailbox")]);
    let request =
        GetMetricsRequest { scaled_object_ref: Some(mailbox), metric_name: "demand-mailbox".to_owned() };
    let nobody = served.keda.clone().get_metrics(request).await.unwrap_err();
    assert!(nobody.message().contains("no process of the role"), "{nobody:?}");
}

#[tokio::test]
async fn a_mistake_in_the_metadata_is_said_with_what_to_write() {
    let served = serve().await;
    let mut keda = served.keda.clone();
    let wrong = object(&[("role", "gateways")]);
    let answers = [
        keda.is_active(wrong.clone()).await.map(drop),
        keda.stream_is_active(wrong.clone()).await.map(drop),
        keda.get_metric_spec(wrong.clone()).await.map(drop),
        served.value(wrong).await.map(drop),
    ];
    for answer in answers {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("write one of gateway, registration"), "{status:?}");
    }
    let request = GetMetricsRequest {
        scaled_object_ref: Some(object(&[("role", "gateway")])),
        metric_name: "s0-demand".to_owned(),
    };
    let other = keda.get_metrics(request).await.unwrap_err();
    assert!(other.code() == Code::InvalidArgument && other.message().contains("demand-gateway"), "{other:?}");
}

#[tokio::test]
async fn a_burst_is_pushed_within_a_second_and_does_not_end_by_its_own_coming() {
    let served = serve().await;
    let burst = object(&[("role", "gateway"), ("activation", "0.85"), ("burst", "burst-")]);
    let mut pushes = served.keda.clone().stream_is_active(burst.clone()).await.unwrap().into_inner();
    served.hear_on(&[(1, "a", [40, 0, 0, 100])]).await;
    let first = timeout(BOUND, pushes.message()).await.unwrap().unwrap().unwrap();
    assert!(!first.result);

    let surge = Instant::now();
    served.hear(1, "a", [90, 10, 300, 100]);
    let push = timeout(BOUND, pushes.message()).await.unwrap().unwrap().unwrap();
    assert!(push.result);
    // Half a second, on a machine that has nothing else to do.
    assert!(surge.elapsed() < Duration::from_secs(2), "{:?}", surge.elapsed());

    // Its own pods take most of the load: the others alone would still be full.
    served.hear_on(&[(1, "a", [80, 0, 0, 100]), (2, "burst-1", [80, 0, 0, 400])]).await;
    assert!(served.keda.clone().is_active(burst).await.unwrap().into_inner().result);

    served.node.tasks.cancel();
    let ended = timeout(BOUND, pushes.message()).await.unwrap();
    assert!(!matches!(ended, Ok(Some(_))), "the stream ends with the process: {ended:?}");
}

#[tokio::test]
async fn streams_are_bounded() {
    let served = serve().await;
    let mut keda = served.keda.clone();
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        open.push(keda.stream_is_active(object(&[("role", "gateway")])).await.unwrap());
    }
    let full = keda.stream_is_active(object(&[("role", "gateway")])).await.unwrap_err();
    assert_eq!(full.code(), Code::Unavailable);
    drop(open.pop());
    let until = Instant::now() + BOUND;
    while keda.stream_is_active(object(&[("role", "gateway")])).await.is_err() {
        assert!(Instant::now() < until, "a stream that was left frees no place");
        sleep(Duration::from_millis(10)).await;
    }
}
