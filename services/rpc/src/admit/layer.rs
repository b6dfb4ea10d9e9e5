//! The layer in front of everything that costs more than counting.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use spillway_admission::{Arrival, Call, HOLD_BACK_HEADER, Outcome, Refusal, Seat, Ticket, seats};
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::{Class, Granted, Head, Hop, Waiter, refusal};
use crate::PeerAddress;
use crate::deadline::Deadline;
use crate::methods::Methods;

/// Passes everything on where there is no hop: in process, and on ports that only this machine reaches.
#[derive(Clone, Debug)]
pub(crate) struct Admit<S> {
    inner: S,
    hop: Option<Hop>,
    methods: std::sync::Arc<Methods>,
}

impl<S> Admit<S> {
    pub(crate) fn new(inner: S, hop: Option<Hop>) -> Self {
        Self { inner, hop, methods: Methods::all() }
    }
}

impl<S, B> Service<Request<Body>> for Admit<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<AdmittedBody<B>>;
    type Error = Infallible;
    type Future = AdmitFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(hop) = self.hop.clone() else {
            return AdmitFuture { state: State::Free { inner: self.inner.call(request) }, call: None };
        };
        let now = hop.now();
        let peer = PeerAddress::of_extensions(request.extensions());
        let path = request.uri().path();
        let class = hop.0.classify.classify(&Head { path, headers: request.headers(), peer });
        let kind = self.methods.kind(path);
        let told = Deadline::of_headers(request.headers());
        let deadline = class.level.tier().deadline(now, told.map(Deadline::remaining));
        if let Some(told) = told {
            // So that the time in the queue counts.
            request.extensions_mut().insert(told);
        }
        let body_bytes = usize::try_from(request.body().size_hint().lower()).unwrap_or(usize::MAX);
        let (level, user) = (class.level, class.user);
        let call = Call { level, kind, seats: seats(body_bytes, 0), user, flow: None, deadline };
        let mut granted = None;
        let arrival = hop.0.admission.arrive(now, &call, || {
            let (sender, receiver) = oneshot::channel();
            granted = Some(receiver);
            Waiter(sender)
        });
        let state = match arrival {
            Arrival::Run(seat) => {
                State::Running { inner: class.within(|| self.inner.call(request)), seat: Some(seat) }
            }
            Arrival::Queued(ticket) => {
                // What is ready is this one; the clone is asked for the next call.
                let clone = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, clone);
                let wait = ticket.expires().saturating_sub(now);
                let waiting = Waiting {
                    service,
                    request,
                    granted: granted.expect("who waits was asked for a waiter"),
                    ticket: Some(ticket),
                    expires: Box::pin(tokio::time::sleep(wait)),
                };
                State::Waiting { waiting: Some(Box::new(waiting)) }
            }
            Arrival::Refused(refusal) => State::Refused { refusal },
        };
        AdmitFuture { state, call: Some(Counted { hop, class, deadline }) }
    }
}

/// What is remembered of a call that was decided about.
struct Counted {
    hop: Hop,
    class: Class,
    deadline: Duration,
}

/// A call in the queue.
struct Waiting<S> {
    service: S,
    request: Request<Body>,
    granted: oneshot::Receiver<Granted>,
    /// Dropped with a caller who leaves, it leaves the queue.
    ticket: Option<Ticket<Waiter>>,
    expires: Pin<Box<Sleep>>,
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F> {
        Free { #[pin] inner: F },
        Waiting { waiting: Option<Box<Waiting<S>>> },
        Running { #[pin] inner: F, seat: Option<Seat<Waiter>> },
        Refused { refusal: Refusal },
    }
}

pin_project! {
    pub(crate) struct AdmitFuture<S: Service<Request<Body>>> {
        #[pin]
        state: State<S, S::Future>,
        call: Option<Counted>,
    }
}

impl<S, B> Future for AdmitFuture<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Output = Result<Response<AdmittedBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let call = this.call.as_ref();
            match (this.state.as_mut().project(), call) {
                (StateProjection::Free { inner }, _) => {
                    let Ok(response) = ready!(inner.poll(cx));
                    return Poll::Ready(Ok(response.map(AdmittedBody::of)));
                }
                (StateProjection::Running { inner, seat }, Some(call)) => {
                    let Ok(mut response) = ready!(call.class.within(|| inner.poll(cx)));
                    if let Some(seat) = seat.take() {
                        seat.finish(call.hop.now(), outcome(&response));
                    }
                    call.tell(&mut response);
                    return Poll::Ready(Ok(response.map(AdmittedBody::of)));
                }
                (StateProjection::Refused { refusal }, Some(call)) => {
                    let left = call.deadline.saturating_sub(call.hop.now());
                    let mut response = refusal::response(refusal, left);
                    call.tell(&mut response);
                    return Poll::Ready(Ok(response.map(|()| AdmittedBody { inner: None })));
                }
                (StateProjection::Waiting { waiting }, Some(call)) => {
                    let held = waiting.as_mut().expect("a wait ends once");
                    let granted = ready!(held.poll(cx));
                    let Waiting { mut service, request, .. } = *waiting.take().expect("looked at above");
                    let next = match granted {
                        Ok(seat) => State::Running {
                            inner: call.class.within(|| service.call(request)),
                            seat: Some(seat),
                        },
                        Err(refusal) => State::Refused { refusal },
                    };
                    this.state.set(next);
                }
                (_, None) => unreachable!("only a call that passes freely is not counted"),
            }
        }
    }
}

impl<S> Waiting<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Granted> {
        if self.ticket.is_some()
            && self.expires.as_mut().poll(cx).is_ready()
            && let Some(refusal) = self.ticket.take().and_then(Ticket::give_up)
        {
            return Poll::Ready(Err(refusal));
        }
        // After a vain attempt to give up the waiter has been told, or is being told just now.
        let granted = ready!(Pin::new(&mut self.granted).poll(cx));
        Poll::Ready(granted.expect("who has the waiter tells it before letting go of it"))
    }
}

impl Counted {
    /// Adds what the other side should know of this hop.
    fn tell<B>(&self, response: &mut Response<B>) {
        if let Some(told) = &self.hop.0.told {
            told.write(response.headers_mut());
        } else if let Some(advice) = self.hop.0.admission.hold_back(self.class.level, self.class.user) {
            let advice = HeaderValue::try_from(advice.to_string()).expect("advice is ASCII");
            response.headers_mut().insert(HOLD_BACK_HEADER, advice);
        }
    }
}

/// Whether the call was served. What its caller did wrong was served well; what a hop below refused was not.
fn outcome<B>(response: &Response<B>) -> Outcome {
    let code = response.headers().get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
    match code {
        Some(Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::Unknown) => Outcome::Failed,
        _ => Outcome::Served,
    }
}

pin_project! {
    /// The handler's body; a refusal has none.
    pub(crate) struct AdmittedBody<B> {
        #[pin]
        inner: Option<B>,
    }
}

impl<B> AdmittedBody<B> {
    const fn of(inner: B) -> Self {
        Self { inner: Some(inner) }
    }
}

impl<B> http_body::Body for AdmittedBody<B>
where
    B: http_body::Body<Data = Bytes, Error = Status>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => inner.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
