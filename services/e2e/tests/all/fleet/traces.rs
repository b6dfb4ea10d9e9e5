use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use toml::Table;

use super::super::support::eventually;
use super::super::traces::{Collector, hex, open_metrics};
use super::site::{Running, Site, http};

const APPEND: &str = "spillway.internal.v1.Mailbox/Append";

/// The only span of that name and kind that this process made of this trace.
fn find(collector: &Collector, process: &str, name: &str, kind: SpanKind, trace: &[u8]) -> Span {
    let wanted = |span: &Span| span.name == name && span.kind == kind as i32 && span.trace_id == trace;
    let mut found: Vec<_> = collector.of(process).into_iter().filter(wanted).collect();
    assert_eq!(found.len(), 1, "{kind:?} spans {name} of {process}: {:#?}", collector.of(process));
    found.remove(0)
}

/// From the device's call at one gateway over NATS to the worker and the store; and by a hint over NATS to the receiver's gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_is_one_trace_across_the_bus_and_its_delivery_elsewhere_links_to_it() {
    let (endpoint, collector) = Collector::start().await;
    let site = Site::new("fleet-traces").await;
    let mut spec = site.spec();
    let traces: Table = format!("endpoint = {endpoint:?}\nsample_ratio = 1.0\n").parse().unwrap();
    let telemetry = spec.settings.get_mut("telemetry").and_then(toml::Value::as_table_mut).unwrap();
    telemetry.insert("traces".to_owned(), traces.into());
    let fleet = Running::start(site, spec).await;
    let desk = fleet.desk("fleet-followed").await;
    let anna = desk.person(&fleet.gateway(0), 2_000).await;
    let bert = desk.person(&fleet.gateway(1), 2_001).await;
    let mut inbox = bert.inbox().await;
    inbox.backlog().await;
    anna.send(&bert, "hello").await.unwrap();
    assert_eq!(inbox.message().await, "hello");
    eventually("all of the trace has come", async || {
        let has = |process: &str, name: &str| collector.of(process).iter().any(|span| span.name == name);
        has("gateway-1", "spillway.v1.Messages/Send")
            && has("mailbox-1", "store append")
            && has("mailbox-1", APPEND)
            && has("gateway-1", APPEND)
            && has("gateway-2", "deliver")
    })
    .await;

    let [send] = &collector.named("spillway.v1.Messages/Send")[..] else { panic!("one send") };
    let trace = &send.trace_id;
    let asked = find(&collector, "gateway-1", APPEND, SpanKind::Client, trace);
    assert_eq!(asked.parent_span_id, send.span_id);
    let answered = find(&collector, "mailbox-1", APPEND, SpanKind::Server, trace);
    assert_eq!(answered.parent_span_id, asked.span_id, "the request on the bus told of it");
    let stored = find(&collector, "mailbox-1", "store append", SpanKind::Internal, trace);
    assert_eq!(stored.parent_span_id, answered.span_id);
    let [delivered] = &collector.named("deliver")[..] else { panic!("one delivery") };
    assert!(collector.of("gateway-2").contains(delivered), "where the receiver is");
    assert_ne!(&delivered.trace_id, trace, "who writes to whom is not one tree");
    assert_eq!(delivered.links[0].trace_id, *trace, "the hint told of it");
    assert_eq!(delivered.links[0].span_id, answered.span_id);

    let mut exemplars = String::new();
    for admin in fleet.admin_addresses() {
        exemplars += &open_metrics(&http(admin)).await;
    }
    let noted = exemplars.lines().any(|line| {
        line.starts_with("spillway_gateway_delivery_seconds_bucket{")
            && line.contains("route=\"hint\"")
            && line.contains(&hex(&delivered.trace_id))
    });
    assert!(noted, "the delivery's trace is an exemplar: {exemplars}");
}
