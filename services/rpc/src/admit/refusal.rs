//! What a caller who is sent away reads.

use http::{HeaderValue, Response};
use spillway_admission::{InCall, Pushback, Reason};
use spillway_api::{REFUSED_HEADER, Refusal as WireRefusal};

use crate::deadline::PUSHBACK;

/// The whole answer: a status, and no body.
pub(super) fn response(why: Reason, pushback: Option<Pushback>) -> Response<()> {
    let (reason, text) = match why {
        Reason::Deadline => (spillway_api::Reason::Deadline, "it could not be answered in the time it has"),
        Reason::Brownout => {
            (spillway_api::Reason::Overload, "the operator has switched this off for a while")
        }
        Reason::Overload | Reason::QueueFull | Reason::PushedOut | Reason::QueueAge => {
            (spillway_api::Reason::Overload, "the service has more to do than it can")
        }
    };
    let wire = WireRefusal::new(reason, text).retry_after(pushback.map(|pushback| pushback.retry_info));
    let mut response = wire.into_status().into_http::<()>();
    let headers = response.headers_mut();
    // A retry info stands for both, unless the library must not wait for it.
    if pushback.is_some_and(|pushback| pushback.in_call == InCall::DoNotRetry) {
        headers.insert(PUSHBACK, HeaderValue::from(InCall::DoNotRetry.millis()));
    }
    headers.insert(REFUSED_HEADER, HeaderValue::from_static(why.name()));
    response
}
