//! What a run is aimed at.

use std::net::{IpAddr, ToSocketAddrs};

use http::Uri;

use crate::peer::{Address, redacted};

/// A service under load.
#[derive(Clone, Debug)]
pub struct Target {
    /// `http://` address of the public API; those of several gateways have commas between them.
    pub public: String,
    /// `http://` addresses where the sandbox providers' codes can be read.
    pub codes: Vec<String>,
    /// `host:port`, or `http://` addresses, of its admin ports, when they are known.
    pub admin: Vec<String>,
    /// The server's processes, when they run on this machine and their cost can be read.
    pub pids: Vec<u32>,
}

impl Target {
    /// Whatever it has for those who watch a Spillway is not read.
    pub fn of_peer(address: &Address) -> Self {
        Self { public: address.to_string(), codes: Vec::new(), admin: Vec::new(), pids: Vec::new() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("`{0}` is not an address such as http://127.0.0.1:7700")]
    Address(String),
    #[error(
        "{0} is not on this machine. A load test of somebody else's service is an attack; if this one is yours, say \
         --i-own-this-target"
    )]
    NotLoopback(String),
}

/// Refuses addresses that could be somebody else's. A name counts as this machine only if all its addresses do.
///
/// # Errors
///
/// When the address cannot be parsed, or leads elsewhere and `owned` is false.
pub fn check_loopback(address: &str, owned: bool) -> Result<(), TargetError> {
    let wrong = || TargetError::Address(redacted(address));
    let uri: Uri = address.parse().map_err(|_| wrong())?;
    let host = uri.host().filter(|_| uri.scheme().is_some()).ok_or_else(wrong)?;
    if owned || is_loopback(host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80)) {
        return Ok(());
    }
    Err(TargetError::NotLoopback(redacted(address)))
}

fn is_loopback(host: &str, port: u16) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.is_loopback();
    }
    let Ok(addresses) = (host, port).to_socket_addrs() else { return false };
    let mut addresses = addresses.peekable();
    addresses.peek().is_some() && addresses.all(|address| address.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_a_target_unless_owned() {
        for here in ["http://127.0.0.1:1", "http://127.9.9.9:1", "http://[::1]:1", "http://localhost:7700"] {
            check_loopback(here, false).unwrap_or_else(|error| panic!("{here}: {error}"));
        }
        for here in ["nats://127.0.0.1", "pg://me:secret@localhost/mail", "xmpp://[::1]:5222/example.org"] {
            check_loopback(here, false).unwrap_or_else(|error| panic!("{here}: {error}"));
        }
        let error = check_loopback("pg://me:secret@192.0.2.1/mail", false).unwrap_err().to_string();
        assert!(error.contains("pg://me:***@192.0.2.1/mail"), "{error}");
        for elsewhere in
            ["http://192.0.2.1:7700", "http://10.0.0.1:1", "http://[2001:db8::1]:1", "nats://192.0.2.1"]
        {
            assert!(
                matches!(check_loopback(elsewhere, false), Err(TargetError::NotLoopback(_))),
                "{elsewhere}"
            );
            check_loopback(elsewhere, true).unwrap_or_else(|error| panic!("{elsewhere}: {error}"));
        }
        for wrong in ["", "127.0.0.1:7700", "not an address"] {
            assert!(matches!(check_loopback(wrong, true), Err(TargetError::Address(_))), "{wrong:?}");
        }
    }
}
