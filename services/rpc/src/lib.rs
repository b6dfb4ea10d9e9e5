//! What every call shares, whether it crosses a socket or not.
//!
//! A caller holds a generated client over a [`Channel`] and does not know where the callee lives: [`in_process()`] puts
//! the client directly on the server, [`tcp()`] puts a socket between them, [`over_bus`] NATS. All end in the same
//! server stack (metrics, panic guard, deadline, handler), and [`client_stack`] is the same on the caller's side.
//!
//! Invariants: what a handler sees of a call is its messages, its metadata and its [`Deadline`], in all homes; a
//! call ends with exactly one status, which the metrics count, also when the caller left or the handler panicked;
//! errors of a transport are `UNAVAILABLE` or `DEADLINE_EXCEEDED` refusals, but for a message that is too large.
//!
//! Four differences between the homes remain. The bus has unary calls of internal services only. In process the
//! handler runs on the caller's task, so it makes progress only while the caller polls. [`peer_address`] exists on
//! sockets only, and only the public edge may read it. Sockets limit the size of headers, which only a stranger would
//! overdo.

mod admit;
mod bus;
mod channel;
mod client;
mod deadline;
mod error;
mod follow;
mod in_process;
mod malformed;
mod methods;
mod metrics;
mod panic_guard;
mod room;
mod server;
mod tcp;
mod tls;

pub use admit::{Class, Classify, Downstream, Head, Hop, Waiter};
pub use bus::{BusServerConfig, FRAME_BYTES_MAX, Partition, over_bus};
pub use channel::Channel;
pub use client::{ClientConfig, client_stack};
pub use deadline::Deadline;
pub use error::{Chain, ServiceError, into_status};
pub use in_process::in_process;
pub use metrics::{ClientMetrics, ServerMetrics, describe_metrics};
pub use room::{frontier_of, outlook_of, room_state};
pub use server::{Server, ServerConfig, peer_address};
pub use tcp::{InvalidEndpoint, TcpConfig, tcp};
pub use tls::{ClientTls, ServerTls, TlsConfig, TlsError, describe_metrics as describe_tls_metrics};
