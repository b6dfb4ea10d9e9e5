//! What stands in front of every handler, in both homes.

use tonic::body::Body;
use tonic::service::Routes;

use super::span::Spanned;
use crate::admit::{Admit, AdmittedBody};
use crate::deadline::{EnforceDeadline, TimedBody};
use crate::malformed::NameMalformed;
use crate::metrics::{Metered, MeteredBody};
use crate::panic_guard::{GuardedBody, PanicGuard};
use crate::{Hop, ServerMetrics};

pub(crate) type Stack = Metered<Admit<Spanned<PanicGuard<EnforceDeadline<NameMalformed<Routes>>>>>>;
pub(crate) type StackBody = MeteredBody<AdmittedBody<GuardedBody<TimedBody<Body>>>>;

/// From the inside out: each layer sees what those above it in this list answer.
pub(crate) fn stack(routes: Routes, hop: Option<Hop>, metrics: &ServerMetrics) -> Stack {
    // The router's lookup is compiled once, not by each clone.
    let handlers = routes.prepare();
    // Where the answers come from that are not a handler's.
    let named = NameMalformed::new(handlers);
    // Next to the handler, so that nothing of the call but the handler's own work can run after its time is over. A
    // call that arrives too late never reaches it.
    let deadline = EnforceDeadline::new(named);
    // Around everything that runs the handler's code, streams included.
    let guarded = PanicGuard::new(deadline);
    let spanned = Spanned::new(guarded);
    // A call that is refused has no span.
    let admitted = Admit::new(spanned, hop);
    // Outermost: sees the status that the caller sees, and the calls that the caller dropped.
    Metered::new(admitted, metrics.calls())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tower::Service;

    use super::*;

    /// Each call is a task that holds all of this, refused or not.
    #[test]
    fn a_call_is_small() {
        let (call, body) = (size_of::<<Stack as Service<Request<Body>>>::Future>(), size_of::<StackBody>());
        assert!(call <= 832 && body <= 256, "call {call}, body {body}");
    }
}
