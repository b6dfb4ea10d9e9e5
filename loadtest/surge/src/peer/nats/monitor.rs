//! When a NATS server syncs, which only its monitoring port tells.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use spillway_fleet::http_get;

use crate::peer::PeerError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syncs {
    /// Before each acknowledgement.
    Always,
    Every(Duration),
}

/// What is used of `/varz`.
#[derive(Debug, Deserialize)]
struct Varz {
    jetstream: JetStream,
}

#[derive(Debug, Deserialize)]
struct JetStream {
    config: Option<Config>,
}

#[derive(Debug, Deserialize)]
struct Config {
    /// Nanoseconds.
    #[serde(default)]
    sync_interval: u64,
    #[serde(default)]
    sync_always: bool,
}

/// Where nobody set it (`defaultSyncInterval` of nats-server).
const DEFAULT: Duration = Duration::from_secs(120);

/// Reads it from a monitoring address, with or without `http://`.
pub(super) async fn syncs(monitor: &str) -> Result<Syncs, PeerError> {
    let address = monitor.strip_prefix("http://").unwrap_or(monitor).trim_end_matches('/');
    let address: SocketAddr = address.parse().map_err(|_| {
        let wrong = format!("`{monitor}` of --admin is not an address such as 127.0.0.1:8222");
        PeerError::failed("read what the server syncs", "monitor", wrong)
    })?;
    let failed = |error| PeerError::failed("read what the server syncs", "monitor", error);
    let (_, body) = http_get(address, "/varz").await.map_err(|error| failed(error.into()))?;
    read(&body).map_err(failed)
}

fn read(varz: &str) -> Result<Syncs, crate::peer::Cause> {
    let varz: Varz = serde_json::from_str(varz)?;
    let config = varz.jetstream.config.ok_or("the server runs without JetStream")?;
    Ok(match config {
        Config { sync_always: true, .. } => Syncs::Always,
        Config { sync_interval: 0, .. } => Syncs::Every(DEFAULT),
        Config { sync_interval, .. } => Syncs::Every(Duration::from_nanos(sync_interval)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_tells_is_read() {
        let read = |config: &str| read(&format!(r#"{{"version":"2.14.5","jetstream":{config}}}"#));
        assert_eq!(
            read(r#"{"config":{"sync_interval":120000000000,"max_memory":1}}"#).unwrap(),
            Syncs::Every(DEFAULT)
        );
        assert_eq!(
            read(r#"{"config":{"sync_interval":120000000000,"sync_always":true}}"#).unwrap(),
            Syncs::Always
        );
        assert_eq!(read(r#"{"config":{}}"#).unwrap(), Syncs::Every(DEFAULT));
        assert!(read("{}").unwrap_err().to_string().contains("without JetStream"));
        assert!(read("3").is_err());
    }
}
