//! Traces: OpenTelemetry over OTLP, off unless `telemetry.traces.endpoint` says where to.
//!
//! A call is followed or not from where it enters the fleet, by chance: [`is_chosen`]. Whoever is not chosen costs a comparison and no
//! span. Whoever is has spans in every process that works for him, because the chosen carry a [`TraceParent`] along, in the W3C's form.
//! A device that brings one has it adopted if its call is chosen anyway; nobody outside can have himself traced, so nobody can make
//! telemetry the load.
//!
//! Never more than [`QUEUE_MAX`] spans wait for the collector. What does not fit, or what the collector does not take, is dropped and
//! counted (`spillway_traces_spans_total`). While the brownout ladder is up, a hundredth of the chosen is left ([`set_brownout`]).
//!
//! Spans hold method names, outcomes and times; no ids of people or devices, no numbers, no content. A delivery is a trace of its own that
//! links to the send's, so who writes to whom is not one tree.
//!
//! This is global, like the subscriber that it belongs to: the binary installs it once, and tests in process have none.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan, SpanData,
    SpanExporter, SpanProcessor,
};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Spans of traces have this target; spans and lines of the log do not.
pub const TARGET: &str = "spillway::trace";
/// Where a place in a trace travels.
pub const TRACEPARENT: &str = "traceparent";

/// Some seconds of spans, at about a kilobyte each.
const QUEUE_MAX: usize = 8_192;
const BATCH_MAX: usize = 512;
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of the chosen, while the ladder is up.
const BROWNOUT_SHARE: f64 = 0.01;

static ON: AtomicBool = AtomicBool::new(false);
static RATIO: AtomicU64 = AtomicU64::new(0);
static BROWNOUT: AtomicBool = AtomicBool::new(false);
static INSTALLED: OnceLock<Installed> = OnceLock::new();

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesConfig {
    /// A collector that speaks OTLP over gRPC, such as `http://127.0.0.1:4317`. Without TLS: it runs beside the process, and carries spans on from
    /// there. Unset: no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The share of calls of devices that are traced, 0 to 1.
    pub sample_ratio: f64,
}

/// What cannot be used. The text names the key.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error("telemetry.traces.sample_ratio is {0}: it is a share, from 0 to 1")]
    Ratio(f64),
    #[error("telemetry.traces.endpoint is {0:?}: write http://HOST:PORT, such as http://127.0.0.1:4317")]
    Endpoint(String),
    #[error("telemetry.traces.endpoint cannot be used")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("traces are set up already")]
    Installed,
}

/// A place in a trace that is followed, in the form of the W3C's `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent(SpanContext);

#[derive(Debug)]
struct Installed {
    provider: SdkTracerProvider,
    counters: IntCounterVec,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self { endpoint: None, sample_ratio: 0.001 }
    }
}

impl TracesConfig {
    /// # Errors
    ///
    /// When a value cannot work.
    pub fn check(&self) -> Result<(), TracesError> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(TracesError::Ratio(self.sample_ratio));
        }
        match &self.endpoint {
            Some(endpoint) if !is_endpoint(endpoint) => Err(TracesError::Endpoint(endpoint.clone())),
            _ => Ok(()),
        }
    }
}

fn is_endpoint(text: &str) -> bool {
    let authority = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let port = authority.and_then(|authority| authority.rsplit_once(':'));
    port.is_some_and(|(host, port)| !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok())
}

