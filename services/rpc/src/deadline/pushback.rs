//! Tells libraries not to wait for what they cannot live to see.
//!
//! A library that repeats refused calls by itself (gRFC A6) waits as long as `grpc-retry-pushback-ms` says, within the
//! call. When the call's deadline comes first, its user reads "deadline exceeded" instead of why he was refused and when to
//! come back. A negative value forbids the retry, and the refusal reaches the user at once, with its `RetryInfo` as it was.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Deadline;

pub(crate) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const DO_NOT_RETRY: HeaderValue = HeaderValue::from_static("-1");

/// Changes a refusal that asks for a pause which does not end before the deadline.
pub(super) fn fit(headers: &mut HeaderMap, deadline: Option<Deadline>) {
    let (Some(deadline), Some(told)) = (deadline, headers.get(PUSHBACK)) else { return };
    let millis = told.to_str().ok().and_then(|told| told.parse::<u64>().ok());
    if millis.is_some_and(|millis| Duration::from_millis(millis) >= deadline.remaining()) {
        headers.insert(PUSHBACK, DO_NOT_RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_pause_that_does_not_fit_is_forbidden() {
        let fitted = |told: &str, deadline: Option<u64>| {
            let mut headers = HeaderMap::from_iter([(PUSHBACK, HeaderValue::try_from(told).unwrap())]);
            fit(&mut headers, deadline.map(Duration::from_millis).and_then(Deadline::after));
            headers[PUSHBACK].to_str().unwrap().to_owned()
        };
        assert_eq!(fitted("1500", None), "1500");
        assert_eq!(fitted("1500", Some(1_501)), "1500");
        assert_eq!(fitted("1500", Some(1_500)), "-1");
        assert_eq!(fitted("-1", Some(1_500)), "-1");
        let mut served = HeaderMap::new();
        fit(&mut served, Deadline::after(Duration::ZERO));
        assert!(served.is_empty());
    }
}
