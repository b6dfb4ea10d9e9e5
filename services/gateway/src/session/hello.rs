//! From a new stream to a session of a known device.

use std::sync::atomic::Ordering;

use prost::Message as _;
use rand::Rng as _;
use spillway_admission::{Key, Limit};
use spillway_api::FieldError;
use spillway_api::internal::v1::{MailboxHint, SessionOpened, mailbox_hint::Hint};
use spillway_api::v1::{self, hello, session_request, session_response::Frame};
use spillway_bus::{Subject, Subscription};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::Parts;
use crate::arrival::Arrival;
use crate::auth::{AuthError, Identity, Proof};
use crate::metrics::ProofOutcome;
use crate::quota::QuotaError;
use crate::session::outbound::Outbound;
use crate::session::{SessionError, Stop};
use crate::wire::wire_duration;

pub(super) struct Established {
    pub(super) proof: Proof,
    pub(super) hints: Box<dyn Subscription>,
    /// Names this session among those of its device.
    pub(super) opened: SessionOpened,
}

pub(super) async fn establish(
    parts: &Parts,
    arrival: &Arrival,
    inbound: &mut Streaming<v1::SessionRequest>,
    outbound: &Outbound,
) -> Result<Established, Stop> {
    let identity = tokio::select! {
        identity = hello(parts, inbound) => identity?,
        () = parts.sessions.cancelled() => return Err(Stop::Draining),
    };
    let proof = prove(parts, arrival, identity).await.map_err(Stop::Failed)?;
    let subject = Subject::Mailbox(proof.caller.mailbox);
    let bus_error = |error| Stop::Failed(SessionError::Bus(error));
    // Before the announcement, so that of two sessions that open at once each hears of the other.
    let hints = parts.bus.subscribe(subject).await.map_err(bus_error)?;
    let opened = SessionOpened { opened_at_us: opened_at_us(parts), nonce: rand::rng().random() };
    let hint = MailboxHint { hint: Some(Hint::SessionOpened(opened)), ..MailboxHint::default() };
    parts.bus.publish(subject, hint.encode_to_vec().into()).await.map_err(bus_error)?;
    let max_in_flight = u32::try_from(parts.config.session.in_flight_max).unwrap_or(u32::MAX);
    outbound.push(Frame::Welcome(v1::Welcome { ticket: Some(fresh_ticket(parts, &proof)), max_in_flight }));
    Ok(Established { proof, hints, opened })
}

/// Later than any session that this gateway opened before, also when the clock was set back: otherwise a device that
/// comes back would not replace the session it left.
fn opened_at_us(parts: &Parts) -> u64 {
    let now = parts.clock.now().as_micros();
    let after = |last: u64| now.max(last.saturating_add(1));
    let last =
        parts.last_opened_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
    last.map_or(now, after)
}

/// A resume ticket and a token, for the next connection and for unary calls.
pub(super) fn fresh_ticket(parts: &Parts, proof: &Proof) -> v1::Ticket {
    let now = parts.clock.now();
    let (ticket, token) = (parts.auth.tickets.issue(proof, now), parts.auth.tokens.issue(proof, now));
    v1::Ticket {
        resume_ticket: ticket.text,
        resume_ticket_expires_in: Some(wire_duration(ticket.expires_in)),
        token: token.text,
        token_expires_in: Some(wire_duration(token.expires_in)),
    }
}

/// Whether a stream failed because of what its client sent, and not because the client went away.
pub(super) fn broken_frame(status: &Status) -> Stop {
    match status.code() {
        // Bytes that are no message, and a message that is too big.
        Code::Internal | Code::OutOfRange => {
            Stop::Failed(SessionError::Frame(FieldError::new("frame", "cannot be decoded, or is too big")))
        }
        _ => Stop::ClientLeft,
    }
}

async fn hello(parts: &Parts, inbound: &mut Streaming<v1::SessionRequest>) -> Result<Identity, Stop> {
    let missing = Stop::Failed(SessionError::HelloExpected);
    let first = match timeout(parts.config.session.hello_timeout, inbound.message()).await {
        Err(_elapsed) => return Err(missing),
        Ok(Err(status)) => return Err(broken_frame(&status)),
        Ok(Ok(None)) => return Err(Stop::ClientLeft),
        Ok(Ok(Some(first))) => first,
    };
    let Some(session_request::Frame::Hello(hello)) = first.frame else { return Err(missing) };
    match hello.identity {
        Some(hello::Identity::Credential(credential)) => Ok(Identity::Credential(credential)),
        Some(hello::Identity::Token(token)) => Ok(Identity::Token(token)),
        Some(hello::Identity::ResumeTicket(ticket)) => Ok(Identity::Ticket(ticket)),
        None => Err(Stop::Failed(SessionError::Auth(AuthError::Missing))),
    }
}

async fn prove(parts: &Parts, arrival: &Arrival, identity: Identity) -> Result<Proof, SessionError> {
    let kind = identity.kind();
    let outcome = parts.auth.prove(identity, arrival).await;
    parts.metrics.hellos(kind).count(ProofOutcome::of(&outcome));
    let proof = outcome.map_err(SessionError::Auth)?;
    let (limit, key) = (Limit::SessionOpen, Key::User(proof.caller.address.account));
    QuotaError::check(limit, parts.quotas.check(limit, &key, 1)).map_err(SessionError::Quota)?;
    Ok(proof)
}
