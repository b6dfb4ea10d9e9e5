//! What comes back from the other roles when they do not serve a call.

use spillway_api::{Fault, Reason, Refusal};
use tonic::{Code, Status};

/// Another role refused a call, or did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{role} did not serve the call")]
pub(crate) struct InnerError {
    role: &'static str,
    #[source]
    status: Box<Status>,
}

impl InnerError {
    pub(crate) fn registration(status: Status) -> Self {
        Self { role: "registration", status: Box::new(status) }
    }

    pub(crate) fn directory(status: Status) -> Self {
        Self { role: "directory", status: Box::new(status) }
    }

    pub(crate) fn mailbox(status: Status) -> Self {
        Self { role: "mailbox", status: Box::new(status) }
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        Refusal::from_status(&self.status).map(|refusal| refusal.reason)
    }

    /// Whether another try now may fare better. A role that names a time to come back, as one whose disk is full
    /// does, means the device and not us; but a process that is busy leaves the others.
    pub(crate) fn is_transient(&self) -> bool {
        let names_time = Refusal::from_status(&self.status)
            .is_some_and(|refusal| refusal.retry_after.is_some() && refusal.reason != Reason::Busy);
        let may_pass = matches!(
            self.status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
        );
        may_pass && !names_time
    }

    /// What the device may know. A role's answer to the caller passes as it is, and so does one that tells the device
    /// when to come back; of our other troubles only the kind is told, because their text is for the log.
    pub(crate) fn refusal(&self) -> Refusal {
        match Refusal::from_status(&self.status) {
            Some(refusal) if refusal.reason == Reason::IdOutOfWindow => unavailable(),
            Some(refusal) if refusal.fault() != Fault::We || refusal.retry_after.is_some() => refusal,
            Some(refusal) => Refusal::new(refusal.reason, text(refusal.reason)),
            None => match self.status.code() {
                Code::DeadlineExceeded | Code::Cancelled => {
                    Refusal::new(Reason::Deadline, text(Reason::Deadline))
                }
                Code::Unavailable | Code::ResourceExhausted => unavailable(),
                _ => Refusal::new(Reason::Internal, text(Reason::Internal)),
            },
        }
    }
}

fn unavailable() -> Refusal {
    Refusal::new(Reason::Unavailable, text(Reason::Unavailable))
}

const fn text(reason: Reason) -> &'static str {
    match reason {
        Reason::Deadline => "there was no answer in time",
        Reason::Overload | Reason::Busy => "the service has more to do than it can",
        Reason::Draining => "this server is going away",
        Reason::Unavailable | Reason::NoServer => "a part of the service did not answer",
        _ => "something failed at the server",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_busy_process_leaves_the_others() {
        let busy = Refusal::new(Reason::Busy, "1,024 calls").retry_after(Some(Duration::from_millis(100)));
        assert!(InnerError::mailbox(busy.into_status()).is_transient());
    }

    #[test]
    fn answers_to_the_caller_pass_and_our_troubles_lose_their_text() {
        let quota = Refusal::new(Reason::Quota, "slower").retry_after(Some(Duration::from_secs(3)));
        let full = Refusal::new(Reason::Unavailable, "the disk is full");
        let full = full.retry_after(Some(Duration::from_secs(10)));
        for refusal in [quota, full] {
            let error = InnerError::registration(refusal.clone().into_status());
            assert_eq!(error.refusal(), refusal);
            assert!(!error.is_transient(), "it says when to come back");
        }
        for (status, reason) in [
            (Refusal::new(Reason::Internal, "disk /dev/x").into_status(), Reason::Internal),
            (Refusal::new(Reason::IdOutOfWindow, "late").into_status(), Reason::Unavailable),
            (Status::unknown("stack trace"), Reason::Internal),
            (Status::unavailable("10.0.0.1 refused"), Reason::Unavailable),
            (Status::cancelled("timeout"), Reason::Deadline),
        ] {
            let refusal = InnerError::mailbox(status.clone()).refusal();
            assert_eq!(refusal.reason, reason, "{status:?}");
            assert_ne!(refusal.message, status.message());
        }
    }
}
