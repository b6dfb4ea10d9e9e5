//! The bus of a fleet: NATS.
//!
//! Connections are apart, so that a large payload on one does not hold up the others: requests, hints that go out,
//! hints that come in, durable work.

mod config;
mod connection;
#[cfg(any(test, feature = "conformance"))]
pub mod floor;
pub mod hints;
mod message;
mod metrics;
mod outbox;
mod requests;
mod responder;
mod sample;
mod work;

pub use config::NatsConfig;
pub use connection::{ConnectError, ConnectionState, Disconnected, MESSAGE_BYTES_MAX, Nats};
pub use hints::NatsBus;
pub use message::{Headers, InvalidHeader};
pub use metrics::describe_metrics;
pub use requests::{Reply, Request, RequestError, Requests};
pub use responder::{AnswerError, Group, Incoming, Limits, Responders};
pub use work::{JetStreamWorkConfig, JetStreamWorkQueue};
