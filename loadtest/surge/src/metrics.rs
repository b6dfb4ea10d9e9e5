//! What a run sees while it goes on, for Prometheus: `--metrics 127.0.0.1:9900`.
//!
//! Counts and histograms of every operation from the run's start, in the text format (version 0.0.4). Everything is worked out when somebody asks.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::ledger::Counts;
use crate::stats::{Latency, Operation, Stats, Totals};
use crate::workload::World;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
type LatencyOf = fn(&Totals) -> &Latency;

/// Upper bounds of buckets, in milliseconds: round figures from a quick answer to one that nobody waits for.
const BOUNDS_MS: [u64; 16] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000];

/// Listens, and serves when the future is awaited.
///
/// # Errors
///
/// When the address cannot be listened on.
pub(crate) async fn listen(
    address: SocketAddr,
    world: Arc<World>,
) -> io::Result<(SocketAddr, impl Future<Output = io::Result<()>> + Send)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/metrics", get(scrape)).with_state(world);
    Ok((address, async move { axum::serve(listener, router).await }))
}

async fn scrape(State(world): State<Arc<World>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page(&world.stats(), &world.ledger.counts()))
}

fn page(stats: &Stats, counts: &Counts) -> String {
    let operations: Vec<(Operation, Totals)> =
        stats.operations().into_iter().map(|operation| (operation, stats.totals(operation))).collect();
    let mut text = String::new();
    head(
        &mut text,
        "surge_operations_offered_total",
        "counter",
        "Operations by the time at which they were planned.",
    );
    for (operation, totals) in &operations {
        put(
            &mut text,
            format_args!(
                "surge_operations_offered_total{{operation=\"{}\"}} {}",
                operation.0, totals.offered
            ),
        );
    }
    head(&mut text, "surge_operations_ended_total", "counter", "Operations that ended, and how.");
    for (operation, totals) in &operations {
        let outcomes = [
            ("ok", totals.ok),
            ("refused", totals.refused),
            ("failed", totals.failed),
            ("waiting", totals.waiting),
        ];
        for (outcome, count) in outcomes {
            let labels = format_args!("operation=\"{}\",outcome=\"{outcome}\"", operation.0);
            put(&mut text, format_args!("surge_operations_ended_total{{{labels}}} {count}"));
        }
    }
    let kinds: [(&str, &str, LatencyOf); 3] = [
        ("surge_response_seconds", "From the planned start to the end, without refusals.", |totals| {
            &totals.response
        }),
        ("surge_service_seconds", "From sending to the end, without refusals.", |totals| &totals.service),
        ("surge_lag_seconds", "From the planned start to sending: how late the load tool is.", |totals| {
            &totals.lag
        }),
    ];
    for (name, help, latency) in kinds {
        head(&mut text, name, "histogram", help);
        operations
            .iter()
            .for_each(|(operation, totals)| histogram(&mut text, name, *operation, latency(totals)));
    }
    head(&mut text, "surge_messages_total", "counter", "Messages by what became of them.");
    let messages = [
        ("sent", counts.sent),
        ("acked", counts.acked),
        ("delivered", counts.delivered),
        ("duplicated", counts.duplicated),
        ("reordered", counts.reordered),
        ("corrupted", counts.corrupted),
    ];
    for (state, count) in messages {
        put(&mut text, format_args!("surge_messages_total{{state=\"{state}\"}} {count}"));
    }
    head(
        &mut text,
        "surge_messages_on_their_way",
        "gauge",
        "Acknowledged and not delivered; lost, when the run is over.",
    );
    put(&mut text, format_args!("surge_messages_on_their_way {}", counts.lost));
    text
}

fn histogram(text: &mut String, name: &str, operation: Operation, latency: &Latency) {
    let operation = operation.0;
    for bound in BOUNDS_MS {
        let within = latency.count_within(Duration::from_millis(bound));
        let le = bound as f64 / 1_000.0;
        put(text, format_args!("{name}_bucket{{operation=\"{operation}\",le=\"{le}\"}} {within}"));
    }
    let (count, mean_s) = (latency.count(), latency.mean_ms().unwrap_or(0.0) / 1_000.0);
    put(text, format_args!("{name}_bucket{{operation=\"{operation}\",le=\"+Inf\"}} {count}"));
    put(text, format_args!("{name}_sum{{operation=\"{operation}\"}} {}", mean_s * count as f64));
    put(text, format_args!("{name}_count{{operation=\"{operation}\"}} {count}"));
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    put(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::stats::{Outcome, Phase};

    /// Feature 19.
    #[test]
    fn a_scrape_has_counts_histograms_and_how_late_the_load_tool_is() {
        let began = Instant::now();
        let stats = Stats::new(began, vec![Phase { name: "surge", from: Duration::ZERO }]);
        let ms = |ms| began + Duration::from_millis(ms);
        let send = Operation("existing_send");
        stats.record(send, ms(0), ms(1), ms(8), Outcome::Ok);
        stats.record(send, ms(0), ms(40), ms(900), Outcome::Failed("unavailable"));
        stats.record(send, ms(0), ms(1), ms(2), Outcome::Refused("QUOTA"));
        let counts = Counts { acked: 7, delivered: 5, lost: 2, ..Counts::default() };
        let page = page(&stats, &counts);
        for line in [
            "# TYPE surge_response_seconds histogram",
            "surge_operations_offered_total{operation=\"existing_send\"} 3",
            "surge_operations_ended_total{operation=\"existing_send\",outcome=\"ok\"} 1",
            "surge_operations_ended_total{operation=\"existing_send\",outcome=\"refused\"} 1",
            "surge_response_seconds_bucket{operation=\"existing_send\",le=\"0.01\"} 1",
            "surge_response_seconds_bucket{operation=\"existing_send\",le=\"1\"} 2",
            "surge_response_seconds_count{operation=\"existing_send\"} 2",
            "surge_lag_seconds_bucket{operation=\"existing_send\",le=\"0.02\"} 2",
            "surge_lag_seconds_count{operation=\"existing_send\"} 3",
            "surge_messages_total{state=\"acked\"} 7",
            "surge_messages_on_their_way 2",
        ] {
            assert!(page.lines().any(|of| of == line), "{line}\n{page}");
        }
        let names: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let mut unique = names.clone();
        unique.dedup();
        assert_eq!(names, unique);
        // As any reader of the format has it: a name, labels perhaps, and a number.
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("surge_") && value.parse::<f64>().is_ok(), "{line}");
        }
    }
}
