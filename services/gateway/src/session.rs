//! `Messages.Session`: one device's stream.
//!
//! A session is one task. It waits for a hello, proves the device, listens to the device's subject on the bus,
//! announces itself there (which ends older sessions of the device), and only then reads the mailbox: what is written
//! before the read is read, what is written after it is hinted ([`live`]). Hints may be lost; sweeps find what they
//! announced ([`sweep_schedule`]).
//!
//! A gateway holds hundreds of thousands of these, nearly all idle, so what an idle one keeps is small: the task, one
//! timer, empty collections. Calls to the mailbox and rare steps are boxed when they happen.

mod ack_batch;
mod backlog;
mod hello;
mod in_flight;
mod live;
mod outbound;
mod sweep_schedule;

use std::sync::Arc;

use prometheus::IntGauge;
use spillway_admission::Tier;
use spillway_api::v1::{self, closing};
use spillway_api::{FieldError, Reason, Refusal};
use spillway_bus::BusError;
use spillway_chassis::traces;
use spillway_rpc::{Class, ServiceError, into_status};
use tonic::Streaming;
use tracing::{Instrument as _, Span};

use crate::Parts;
use crate::arrival::Arrival;
use crate::auth::AuthError;
use crate::metrics::label;
use crate::quota::QuotaError;
use live::Live;
use outbound::{Ending, Outbound, outbound};

pub use outbound::Outgoing;

/// Begins a session that runs on a task of its own.
pub(crate) fn open(
    parts: &Arc<Parts>,
    arrival: Arrival,
    inbound: Streaming<v1::SessionRequest>,
) -> Result<Outgoing, Refusal> {
    if parts.drain.is_draining() {
        return Err(Refusal::new(Reason::Draining, "this server is going away"));
    }
    let (outbound, outgoing) = outbound(parts.config.session.outbound_bytes_max);
    // Boxed, because the wrappers that a task is put into would each hold it by value.
    let trace = traces::is_traced().then(|| Box::new(Span::current()));
    let opening = Opening { class: Class::current(), trace };
    let run = run(Arc::clone(parts), arrival, opening, inbound, outbound);
    // What it does in the hours to come is no part of the call that opened it.
    parts.sessions.spawn_apart("session", Box::pin(run));
    Ok(outgoing)
}

/// What the call that opened a session was.
struct Opening {
    class: Option<Class>,
    /// Boxed, because nearly no session has one.
    trace: Option<Box<Span>>,
}

impl Opening {
    /// `work` is part of that call.
    async fn covers<F: Future>(self, work: F) -> F::Output {
        let work = work.instrument(self.trace.map_or_else(Span::none, |trace| *trace));
        match self.class {
            Some(class) => class.scope(work).await,
            None => work.await,
        }
    }
}

async fn run(
    parts: Arc<Parts>,
    arrival: Arrival,
    opening: Opening,
    mut inbound: Streaming<v1::SessionRequest>,
    outbound: Outbound,
) {
    let metrics = Arc::clone(&parts.metrics);
    let _open = OpenSession::count(&metrics.sessions_open);
    // Boxed with all that is needed for it only, or each session would keep room for that.
    let establish = Box::pin(opening.covers(hello::establish(&parts, &arrival, &mut inbound, &outbound)));
    let stop = match establish.await {
        Ok(established) => {
            // Deliveries and acks, from here on: first of all, because they free what the service holds.
            let class = parts.classes.of_account(Tier::Ack, established.proof.caller.address.account);
            let mut live = Box::new(Live::new(parts, established, inbound, outbound));
            let stop = class.scope(live.run()).await;
            let end = stop.end();
            class.scope(Box::pin(live.finish(stop))).await;
            end
        }
        Err(stop) => {
            let end = stop.end();
            outbound.end(stop.ending());
            end
        }
    };
    metrics.session_ends.count(stop);
}

label!(
    /// Why a session ended.
    End {
        ClientLeft = "client_left",
        Replaced = "replaced",
        SlowReader = "slow_reader",
        DeviceRemoved = "device_removed",
        Draining = "draining",
        NoHello = "no_hello",
        Refused = "refused",
        BadFrame = "bad_frame",
        Failed = "failed",
    }
);

/// Why a session ends, with what its client is told.
#[derive(Debug)]
enum Stop {
    ClientLeft,
    Replaced,
    SlowReader,
    DeviceRemoved,
    Draining,
    Failed(SessionError),
}

#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("no hello came in time, or something else came first")]
    HelloExpected,
    #[error("the device did not prove who it is")]
    Auth(#[source] AuthError),
    #[error("sessions are opened too often")]
    Quota(#[source] QuotaError),
    #[error("the bus cannot be listened to")]
    Bus(#[source] BusError),
    #[error("a frame is not valid")]
    Frame(#[source] FieldError),
}

impl ServiceError for SessionError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::HelloExpected => Refusal::new(Reason::HelloExpected, self.to_string()),
            Self::Auth(error) => error.refusal(),
            Self::Quota(error) => error.refusal(),
            Self::Bus(_) => Refusal::new(Reason::Unavailable, "a part of the service did not answer"),
            Self::Frame(error) => error.clone().into(),
        }
    }
}

impl Stop {
    const fn end(&self) -> End {
        match self {
            Self::ClientLeft => End::ClientLeft,
            Self::Replaced => End::Replaced,
            Self::SlowReader => End::SlowReader,
            Self::DeviceRemoved => End::DeviceRemoved,
            Self::Draining => End::Draining,
            Self::Failed(SessionError::HelloExpected) => End::NoHello,
            Self::Failed(SessionError::Frame(_)) => End::BadFrame,
            Self::Failed(SessionError::Quota(_)) => End::Refused,
            Self::Failed(SessionError::Auth(AuthError::Inner(_) | AuthError::Answer(_))) => End::Failed,
            Self::Failed(SessionError::Auth(_)) => End::Refused,
            Self::Failed(SessionError::Bus(_)) => End::Failed,
        }
    }

    fn ending(self) -> Ending {
        match self {
            Self::ClientLeft => Ending::Clean,
            Self::Replaced => Ending::Closing(closing::Reason::Replaced),
            Self::SlowReader => Ending::Closing(closing::Reason::SlowReader),
            Self::DeviceRemoved => Ending::Closing(closing::Reason::DeviceRemoved),
            Self::Draining => Ending::Closing(closing::Reason::Draining),
            Self::Failed(error) => Ending::Status(into_status(error)),
        }
    }
}

/// Counted in the gauge while it lives.
struct OpenSession(IntGauge);

impl OpenSession {
    fn count(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle session keeps besides its connection, its stream's buffers and its interest on the bus. The budget
    /// of a session with all of these is 35 KB.
    #[test]
    fn an_idle_session_is_small() {
        fn output_size<F, A, B, C, D, E>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
            size_of::<F>()
        }
        let (task, live) = (output_size(run), size_of::<Live>());
        let running = live::run_size();
        assert!(task + live <= 3 * 1024, "task {task}, of which run {running}; live {live}");
    }
}
