//! What stands in front of every handler, in both homes.

use tonic::body::Body;
use tonic::service::Routes;

use super::span::Spanned;
use crate::ServerMetrics;
use crate::deadline::{EnforceDeadline, TimedBody};
use crate::malformed::NameMalformed;
use crate::metrics::{Metered, MeteredBody};
use crate::panic_guard::{GuardedBody, PanicGuard};

pub(crate) type Stack = Metered<Spanned<PanicGuard<EnforceDeadline<NameMalformed<Routes>>>>>;
pub(crate) type StackBody = MeteredBody<GuardedBody<TimedBody<Body>>>;

/// From the inside out: each layer sees what those above it in this list answer.
pub(crate) fn stack(routes: Routes, metrics: &ServerMetrics) -> Stack {
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
    // Outermost: sees the status that the caller sees, and the calls that the caller dropped.
    Metered::new(spanned, metrics.calls())
}