/// The tracer of the process's subscriber, if there is a collector. Within a runtime, because the connection lives on it.
pub(crate) fn install(
    config: &TracesConfig,
    attributes: Attributes,
) -> Result<Option<SdkTracer>, TracesError> {
    config.check()?;
    let Some(endpoint) = &config.endpoint else { return Ok(None) };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint.clone())
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    let counters = span_counters();
    let waiting = Arc::new(AtomicUsize::new(0));
    let counted = Counted {
        exporter,
        waiting: waiting.clone(),
        exported: counters.with_label_values(&["exported"]),
        failed: counters.with_label_values(&["failed"]),
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(Duration::from_secs(1))
        .build();
    let processor = Bounded {
        inner: BatchSpanProcessor::builder(counted).with_batch_config(batches).build(),
        waiting,
        dropped: counters.with_label_values(&["dropped"]),
    };
    let resource = Resource::builder_empty()
        .with_service_name("spillway")
        .with_attributes([
            KeyValue::new("service.version", attributes.version),
            KeyValue::new("service.instance.id", attributes.instance),
        ])
        .build();
    // Who is to be followed has been decided before a span is made.
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::AlwaysOn)
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("spillway");
    INSTALLED.set(Installed { provider, counters }).map_err(|_| TracesError::Installed)?;
    RATIO.store(config.sample_ratio.to_bits(), Relaxed);
    ON.store(true, Relaxed);
    Ok(Some(tracer))
}

/// What the collector is told of the process.
#[derive(Clone, Debug)]
pub struct Attributes {
    pub version: &'static str,
    /// The name of the process, such as that of its pod.
    pub instance: String,
}

fn span_counters() -> IntCounterVec {
    let opts = Opts::new("spillway_traces_spans_total", "Spans that ended, by what became of them.");
    let counters =
        IntCounterVec::new(opts, &["outcome"]).expect("names are constants that Prometheus accepts");
    for outcome in ["exported", "failed", "dropped"] {
        counters.with_label_values(&[outcome]);
    }
    counters
}

/// Registers what became of spans, so that it can be described.
///
/// # Errors
///
/// When the registry has it already.
pub fn describe_metrics(registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(span_counters()))
}

/// Adds the metrics of what became of spans, if there are traces.
///
/// # Errors
///
/// When the registry has them already.
pub fn register(registry: &Registry) -> prometheus::Result<()> {
    match INSTALLED.get() {
        Some(installed) => registry.register(Box::new(installed.counters.clone())),
        None => Ok(()),
    }
}

/// Gives the collector what waits, for at most `bound`. Blocks. What ends later is dropped.
pub fn shut_down(bound: Duration) {
    if let Some(installed) = INSTALLED.get() {
        ON.store(false, Relaxed);
        if let Err(error) = installed.provider.shutdown_with_timeout(bound) {
            tracing::warn!(%error, "the last traces were not taken");
        }
    }
}

/// While the brownout ladder is up, fewer are chosen.
pub fn set_brownout(is_up: bool) {
    BROWNOUT.store(is_up, Relaxed);
}

/// Whether a call that enters the fleet is to be followed: by chance, whatever it brings.
pub fn is_chosen(chance: impl FnOnce() -> f64) -> bool {
    if !ON.load(Relaxed) {
        return false;
    }
    let ratio = f64::from_bits(RATIO.load(Relaxed));
    let ratio = if BROWNOUT.load(Relaxed) { ratio * BROWNOUT_SHARE } else { ratio };
    ratio > 0.0 && chance() < ratio
}

/// Whether there is a collector.
pub fn is_on() -> bool {
    ON.load(Relaxed)
}

/// Whether what runs now belongs to a trace.
pub fn is_traced() -> bool {
    is_on() && is_of_trace(&Span::current())
}

fn is_of_trace(span: &Span) -> bool {
    span.metadata().is_some_and(|metadata| metadata.target() == TARGET)
}

/// A step of what runs now, if that is followed. Otherwise a span that is nothing and costs nothing.
pub fn step(name: &'static str) -> Span {
    if is_traced() { tracing::debug_span!(target: TARGET, "step", otel.name = name) } else { Span::none() }
}

/// The delivery of what somebody else's call has stored: a trace of its own, with a link to that call's.
pub fn delivery(of: &TraceParent) -> Span {
    if !is_on() {
        return Span::none();
    }
    let span = tracing::debug_span!(
        target: TARGET, parent: None, "deliver", otel.name = "deliver", otel.kind = "consumer"
    );
    span.add_link(of.0.clone());
    span
}

