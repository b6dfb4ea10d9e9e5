//! What a request says about its caller before its body is looked at.

use spillway_admission::Network;
use spillway_rpc::{Deadline, peer_address};
use tonic::Request;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Absent when the call did not come over a socket.
    pub(crate) network: Option<Network>,
    pub(crate) deadline: Option<Deadline>,
}

impl Arrival {
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        let network = peer_address(request).map(|address| Network::from(address.ip()));
        Self { network, deadline: Deadline::of(request) }
    }
}
