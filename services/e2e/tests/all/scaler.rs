//! A client made from KEDA's own protocol asks a real process.

use std::time::Duration;

use spillway_api::externalscaler::external_scaler_client::ExternalScalerClient;
use spillway_api::externalscaler::{GetMetricsRequest, ScaledObjectRef};
use spillway_rpc::{Channel, TcpConfig, tcp};
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::support::{Node, PATIENCE, metric};

fn gateway() -> ScaledObjectRef {
    let scaler_metadata = [("role".to_owned(), "gateway".to_owned())].into();
    ScaledObjectRef { name: "gateway".to_owned(), namespace: "spillway".to_owned(), scaler_metadata }
}

async fn value(keda: &mut ExternalScalerClient<Channel>) -> Result<f64, tonic::Status> {
    let metric_name = "demand-gateway".to_owned();
    let request = GetMetricsRequest { scaled_object_ref: Some(gateway()), metric_name };
    Ok(keda.get_metrics(request).await?.into_inner().metric_values[0].metric_value_float)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_has_just_started_gives_no_number_and_then_a_true_one() {
    let settings = [("CONTROL__SCALER__LISTEN", "127.0.0.1:0"), ("CONTROL__BEACON_SILENCE", "3s")];
    let mut node = Node::start("scaler", &settings).await;
    let address = node.server.scaler.clone().expect("it listens");
    let channel = tcp(address.parse().unwrap(), &TcpConfig::default(), None).unwrap();
    let mut keda = ExternalScalerClient::new(channel);
    let spec = keda.get_metric_spec(gateway()).await.unwrap().into_inner();
    assert_eq!(spec.metric_specs[0].target_size_float, 0.7);
    assert!(keda.is_active(gateway()).await.unwrap().into_inner().result);
    let young = value(&mut keda).await.unwrap_err();
    assert_eq!(young.code(), Code::Unavailable, "{young:?}");
    assert_eq!(metric(&node.server.admin, "spillway_control_demand_ratio", "gateway").await, 0.0, "absent");

    let until = Instant::now() + PATIENCE;
    let idle = loop {
        match value(&mut keda).await {
            Ok(value) => break value,
            Err(status) => assert!(Instant::now() < until, "{status:?}"),
        }
        sleep(Duration::from_millis(200)).await;
    };
    assert!((0.0..0.7).contains(&idle), "one gateway that has nothing to do: {idle}");
    assert!(metric(&node.server.admin, "spillway_control_capacity_seats", "\"gateway\"").await > 0.0);

    // A stream that is open does not keep the process from ending.
    let mut pushes = keda.stream_is_active(gateway()).await.unwrap().into_inner();
    assert!(pushes.message().await.unwrap().unwrap().result);
    node.server.signal("TERM").await.unwrap();
    assert_eq!(node.server.wait().await.unwrap().code(), Some(0));
    assert!(!matches!(pushes.message().await, Ok(Some(_))));
}
