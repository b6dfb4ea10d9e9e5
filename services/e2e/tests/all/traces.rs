//! Traces of a real process, as a collector gets them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use spillway_api::v1::GetStatusRequest;
use spillway_api::v1::status_client::StatusClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use super::support::{Node, eventually};

/// What spans may say. No ids, no numbers, no content.
const KEYS: [&str; 3] = ["rpc.system.name", "rpc.method", "rpc.status_code"];
const DEVICE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Spans, each with the name of the process that made it.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let instance = resource.resource.as_ref().map(instance).unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| (instance.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// `service.instance.id`.
fn instance(resource: &Resource) -> String {
    let id = resource.attributes.iter().find(|attribute| attribute.key == "service.instance.id");
    match id.and_then(|id| id.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(id)) => id.clone(),
        other => panic!("no instance: {other:?}"),
    }
}

impl Collector {
    /// With its address.
    pub(crate) async fn start() -> (String, Self) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (address, collector)
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().iter().map(|(_, span)| span.clone()).collect()
    }

    /// What one process made.
    pub(crate) fn of(&self, instance: &str) -> Vec<Span> {
        let spans = self.0.lock().unwrap();
        spans.iter().filter(|(made_by, _)| made_by == instance).map(|(_, span)| span.clone()).collect()
    }

    pub(crate) fn named(&self, name: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) async fn open_metrics(admin: &str) -> String {
    let address = admin.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
    let request =
        format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn ask_status(node: &Node, traceparent: &str) {
    let channel = Endpoint::from_shared(node.server.public.clone()).unwrap().connect().await.unwrap();
    let mut request = Request::new(GetStatusRequest {});
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    StatusClient::new(channel).get(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_is_one_trace_up_to_the_store_and_its_delivery_links_to_it() {
    let (endpoint, collector) = Collector::start().await;
    let settings = [("TELEMETRY__TRACES__ENDPOINT", &*endpoint), ("TELEMETRY__TRACES__SAMPLE_RATIO", "1.0")];
    let mut node = Node::start("traces", &settings).await;
    let [anna, bert] = node.people().await;
    let mut inbox = bert.inbox().await;
    anna.send(&bert, "hello").await.unwrap();
    inbox.until_all(&["hello".into()]).await;
    eventually("the delivery is traced", async || !collector.named("deliver").is_empty()).await;

    let find = |name: &str, kind: SpanKind, trace: &[u8]| {
        let spans = collector.named(name).into_iter();
        let mut found = spans.filter(|span| span.kind == kind as i32 && span.trace_id == trace);
        found.next().unwrap_or_else(|| panic!("no {kind:?} span {name}: {:?}", collector.spans()))
    };
    let [send] = &collector.named("spillway.v1.Messages/Send")[..] else { panic!("one send") };
    assert!(send.parent_span_id.is_empty(), "the device told of no trace");
    let append = "spillway.internal.v1.Mailbox/Append";
    let asked = find(append, SpanKind::Client, &send.trace_id);
    assert_eq!(asked.parent_span_id, send.span_id);
    let answered = find(append, SpanKind::Server, &send.trace_id);
    assert_eq!(answered.parent_span_id, asked.span_id);
    let stored = find("store append", SpanKind::Internal, &send.trace_id);
    assert_eq!(stored.parent_span_id, answered.span_id);
    let delivered = &collector.named("deliver")[0];
    assert_ne!(delivered.trace_id, send.trace_id, "who writes to whom is not one tree");
    assert_eq!(delivered.links[0].trace_id, send.trace_id);
    // Hours of a session would be one span.
    let session = collector.named("spillway.v1.Messages/Session");
    assert!(!session.is_empty(), "it has been established");

    let exemplars = open_metrics(&node.server.admin).await;
    assert!(exemplars.contains("application/openmetrics-text") && exemplars.contains("# EOF"), "{exemplars}");
    let of_send = |line: &&str| {
        line.starts_with("spillway_rpc_server_duration_seconds_bucket{") && line.contains("method=\"Send\"")
    };
    let noted = exemplars.lines().filter(of_send).any(|line| line.contains(&hex(&send.trace_id)));
    assert!(noted, "the trace is an exemplar of its latency");
    let of_delivery = |line: &&str| {
        line.starts_with("spillway_gateway_delivery_seconds_bucket{") && line.contains("route=\"hint\"")
    };
    let noted = exemplars.lines().filter(of_delivery).any(|line| line.contains(&hex(&delivered.trace_id)));
    assert!(noted, "the delivery's trace is an exemplar of the time from send to delivery");

    // A device's own trace goes on in ours, where its call is followed anyway.
    ask_status(&node, DEVICE).await;
    eventually("the device's trace", async || {
        let of_device = |span: &Span| {
            DEVICE.contains(&hex(&span.trace_id)) && DEVICE.contains(&hex(&span.parent_span_id))
        };
        collector.named("spillway.v1.Status/Get").iter().any(of_device)
    })
    .await;

    // What ends with the process arrives.
    let before = collector.named("spillway.v1.Messages/Send").len();
    anna.send(&bert, "goodbye").await.unwrap();
    node.server.signal("TERM").await.unwrap();
    assert_eq!(node.server.wait().await.unwrap().code(), Some(0));
    assert_eq!(collector.named("spillway.v1.Messages/Send").len(), before + 1);
    let keys: BTreeSet<String> = collector
        .spans()
        .into_iter()
        .flat_map(|span| span.attributes)
        .map(|attribute| attribute.key)
        .collect();
    let unknown: Vec<_> = keys.iter().filter(|key| !KEYS.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "spans say more than they should: {unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_outside_can_have_himself_traced() {
    let (endpoint, collector) = Collector::start().await;
    let settings = [("TELEMETRY__TRACES__ENDPOINT", &*endpoint), ("TELEMETRY__TRACES__SAMPLE_RATIO", "0.0")];
    let mut node = Node::start("untraced", &settings).await;
    for _ in 0..20 {
        ask_status(&node, DEVICE).await;
    }
    let [anna, bert] = node.people().await;
    anna.reaches(&bert).await;
    node.server.signal("TERM").await.unwrap();
    assert_eq!(node.server.wait().await.unwrap().code(), Some(0));
    assert_eq!(collector.spans(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    // Nobody listens there.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let settings = [("TELEMETRY__TRACES__ENDPOINT", &*endpoint), ("TELEMETRY__TRACES__SAMPLE_RATIO", "1.0")];
    let mut node = Node::start("no-collector", &settings).await;
    let [anna, bert] = node.people().await;
    anna.reaches(&bert).await;
    eventually("lost spans are counted", async || {
        node.metric("spillway_traces_spans_total", "\"failed\"").await > 0.0
    })
    .await;
    node.server.signal("TERM").await.unwrap();
    assert_eq!(node.server.wait().await.unwrap().code(), Some(0));
}
