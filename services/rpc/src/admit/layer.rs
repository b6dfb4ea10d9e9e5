//! The layer in front of everything that costs more than counting.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use spillway_admission::{Arrival, Call, HOLD_BACK_HEADER, Outcome, Reason, Refusal, Seat, Ticket, seats};
use spillway_api::REFUSED_HEADER;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::first_message::FirstMessage;
use super::hold::Hold;
use super::{Class, Granted, Head, Hop, Waiter, refusal};
use crate::deadline::Deadline;
use crate::methods::Methods;
use crate::server::{Caller, Quiet, Unheard};

/// A gate that is open further than this refuses a few, for a moment.
const SHUT: f64 = 0.9;

/// Passes everything on where there is no hop: in process, and on ports that only this machine reaches.
#[derive(Clone, Debug)]
pub(crate) struct Admit<S> {
    inner: S,
    hop: Option<Hop>,
    methods: Arc<Methods>,
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
            return AdmitFuture { state: State::Free { inner: self.inner.call(request) } };
        };
        let now = hop.now();
        let caller = request.extensions().get::<Caller>();
        let (peer, quiet) = (caller.map(|caller| caller.peer), caller.map(|caller| caller.quiet.clone()));
        let path = request.uri().path();
        let class = hop.0.classify.classify(&Head { path, headers: request.headers(), peer });
        let kind = self.methods.kind(path);
        let told = Deadline::of_headers(request.headers());
        let unread_for = quiet.as_ref().map_or(Duration::ZERO, Quiet::unread_for);
        let remaining = told.map(|told| told.remaining().saturating_sub(unread_for));
        let deadline = class.level.tier().deadline(now, remaining);
        if let Some(told) = told {
            // So that the time in the queue counts.
            request.extensions_mut().insert(told);
        }
        let body_bytes = usize::try_from(request.body().size_hint().lower()).unwrap_or(usize::MAX);
        let (level, user) = (class.level, class.user);
        let asked = Call { level, kind, seats: seats(body_bytes, 0), user, flow: None, deadline };
        if let Some(quiet) = &quiet {
            quiet.called(user, asked.seats);
        }
        let mut granted = None;
        let arrival = hop.0.admission.arrive(now, &asked, || {
            let (sender, receiver) = oneshot::channel();
            granted = Some(receiver);
            Waiter(sender)
        });
        let patience = told.map_or(Duration::MAX, |told| told.remaining());
        let call = Counted { hop, class, deadline, patience, quiet };
        let state = match arrival {
            Arrival::Run(seat) => {
                let request = call.heard(request);
                State::Running { inner: class.within(|| self.inner.call(request)), seat: Some(seat), call }
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
                    call,
                };
                State::Waiting { waiting: Some(Box::new(waiting)) }
            }
            Arrival::Refused(refusal) => call.refuse(&refusal),
        };
        AdmitFuture { state }
    }
}

/// What is remembered of a call that was decided about.
struct Counted {
    hop: Hop,
    class: Class,
    deadline: Duration,
    /// How long its caller waits for an answer in all.
    patience: Duration,
    /// The connection's that it came over.
    quiet: Option<Quiet>,
}

