//! Limits of a port. Every default says what it protects.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Bytes of one request message. A send carries an envelope of up to 256 KiB for each of up to six devices
    /// (1.5 MiB); 64 KiB are for ids and framing. The generated servers enforce it, so whoever builds them passes it to
    /// `max_decoding_message_size`.
    pub request_bytes_max: usize,
    /// Connections of this port; one more is closed as soon as it is accepted. An idle session takes some tens of
    /// kilobytes, so this also bounds memory.
    pub connections_max: usize,
    /// Calls of one connection at a time. A device needs a handful; a load balancer or a test tool shares a
    /// connection among many.
    pub concurrent_streams_max: u32,
    /// From accepting a connection to its first call, TLS included. A silent connection costs no longer than this.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// A connection without a call for this long is told to go away. Sessions are calls, so they are not concerned.
    /// It takes effect between one and two times this long after the last call.
    #[serde(with = "humantime_serde")]
    pub idle_max: Duration,
    /// A connection is pinged this often, which finds dead peers and keeps address translation alive: mobile carriers
    /// and cloud load balancers forget a silent connection after about five minutes.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    /// A connection that has not answered a ping for this long is closed. Radios take seconds to wake up.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    /// Bytes that a client may send on one stream ahead of being read.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection together, which bounds what a connection can make the server hold
    /// before a handler takes it.
    pub connection_window_bytes: u32,
    /// Bytes that the kernel keeps of a connection that is not read at present (it takes twice as much memory). What does not fit
    /// waits at the caller, and costs nothing here. A caller uploads no faster than this in each round trip.
    pub receive_buffer_bytes: usize,
    /// Bytes buffered for one stream whose client reads slowly, beyond the message being sent.
    pub send_buffer_bytes_max: usize,
    /// Bytes of the headers of one call, names and values and 32 for each, as HTTP/2 counts.
    pub header_bytes_max: u32,
    /// Streams that a client reset before the server looked at them. More ends the connection (CVE-2023-44487). As many as the
    /// calls that fit into what is unread, since a caller who is not heard for a while gives them up and begins others.
    pub pending_resets_max: usize,
    /// Streams that the server reset because of the client's errors. More ends the connection (CVE-2025-8671).
    pub error_resets_max: usize,
    /// How long the calls of a connection that was told to go away may take to end.
    #[serde(with = "humantime_serde")]
    pub drain_max: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            request_bytes_max: 6 * 256 * 1024 + 64 * 1024,
            connections_max: 100_000,
            concurrent_streams_max: 128,
            handshake_timeout: Duration::from_secs(10),
            idle_max: Duration::from_secs(300),
            keepalive_interval: Duration::from_secs(120),
            keepalive_timeout: Duration::from_secs(20),
            stream_window_bytes: 128 * 1024,
            connection_window_bytes: 512 * 1024,
            receive_buffer_bytes: 32 * 1024,
            send_buffer_bytes_max: 64 * 1024,
            header_bytes_max: 16 * 1024,
            pending_resets_max: 256,
            error_resets_max: 128,
            drain_max: Duration::from_secs(20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused_and_durations_are_readable() {
        let config: ServerConfig = toml::from_str("idle_max = \"2m\"").unwrap();
        assert_eq!(config.idle_max, Duration::from_secs(120));
        assert!(toml::from_str::<ServerConfig>("idle = \"2m\"").is_err());
    }
}
