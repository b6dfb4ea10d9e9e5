//! How a hop learns that the one below has more to do than it can.
//!
//! A worker puts its pressure on its answers while that is worth knowing; the caller takes the mean of what came since it
//! last looked. Not the worst: one slow worker of many is a matter of choosing another, and a gateway that obeyed it would
//! refuse what the others have room for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

const HEADER: HeaderName = HeaderName::from_static("x-spillway-pressure");
/// In thousandths. Less is left out, and counts as 0: an answer without headers costs less, and calm is no news.
const WORTH_TELLING: u32 = 800;

/// A worker's pressure, in thousandths, as of the last tick.
#[derive(Debug, Default)]
pub(super) struct Told(AtomicU32);

impl Told {
    pub(super) fn set(&self, pressure: f64) {
        self.0.store((pressure * 1_000.0) as u32, Relaxed);
    }

    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let thousandths = self.0.load(Relaxed);
        if thousandths >= WORTH_TELLING {
            headers.insert(HEADER, HeaderValue::from(thousandths));
        }
    }
}

/// What the workers of one role have told since it was last asked. Clones are handles on the same record.
#[derive(Clone, Debug, Default)]
pub struct Downstream(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    answers: AtomicU64,
    thousandths: AtomicU64,
}

impl Downstream {
    /// The mean since the last time, 0 when there was no answer. 1 is as much as the workers can do.
    pub fn take(&self) -> f64 {
        let (answers, sum) = (self.0.answers.swap(0, Relaxed), self.0.thousandths.swap(0, Relaxed));
        sum as f64 / 1_000.0 / answers.max(1) as f64
    }

    fn hear(&self, headers: &HeaderMap) {
        let told = headers.get(HEADER).and_then(|told| told.to_str().ok()?.parse::<u32>().ok());
        self.0.answers.fetch_add(1, Relaxed);
        if let Some(told) = told {
            self.0.thousandths.fetch_add(told.into(), Relaxed);
        }
    }
}

/// Reads what comes with the answers.
#[derive(Clone, Debug)]
pub(crate) struct HearPressure<S> {
    inner: S,
    downstream: Downstream,
}

impl<S> HearPressure<S> {
    pub(crate) const fn new(inner: S, downstream: Downstream) -> Self {
        Self { inner, downstream }
    }
}

impl<S, R, B> Service<Request<R>> for HearPressure<S>
where
    S: Service<Request<R>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = HearPressureFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        HearPressureFuture { inner: self.inner.call(request), downstream: self.downstream.clone() }
    }
}

pin_project! {
    pub(crate) struct HearPressureFuture<F> {
        #[pin]
        inner: F,
        downstream: Downstream,
    }
}

impl<F, B, E> Future for HearPressureFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let outcome = ready!(this.inner.poll(cx));
        if let Ok(response) = &outcome {
            this.downstream.hear(response.headers());
        }
        Poll::Ready(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_all_answers_counts_and_calm_ones_say_nothing() {
        let (downstream, told) = (Downstream::default(), Told::default());
        let answer = |pressure| {
            told.set(pressure);
            let mut headers = HeaderMap::new();
            told.write(&mut headers);
            downstream.hear(&headers);
            headers.len()
        };
        assert_eq!([answer(3.0), answer(0.5)], [1, 0]);
        assert!((downstream.take() - 1.5).abs() < 1e-9);
        assert!(downstream.take().abs() < 1e-9, "each answer counts once");
        assert_eq!(answer(f64::INFINITY), 1);
        assert!(downstream.take() > 1_000_000.0);
    }
}