impl TraceParent {
    /// `None` for what is malformed, and for a trace that is not followed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(5, '-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may have more; what is known of them comes first.
        let known = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        if !known || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
            return None;
        }
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let context = SpanContext::new(trace, span, flags & TraceFlags::SAMPLED, true, TraceState::NONE);
        (context.is_valid() && context.is_sampled()).then_some(Self(context))
    }

    /// Where a span is in its trace. `None`: it belongs to none.
    pub fn of(span: &Span) -> Option<Self> {
        if !is_on() || !is_of_trace(span) {
            return None;
        }
        let context = span.context().span().span_context().clone();
        (context.is_valid() && context.is_sampled()).then_some(Self(context))
    }

    /// Where what runs now is.
    pub fn current() -> Option<Self> {
        if is_on() { Self::of(&Span::current()) } else { None }
    }

    /// Makes `span` a part of this trace. Before it is entered.
    pub fn adopt(&self, span: &Span) {
        // Only a span that nobody follows, or that has begun, cannot be adopted.
        span.set_parent(Context::new().with_remote_span_context(self.0.clone())).ok();
    }

    /// 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        self.0.trace_id().to_string()
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-01", self.0.trace_id(), self.0.span_id())
    }
}

/// Counts what waits, and drops what would be too much.
#[derive(Debug)]
struct Bounded {
    inner: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut SdkSpan, cx: &Context) {
        self.inner.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        let room = |waiting| (waiting < QUEUE_MAX).then_some(waiting + 1);
        if ON.load(Relaxed) && self.waiting.fetch_update(Relaxed, Relaxed, room).is_ok() {
            self.inner.on_end(span);
        } else {
            self.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts what the collector took.
#[derive(Debug)]
struct Counted {
    exporter: opentelemetry_otlp::SpanExporter,
    waiting: Arc<AtomicUsize>,
    exported: IntCounter,
    failed: IntCounter,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let outcome = self.exporter.export(batch).await;
        self.waiting.fetch_update(Relaxed, Relaxed, |waiting| Some(waiting.saturating_sub(count))).ok();
        match &outcome {
            Ok(()) => self.exported.inc_by(count as u64),
            Err(error) => {
                // Each second while the collector is away; the counter is what to watch.
                tracing::debug!(%error, count, "traces were not taken");
                self.failed.inc_by(count as u64);
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_read_as_the_w3c_says_and_written_as_it_was() {
        let parent = TraceParent::parse(PARENT).unwrap();
        assert_eq!(parent.to_string(), PARENT);
        assert_eq!(parent.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        let newer = PARENT.replacen("00-", "cc-", 1) + "-what-the-future-will-be-like";
        assert_eq!(TraceParent::parse(&newer), Some(parent));
    }

    #[test]
    fn what_is_malformed_or_not_followed_is_no_parent() {
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-é",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn without_a_collector_nobody_is_chosen_and_nothing_is_made() {
        assert!(!is_chosen(|| 0.0));
        assert!(step("anything").is_none());
        assert!(delivery(&TraceParent::parse(PARENT).unwrap()).is_none());
        assert_eq!(TraceParent::current(), None);
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let config = |endpoint: Option<&str>, sample_ratio| TracesConfig {
            endpoint: endpoint.map(str::to_owned),
            sample_ratio,
        };
        config(None, 0.0).check().unwrap();
        config(Some("http://collector:4317/"), 1.0).check().unwrap();
        for bad in [
            "",
            "collector:4317",
            "https://collector:4317",
            "http://collector",
            "http://:4317",
            "http://a/b:1",
        ] {
            let text = config(Some(bad), 0.1).check().unwrap_err().to_string();
            assert!(
                text.contains("telemetry.traces.endpoint") && text.contains("http://127.0.0.1:4317"),
                "{text}"
            );
        }
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(config(None, bad).check().unwrap_err().to_string().contains("sample_ratio"));
        }
    }
}
