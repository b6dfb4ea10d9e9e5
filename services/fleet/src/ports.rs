//! Ports for a fleet, chosen before its processes start so that each comes back where it was.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// Below the range from which Linux takes ports for outgoing connections (32768), any of which could be in the way of
/// a process that comes back.
const FREE_RANGE: std::ops::Range<u16> = 18_000..32_000;

#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("no port is free from {first} on")]
    Exhausted { first: u16 },
}

/// Gives out each port once.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    first: u16,
    next: u16,
}

impl Ports {
    /// Free ports from `first` on, in order.
    pub(crate) fn from(first: u16) -> Self {
        Self { first, next: first }
    }

    /// Free ports from a random one on, so that test runs side by side rarely try the same.
    pub(crate) fn anywhere() -> Self {
        // The kernel chooses ports for outgoing connections at random.
        let here = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let random = here.map_or(0, |address| address.port());
        // A fleet needs some fifty; the last thousand are left to the one that starts highest.
        Self::from(FREE_RANGE.start + random % (FREE_RANGE.end - FREE_RANGE.start - 1_000))
    }

    /// The next port that is free on 127.0.0.1.
    pub(crate) fn take(&mut self) -> Result<SocketAddr, PortError> {
        let here = Ipv4Addr::LOCALHOST;
        Ok(SocketAddr::from((here, self.take_on(&[here])?)))
    }

    /// The next port that is free on each of these addresses.
    pub(crate) fn take_on(&mut self, addresses: &[Ipv4Addr]) -> Result<u16, PortError> {
        while let Some(after) = self.next.checked_add(1) {
            let port = std::mem::replace(&mut self.next, after);
            if addresses.iter().all(|address| is_free(SocketAddr::new(IpAddr::V4(*address), port))) {
                return Ok(port);
            }
        }
        Err(PortError::Exhausted { first: self.first })
    }
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_left_out_and_none_is_given_twice() {
        let mut ports = Ports::anywhere();
        let taken = ports.clone().take().unwrap();
        let _listener = TcpListener::bind(taken).unwrap();
        let first = ports.take().unwrap();
        assert!(first.port() > taken.port());
        assert_ne!(ports.take().unwrap(), first);
    }
}
