//! Companies that deliver codes, behind one trait.

mod client;
mod config;
mod http;
mod receipts;
mod sandbox;
mod smpp;
mod twilio;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use spillway_store::verifications::Transport;
use spillway_types::PhoneNumber;

pub use config::{Carriers, ProviderConfig, ProviderKind, ProvidersError, TransportName, build, check};
pub use http::{HttpConfig, HttpConfigError, HttpProvider};
pub use sandbox::{Change, Delay, DeliveredCode, Sandbox, SandboxConfig};
pub use smpp::{MessageIds, Smpp, SmppConfig, SmppConfigError};
pub use spillway_chassis::outbound::ClientError;
pub use twilio::{Twilio, TwilioConfig, TwilioConfigError};

pub use crate::routing::{Costs, Delivery, Terms};

/// Six decimal digits. Never prints itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code([u8; Code::DIGITS]);

impl Code {
    pub const DIGITS: usize = 6;
    pub(crate) const COUNT: u32 = 1_000_000;

    pub(crate) fn from_number(mut number: u32) -> Self {
        let mut digits = [b'0'; Self::DIGITS];
        for digit in digits.iter_mut().rev() {
            *digit += (number % 10) as u8;
            number /= 10;
        }
        Self(digits)
    }

    /// Named so that a reader sees where a code leaves its wrapper.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

/// A provider's answer to a code that it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// How long delivery takes from here, when the provider knows.
    pub delivery_delay: Option<Duration>,
    /// What the provider calls the message in a receipt, if it is to give one.
    pub message: Option<String>,
}

/// What became of a message, as its provider says. It may come before [`Provider::send`] has answered, hours later, twice, or never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// As in [`Accepted::message`].
    pub message: String,
    pub delivery: Delivery,
}

/// Why a provider did not take a code. The texts hold no number and no code.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It takes no more at present. Not this code's fault, so it does not count as an attempt.
    #[error("the provider takes no more codes at present")]
    Throttled { retry_after: Duration },
    /// It failed.
    #[error("the provider failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// It was asked and did not answer, so it may have taken the code. Another attempt may deliver it a second time.
    #[error("the provider did not answer")]
    Unanswered,
    /// It will not deliver to this number, or does not understand us. Repeating does not help.
    #[error("the provider refused the code: {0}")]
    Refused(String),
}

impl ProviderError {
    pub const fn retryable(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

/// A provider, and on what terms it is used.
#[derive(Clone, Debug)]
pub struct Carrier {
    pub terms: Terms,
    pub provider: Arc<dyn Provider>,
}

#[async_trait]
pub trait Provider: fmt::Debug + Send + Sync + 'static {
    /// Hands a code over. Called again after a failure, so a number may get the same code more than once. The caller
    /// bounds the time.
    async fn send(
        &self,
        number: &PhoneNumber,
        transport: Transport,
        code: &Code,
    ) -> Result<Accepted, ProviderError>;

    /// The next receipt; never, for a provider that gives none. One task asks at a time, and may give up asking.
    async fn next_receipt(&self) -> Receipt {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_six_digits_and_hides_them() {
        assert_eq!(Code::from_number(42).expose(), "000042");
        assert_eq!(Code::from_number(999_999).expose(), "999999");
        assert_eq!(format!("{:?}", Code::from_number(42)), "Code(..)");
    }
}
