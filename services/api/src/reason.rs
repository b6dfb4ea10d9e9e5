//! Why a call was refused: a closed set, one gRPC code each.

use tonic::Code;

/// Whose doing a refusal is. A client shows a different sentence for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// You asked too often.
    You,
    /// We are overloaded, draining or broken.
    We,
    /// The company that delivers codes.
    Provider,
    /// The waiting room.
    Queue,
    /// The call itself cannot be right.
    Caller,
}

impl Fault {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::You => "you",
            Self::We => "we",
            Self::Provider => "provider",
            Self::Queue => "queue",
            Self::Caller => "caller",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $fault:ident, $code:ident;)*) => {
        /// Travels as `google.rpc.ErrorInfo.reason` in the domain `spillway`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }

            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)* }
            }

            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

reasons! {
    /// A quota of this user, number or network is used up; `RetryInfo` says until when.
    Quota = "QUOTA", You, ResourceExhausted;
    /// The service has more to do than it can.
    Overload = "OVERLOAD", We, ResourceExhausted;
    /// This server is going away; another, or this one's successor, will answer.
    Draining = "DRAINING", We, Unavailable;
    /// A part of the service did not answer. Safe to retry.
    Unavailable = "UNAVAILABLE", We, Unavailable;
    /// This server has all the calls it takes at a time; another one may have room. Nothing was done.
    Busy = "BUSY", We, Unavailable;
    /// No server of this kind is there. Nothing was done.
    NoServer = "NO_SERVER", We, Unavailable;
    /// A fault that was logged at the server. Not safe to retry blindly.
    Internal = "INTERNAL", We, Internal;
    /// The caller's deadline passed before there was an answer.
    Deadline = "DEADLINE", We, DeadlineExceeded;
    /// No verification provider can deliver to this number now.
    Provider = "PROVIDER", Provider, Unavailable;

    /// It is not this caller's turn to sign up; the waiting room says when it will be.
    WaitingRoom = "WAITING_ROOM", Queue, ResourceExhausted;

    /// A field is missing or wrong; the text names it.
    InvalidArgument = "INVALID_ARGUMENT", Caller, InvalidArgument;
    /// No credential, or one that is not (or no longer) good.
    Unauthenticated = "UNAUTHENTICATED", Caller, Unauthenticated;
    /// A resume ticket that was used before. Use the credential.
    TicketUsed = "TICKET_USED", Caller, Unauthenticated;
    /// No hello came in time, or the first frame was another.
    HelloExpected = "HELLO_EXPECTED", Caller, FailedPrecondition;
    /// Only the primary device may do this.
    NotPrimary = "NOT_PRIMARY", Caller, PermissionDenied;
    AccountNotFound = "ACCOUNT_NOT_FOUND", Caller, NotFound;
    DeviceNotFound = "DEVICE_NOT_FOUND", Caller, NotFound;
    /// The sender's list of devices is out of date; the details say how. Nothing was stored.
    StaleDevices = "STALE_DEVICES", Caller, FailedPrecondition;
    /// Every mailbox that the send addresses is full.
    MailboxFull = "MAILBOX_FULL", You, ResourceExhausted;
    TooManyDevices = "TOO_MANY_DEVICES", Caller, FailedPrecondition;
    LinkTokenInvalid = "LINK_TOKEN_INVALID", Caller, PermissionDenied;
    /// No such verification session, or it has expired.
    VerificationNotFound = "VERIFICATION_NOT_FOUND", Caller, NotFound;
    /// No code has been handed to the provider yet.
    CodeNotSent = "CODE_NOT_SENT", Caller, FailedPrecondition;
    CodeExpired = "CODE_EXPIRED", Caller, FailedPrecondition;
    /// All tries of this session are used.
    ChecksExhausted = "CHECKS_EXHAUSTED", Caller, FailedPrecondition;
    /// All sends of this session are used.
    ResendsExhausted = "RESENDS_EXHAUSTED", Caller, FailedPrecondition;
    /// The number of this session has not been proved.
    NotVerified = "NOT_VERIFIED", Caller, FailedPrecondition;
    /// The admission has begun a sign-up of another number, or one that is over.
    AdmissionUsed = "ADMISSION_USED", Caller, FailedPrecondition;
    /// Another account has this number.
    NumberTaken = "NUMBER_TAKEN", Caller, AlreadyExists;

    /// Between gateway and mailbox: the id is too old or too far ahead; mint a new one. Never leaves the service.
    IdOutOfWindow = "ID_OUT_OF_WINDOW", We, Aborted;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_again() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.as_str()), Some(reason));
        }
    }
}
