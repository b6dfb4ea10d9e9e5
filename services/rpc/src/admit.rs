//! Overload control where calls arrive: who runs at once, who waits for a seat, and who is sent away before anything is
//! done for them.
//!
//! A [`Hop`] is one place where calls arrive from elsewhere: a gateway's public port, or a role's service on the bus. Its
//! [`Admission`] decides; the layer here tells it what is known from the headers, and says what it decided on the wire.
//!
//! - What a call is worth ([`Class`]) is decided once, at the public port, by the [`Classify`] of whoever opens it. It
//!   travels with every call that is made for it ([`Class::current`]), so that a worker decides about a send as the gateway
//!   did. A header from outside is never looked at.
//! - A refusal has its status in the headers and no body. It is the one place that sets `RetryInfo` and
//!   `grpc-retry-pushback-ms` for overload, from [`Refusal::pushback`](spillway_admission::Refusal::pushback). Who comes back
//!   before he was told to ([`Deaf`](spillway_admission::Deaf)) is not heard for a while, or answered late.
//! - A public port tells its callers what to hold back ([`HOLD_BACK_HEADER`](spillway_admission::HOLD_BACK_HEADER)); a worker
//!   tells the hop above how much it has to do ([`Downstream`]).

mod class;
mod first_message;
mod hold;
mod layer;
mod pressure;
mod refusal;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use spillway_admission::{Admission, Seat, Signals};
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use class::Class;
pub(crate) use class::PropagateClass;
pub(crate) use layer::{Admit, AdmittedBody};
pub use pressure::Downstream;
pub(crate) use pressure::HearPressure;

use class::FromCaller;
use hold::Holds;
use pressure::Told;

/// What a hop sees of a call before it decides.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `/package.Service/Method`.
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    /// Absent when the call did not come over a socket.
    pub peer: Option<SocketAddr>,
}

/// Decides what a call is worth, from its headers alone. Asked for each call, refused ones included, so it must be cheap.
pub trait Classify: fmt::Debug + Send + Sync + 'static {
    fn classify(&self, head: &Head<'_>) -> Class;
}

/// Whom a seat is given to when it was waited for.
#[derive(Debug)]
pub struct Waiter(oneshot::Sender<Granted>);

type Granted = Result<Seat<Waiter>, spillway_admission::Refusal>;

/// A place where calls arrive from elsewhere. Clones are handles on the same place.
#[derive(Clone)]
pub struct Hop(Arc<Inner>);

struct Inner {
    admission: Admission<Waiter>,
    classify: Box<dyn Classify>,
    /// A worker's callers are told its pressure, a gateway's what to hold back.
    told: Option<Told>,
    /// A gateway is a worker's only caller, and it listens.
    holds: Option<Holds>,
    began: Instant,
}

impl Hop {
    /// A public port.
    pub fn public(admission: Admission<Waiter>, classify: impl Classify) -> Self {
        Self::new(admission, Box::new(classify), None, Some(Holds::new()))
    }

    /// A role's services on the bus, which take a call for what its caller says.
    pub fn worker(admission: Admission<Waiter>) -> Self {
        Self::new(admission, Box::new(FromCaller), Some(Told::default()), None)
    }

    fn new(
        admission: Admission<Waiter>,
        classify: Box<dyn Classify>,
        told: Option<Told>,
        holds: Option<Holds>,
    ) -> Self {
        // The first tick only starts the clock.
        admission.tick(Duration::ZERO, &Signals::default());
        Self(Arc::new(Inner { admission, classify, told, holds, began: Instant::now() }))
    }

    pub fn admission(&self) -> &Admission<Waiter> {
        &self.0.admission
    }

    /// To be called every [`TICK`](spillway_admission::TICK).
    pub fn tick(&self, signals: &Signals) {
        self.0.admission.tick(self.now(), signals);
        if let Some(told) = &self.0.told {
            told.set(self.0.admission.view().pressure);
        }
    }

    /// On the clock of the admission.
    fn now(&self) -> Duration {
        self.0.began.elapsed()
    }
}

impl spillway_admission::Waiter for Waiter {
    fn admitted(self, seat: Seat<Self>) -> Result<(), Seat<Self>> {
        match self.0.send(Ok(seat)) {
            Err(Ok(seat)) => Err(seat),
            Ok(()) | Err(Err(_)) => Ok(()),
        }
    }

    fn refused(self, refusal: spillway_admission::Refusal) {
        // Nobody waits any more: then nobody has to know.
        self.0.send(Err(refusal)).ok();
    }
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { admission, classify, told, .. } = &*self.0;
        f.debug_struct("Hop")
            .field("admission", admission)
            .field("classify", classify)
            .field("told", told)
            .finish_non_exhaustive()
    }
}
