//! How long messages are under way, from the id that a gateway mints for a send to the frame in the receiver's stream, and how much has
//! waited for a device that comes back. The clock of the receiver's gateway is read, the sender's minted the id: their difference is in it.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry, exponential_buckets};
use spillway_chassis::exemplars::{Exemplars, Slots};
use spillway_chassis::metrics::register;
use spillway_chassis::traces::TraceParent;

use super::{Label, label};

label!(
    /// How a stored message came to its device.
    Route {
        /// A hint brought it.
        Hint = "hint",
        /// A read found it while the session was open, and no hint had brought it.
        Found = "found",
        /// The device had not read, or not acknowledged, what came before.
        Held = "held",
        /// It was sent before the device came.
        Backlog = "backlog",
    }
);

const SECONDS: &str = "spillway_gateway_delivery_seconds";

/// From a hint within one process, over the sweeps (2 s, 10 s, 1 min, 5 min), to the days that a message is kept.
const BUCKETS: &[f64] = &[
    0.002_5,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    12.5,
    75.0,
    360.0,
    3_600.0,
    86_400.0,
    604_800.0,
    2_678_400.0,
];

#[derive(Debug)]
pub(crate) struct DeliveryMetrics {
    routes: Vec<(Histogram, Slots)>,
    backlog: Histogram,
}

impl DeliveryMetrics {
    pub(super) fn register(registry: &Registry, exemplars: &Exemplars) -> Self {
        let help = "From the sending gateway's id for a stored message to the frame in the receiver's stream, by how it came.";
        let options = HistogramOpts::new(SECONDS, help).buckets(BUCKETS.to_vec());
        let seconds = HistogramVec::new(options, &["route"]).expect("the name and label are valid");
        let seconds = register(registry, seconds);
        let route = |route: &Route| {
            let labels = [("route", route.as_str())];
            (seconds.with_label_values(&[route.as_str()]), exemplars.slots(SECONDS, &labels, BUCKETS))
        };
        let options = HistogramOpts::new(
            "spillway_gateway_backlog_messages",
            "Messages that were given to a device, when it came, before it had all that waited for it.",
        );
        // A mailbox holds 10,000.
        let options = options.buckets(exponential_buckets(1.0, 4.0, 8).expect("it grows"));
        let backlog = Histogram::with_opts(options).expect("the name is valid");
        Self { routes: Route::ALL.iter().map(route).collect(), backlog: register(registry, backlog) }
    }

    /// A message has been given to its session.
    pub(crate) fn took(&self, route: Route, took: Duration) {
        let (seconds, exemplars) = &self.routes[route.index()];
        seconds.observe(took.as_secs_f64());
        if let Some(trace) = TraceParent::current() {
            exemplars.note(took.as_secs_f64(), trace.trace_id());
        }
    }

    /// All that waited for a device has been given to it.
    pub(crate) fn caught_up(&self, messages: u32) {
        self.backlog.observe(f64::from(messages));
    }
}