/// A call in the queue.
struct Waiting<S> {
    service: S,
    request: Request<Body>,
    granted: oneshot::Receiver<Granted>,
    /// Dropped with a caller who leaves, it leaves the queue.
    ticket: Option<Ticket<Waiter>>,
    expires: Pin<Box<Sleep>>,
    call: Counted,
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F> {
        Free { #[pin] inner: F },
        Waiting { waiting: Option<Box<Waiting<S>>> },
        Running { #[pin] inner: F, seat: Option<Seat<Waiter>>, call: Counted },
        Refused { response: Option<Response<()>>, hold: Option<Hold>, call: Counted },
    }
}

pin_project! {
    pub(crate) struct AdmitFuture<S: Service<Request<Body>>> {
        #[pin]
        state: State<S, S::Future>,
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
            match this.state.as_mut().project() {
                StateProjection::Free { inner } => {
                    let Ok(response) = ready!(inner.poll(cx));
                    return Poll::Ready(Ok(response.map(AdmittedBody::of)));
                }
                StateProjection::Running { inner, seat, call } => {
                    let Ok(mut response) = ready!(call.class.within(|| inner.poll(cx)));
                    if let Some(seat) = seat.take() {
                        seat.finish(call.hop.now(), outcome(response.headers()));
                    }
                    call.tell(&mut response);
                    return Poll::Ready(Ok(response.map(AdmittedBody::of)));
                }
                StateProjection::Refused { response, hold, call } => {
                    if let Some(hold) = hold {
                        ready!(Pin::new(hold).poll(cx));
                    }
                    let mut response = response.take().expect("an answer is given once");
                    call.tell(&mut response);
                    return Poll::Ready(Ok(response.map(|()| AdmittedBody { inner: None })));
                }
                StateProjection::Waiting { waiting } => {
                    let held = waiting.as_mut().expect("a wait ends once");
                    let granted = ready!(held.poll(cx));
                    let Waiting { mut service, request, call, .. } =
                        *waiting.take().expect("looked at above");
                    let next = match granted {
                        Ok(seat) => {
                            let request = call.heard(request);
                            let inner = call.class.within(|| service.call(request));
                            State::Running { inner, seat: Some(seat), call }
                        }
                        Err(refusal) => call.refuse(&refusal),
                    };
                    this.state.set(next);
                }
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
    /// The request of a call that has a seat. Not sooner: what is said beside a call that waits is not worth reading.
    fn heard(&self, request: Request<Body>) -> Request<Body> {
        match &self.quiet {
            Some(quiet) => request.map(|body| FirstMessage::of(body, quiet)),
            None => request,
        }
    }

    fn refuse<S, F>(self, refusal: &Refusal) -> State<S, F> {
        let now = self.hop.now();
        let left = self.deadline.saturating_sub(now);
        let mut pushback = refusal.pushback(left, &mut rand::rng());
        let mut hold = None;
        if let Some(quiet) = self.quiet.as_ref().filter(|quiet| self.is_stale(quiet, refusal.reason)) {
            // What comes after it was said into the same silence, and would have to be read and refused as well.
            quiet.begin(Duration::MAX, self.patience, self.unheard());
        } else if let Some((holds, told)) = self.hop.0.holds.as_ref().zip(pushback)
            && let Some(early) = holds.early(self.class, now, self.hop.0.admission.pauses(told.retry_info))
        {
            let quiet = self.quiet.as_ref().filter(|_| self.of_user(refusal.reason));
            let unread = quiet.is_some_and(|quiet| quiet.begin(early, self.patience, self.unheard()));
            if !unread {
                hold = holds.hold(early, left);
            }
            if let Some(hold) = &hold {
                // What fits then, not now.
                pushback = refusal.pushback(left.saturating_sub(hold.lasts()), &mut rand::rng());
            }
        }
        State::Refused { response: Some(refusal::response(refusal.reason, pushback)), hold, call: self }
    }

    /// Whether what refused this call would refuse all that its user asks for now. The ladder would. So would the gate, unless it is all
    /// but open: what it refuses then can be afforded, and may be let in the next moment. A queue that is full is everybody's.
    fn of_user(&self, why: Reason) -> bool {
        let tier = self.class.level.tier();
        match why {
            Reason::Overload => self.hop.0.admission.threshold(tier).openness(tier) < SHUT,
            Reason::Brownout => true,
            Reason::QueueFull | Reason::PushedOut | Reason::QueueAge | Reason::Deadline => false,
        }
    }

    fn unheard(&self) -> impl Unheard + use<> {
        self.hop.0.admission.unheard(self.class.level, self.class.user)
    }

    /// Whether this was refused because it lay unread for too long, and would be refused if it were new.
    fn is_stale(&self, quiet: &Quiet, why: Reason) -> bool {
        let Class { level, user } = self.class;
        why == Reason::Deadline
            && quiet.is_behind()
            && !self.hop.0.admission.threshold(level.tier()).admits(level, user)
    }

    /// Adds what the other side should know of this hop.
    fn tell<B>(&self, response: &mut Response<B>) {
        if let Some(told) = &self.hop.0.told {
            told.write(response.headers_mut());
            return;
        }
        let (admission, Class { level, user }) = (&self.hop.0.admission, self.class);
        let advice = if response.headers().contains_key(REFUSED_HEADER) {
            // Here or by a hop below.
            Some(admission.hold_back_refused(level, user))
        } else {
            admission.hold_back(level, user)
        };
        if let Some(advice) = advice {
            let advice = HeaderValue::try_from(advice.to_string()).expect("advice is ASCII");
            response.headers_mut().insert(HOLD_BACK_HEADER, advice);
        }
    }
}

impl Unheard for spillway_admission::Unheard<Waiter> {
    fn offers(&mut self, seats_per_second: f64) {
        self.offers(seats_per_second);
    }

    fn is_welcome(&self) -> bool {
        self.is_welcome()
    }
}

/// Whether the call was served. What its caller did wrong was served well, his quota included; what a hop below refused
/// was not, and must not count as what this hop can do.
fn outcome(headers: &HeaderMap) -> Outcome {
    let code = headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
    match code {
        Some(Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::Unknown) => Outcome::Failed,
        Some(Code::ResourceExhausted) if headers.contains_key(REFUSED_HEADER) => Outcome::Failed,
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

#[cfg(test)]
mod tests {
    use spillway_api::{Reason, Refusal};

    use super::*;

    #[test]
    fn what_a_hop_below_refused_is_no_service_and_a_quota_is() {
        let outcome =
            |reason| outcome(Refusal::new(reason, "text").into_status().into_http::<()>().headers());
        for reason in
            [Reason::Overload, Reason::Unavailable, Reason::Busy, Reason::Deadline, Reason::Internal]
        {
            assert_eq!(outcome(reason), Outcome::Failed, "{reason:?}");
        }
        for reason in [Reason::Quota, Reason::MailboxFull, Reason::InvalidArgument, Reason::Unauthenticated] {
            assert_eq!(outcome(reason), Outcome::Served, "{reason:?}");
        }
    }
}
