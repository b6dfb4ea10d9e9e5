//! What a call is worth, and how it travels.

use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use spillway_admission::{Level, Tier, User};
use tonic::body::Body;
use tower::Service;

use super::{Classify, Head};

/// Between roles only: a level, a dot and the user's hash in hexadecimal. The public port does not read it.
const HEADER: HeaderName = HeaderName::from_static("x-spillway-level");

tokio::task_local! {
    static CURRENT: Class;
}

/// How important a call is, and for whom it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    pub level: Level,
    pub user: User,
}

impl Class {
    /// What nobody has classified: housekeeping of roles. Not the last of all, since it must go on under load.
    const HOUSEKEEPING: Self = Self { level: Level::new(Tier::Lookup, 0), user: User(0) };

    /// That of the call which this future is part of.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|class| *class).ok()
    }

    /// The same user's class for work of another tier.
    #[must_use]
    pub const fn with_tier(self, tier: Tier) -> Self {
        Self { level: self.level.with_tier(tier), ..self }
    }

    /// Makes the calls of `work` in this class. For work that is spawned, which would leave it behind.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Runs `work` as part of a call of this class.
    pub(super) fn within<R>(self, work: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, work)
    }

    fn write(self, headers: &mut HeaderMap) {
        let value = HeaderValue::try_from(format!("{}.{:x}", self.level, self.user.0));
        headers.insert(HEADER, value.expect("digits and a dot are a header value"));
    }

    fn read(headers: &HeaderMap) -> Option<Self> {
        let (level, user) = headers.get(HEADER)?.to_str().ok()?.split_once('.')?;
        Some(Self { level: level.parse().ok()?, user: User(u64::from_str_radix(user, 16).ok()?) })
    }
}

/// For calls of other roles, which have been classified where they came in.
#[derive(Debug)]
pub(super) struct FromCaller;

impl Classify for FromCaller {
    fn classify(&self, head: &Head<'_>) -> Class {
        Class::read(head.headers).unwrap_or(Class::HOUSEKEEPING)
    }
}

/// Gives a call that is made for another that one's class.
#[derive(Clone, Debug)]
pub(crate) struct PropagateClass<S> {
    inner: S,
}

impl<S> PropagateClass<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request<Body>> for PropagateClass<S>
where
    S: Service<Request<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(class) = Class::current() {
            class.write(request.headers_mut());
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_class_survives_the_wire(level in 0u16..1024, user: u64) {
            let class = Class { level: Level::try_from(level).unwrap(), user: User(user) };
            let mut headers = HeaderMap::new();
            class.write(&mut headers);
            prop_assert_eq!(Class::read(&headers), Some(class));
        }
    }

    #[test]
    fn what_is_no_class_counts_as_housekeeping() {
        for text in ["", "3", "1024.0", "3.xyz", ".", "3.-1"] {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_static(text))]);
            let head = Head { path: "/spillway.internal.v1.Mailbox/Append", headers: &headers, peer: None };
            assert_eq!(FromCaller.classify(&head), Class::HOUSEKEEPING, "{text:?}");
        }
    }
}
