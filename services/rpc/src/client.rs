//! The caller's side of every call, whatever the transport.

use std::time::Duration;

use http::{Request, Response};
use serde::{Deserialize, Serialize};
use tonic::body::Body;
use tower::ServiceExt;

use crate::admit::{HearPressure, PropagateClass};
use crate::deadline::PropagateDeadline;
use crate::follow::Follow;
use crate::methods::Methods;
use crate::metrics::Metered;
use crate::{Channel, ClientMetrics, Downstream};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// For a unary call that has no deadline of its own and is not part of a call that has one. Longer than any
    /// healthy call between roles, short enough that a dead peer does not collect callers.
    #[serde(with = "humantime_serde")]
    pub unary_deadline_default: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { unary_deadline_default: Duration::from_secs(10) }
    }
}

/// Puts metrics, traces, deadlines and classes in front of a transport. A call that is made while another is served gets what
/// remains of that one's time, unless it asks for less, and is as important. `downstream` is told the pressure of whoever
/// answers.
pub fn client_stack(
    transport: Channel,
    config: &ClientConfig,
    metrics: &ClientMetrics,
    downstream: &Downstream,
) -> Channel {
    let heard = HearPressure::new(transport, downstream.clone());
    let classed = PropagateClass::new(heard);
    let deadline = PropagateDeadline::new(classed, Methods::all(), config.unary_deadline_default);
    let followed = Follow::new(deadline);
    // Outermost, so that a call which runs out of time is counted as such.
    let metered = Metered::new(followed, metrics.calls());
    Channel::new(ServiceExt::<Request<Body>>::map_response(metered, |response: Response<_>| {
        response.map(Body::new)
    }))
}
