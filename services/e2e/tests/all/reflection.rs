//! What a stranger with grpcurl sees.

use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::support::Node;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_services_are_listed_described_and_healthy() {
    let node = Node::start("reflection", &[]).await;
    let channel = Endpoint::from_shared(node.server.public.clone()).unwrap().connect().await.unwrap();
    let reflection = ServerReflectionClient::new(channel.clone());
    let ask = async |question| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let mut client = reflection.clone();
        let answers = client.server_reflection_info(futures::stream::iter([request])).await.unwrap();
        answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list")
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    let mut health = HealthClient::new(channel);
    for service in ["SignUp", "Devices", "Account", "Keys", "Contacts", "Messages", "Status"] {
        let name = format!("spillway.v1.{service}");
        assert!(names.contains(&name), "{name} is not in {names:?}");
        let symbol = ask(MessageRequest::FileContainingSymbol(name.clone())).await;
        assert!(matches!(symbol, MessageResponse::FileDescriptorResponse(_)), "{name}: {symbol:?}");
        let answer = health.check(HealthCheckRequest { service: name }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let others = names.iter().filter(|name| !name.starts_with("grpc."));
    assert_eq!(others.count(), 7, "something is listed that this port does not serve: {names:?}");
    let details = ask(MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned())).await;
    assert!(matches!(details, MessageResponse::FileDescriptorResponse(_)), "{details:?}");
    let whole = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(whole.status(), ServingStatus::Serving);
}
