//! Unary calls of internal services over NATS.
//!
//! A call of `/spillway.internal.v1.Mailbox/Append` is one request on `rpc.mailbox.append.<partition>`, below the
//! fleet's prefix; the members of the queue group `mailbox` share `rpc.mailbox.*.*`. The payload is the gRPC frame as it
//! is, its five bytes of prefix included, and is not copied on either side. Metadata are headers of the same name;
//! `grpc-timeout` is one of them, so deadlines shrink on their way as they do over a socket. An answer has the headers
//! and trailers of the response, which the generated client puts together for unary calls anyway. `grpc-status` is
//! left out when it is 0, so a plain answer has no headers at all.
//!
//! Limits: no streams (`UNIMPLEMENTED`), and frames of [`FRAME_BYTES_MAX`] (`OUT_OF_RANGE`, as a socket's client and
//! server answer). A caller that leaves tells all members of the group, because it does not know which one has its
//! call. Nothing is repeated here: that is for the caller to decide.

mod client;
mod partition;
mod server;
mod subjects;
mod wire;

pub use client::over_bus;
pub use partition::Partition;
pub use server::BusServerConfig;

/// Bytes of a gRPC frame, 512 kB. What remains of the 512 KiB that NATS takes ([`MESSAGE_BYTES_MAX`]) is for headers: a
/// response whose metadata do not fit there is `OUT_OF_RANGE` too.
///
/// [`MESSAGE_BYTES_MAX`]: spillway_bus::nats::MESSAGE_BYTES_MAX
pub const FRAME_BYTES_MAX: usize = 512_000;
