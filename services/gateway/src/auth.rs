//! Who is calling.
//!
//! A credential costs a look-up at registration; a token or a ticket costs a hash. All three end in a [`Proof`], from
//! which fresh tokens and tickets are made. Only failed credentials are counted against the caller's network, since
//! a wrong one is what costs a read for nothing.

use std::sync::Arc;
use std::time::Duration;

use spillway_admission::{Key, Limit, Quotas};
use spillway_api::internal::v1::AuthenticateRequest;
use spillway_api::internal::v1::registration_client::RegistrationClient;
use spillway_api::{FieldError, Reason, Refusal, device_address, mailbox_id};
use spillway_rpc::{Channel, ServiceError};
use spillway_types::{Clock, DeviceAddress, MailboxId, Secret, Timestamp};

use crate::arrival::Arrival;
use crate::changed_accounts::ChangedAccounts;
use crate::config::IdentityConfig;
use crate::device_cache::DeviceCache;
use crate::inner::InnerError;
use crate::metrics::{IdentityKind, ProofOutcome};
use crate::quota::QuotaError;
use crate::signed::SignatureError;
use crate::ticket::{TicketError, Tickets};
use crate::token::Tokens;

/// An authenticated device, and the mailbox that it had when it proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) address: DeviceAddress,
    pub(crate) mailbox: MailboxId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) caller: Caller,
    /// When the credential, or the account's list of devices, was looked at.
    pub(crate) proved_at: Timestamp,
    /// It was looked at just now, so the device should get a new token.
    pub(crate) renewed: bool,
}

/// What a device shows.
pub(crate) enum Identity {
    Credential(String),
    Token(String),
    Ticket(String),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("no credential or token was given")]
    Missing,
    #[error("the credential is not good")]
    Credential,
    #[error("the token {0}")]
    Token(SignatureError),
    #[error(transparent)]
    Ticket(TicketError),
    #[error("the device is not of this account any more")]
    Removed,
    #[error("too many bad credentials from this network")]
    Quota(#[source] QuotaError),
    #[error("the identity could not be looked up")]
    Inner(#[source] InnerError),
    #[error("registration's answer cannot be read")]
    Answer(#[source] FieldError),
}

impl ServiceError for AuthError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Ticket(TicketError::Used) => Refusal::new(Reason::TicketUsed, self.to_string()),
            Self::Missing | Self::Credential | Self::Token(_) | Self::Ticket(_) | Self::Removed => {
                Refusal::new(Reason::Unauthenticated, self.to_string())
            }
            Self::Quota(error) => error.refusal(),
            Self::Inner(error) => error.refusal(),
            Self::Answer(_) => Refusal::new(Reason::Internal, "something failed at the server"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(crate) tokens: Tokens,
    pub(crate) tickets: Tickets,
    registration: RegistrationClient<Channel>,
    devices: Arc<DeviceCache>,
    changed: Arc<ChangedAccounts>,
    quotas: Arc<Quotas>,
    clock: Arc<dyn Clock>,
    proof_age_max: Duration,
}

impl Authenticator {
    pub(crate) fn new(
        config: &IdentityConfig,
        key: &Secret,
        registration: RegistrationClient<Channel>,
        devices: Arc<DeviceCache>,
        changed: Arc<ChangedAccounts>,
        quotas: Arc<Quotas>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (tokens, tickets) = (Tokens::new(config, key), Tickets::new(config, key));
        Self {
            tokens,
            tickets,
            registration,
            devices,
            changed,
            quotas,
            clock,
            proof_age_max: config.proof_age_max,
        }
    }

    pub(crate) async fn prove(&self, identity: Identity, arrival: &Arrival) -> Result<Proof, AuthError> {
        let now = self.clock.now();
        match identity {
            Identity::Credential(credential) => Box::pin(self.authenticate(credential, arrival, now)).await,
            Identity::Token(token) => {
                let proof = self.tokens.verify(&token, now).map_err(AuthError::Token)?;
                self.renew(proof).await
            }
            Identity::Ticket(ticket) => {
                let proof = self.tickets.redeem(&ticket, now).map_err(AuthError::Ticket)?;
                self.renew(proof).await
            }
        }
    }

    /// Looks again if the account has changed since the proof, or if the proof is so old that what is made from it
    /// would soon expire.
    pub(crate) async fn renew(&self, proof: Proof) -> Result<Proof, AuthError> {
        let address = proof.caller.address;
        let now = self.clock.now();
        let is_old = now.since(proof.proved_at) > self.proof_age_max / 2;
        if !is_old && !self.changed.is_doubtful(address.account, proof.proved_at) {
            return Ok(proof);
        }
        let devices = Box::pin(self.devices.of(address.account)).await.map_err(|error| {
            let gone = error.reason() == Some(Reason::AccountNotFound);
            if gone { AuthError::Removed } else { AuthError::Inner(error) }
        })?;
        let mut same = devices.iter().filter(|device| device.id == address.device);
        if same.any(|device| device.mailbox == proof.caller.mailbox) {
            Ok(Proof { proved_at: now, renewed: true, ..proof })
        } else {
            Err(AuthError::Removed)
        }
    }

    async fn authenticate(
        &self,
        credential: String,
        arrival: &Arrival,
        now: Timestamp,
    ) -> Result<Proof, AuthError> {
        let limit = Limit::Authenticate;
        let key = arrival.network.map(Key::Network);
        if let Some(key) = &key {
            QuotaError::check(limit, self.quotas.peek(limit, key, 1)).map_err(AuthError::Quota)?;
        }
        let request = AuthenticateRequest { credential };
        let answer = match self.registration.clone().authenticate(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                let error = InnerError::registration(status);
                if error.reason() != Some(Reason::Unauthenticated) {
                    return Err(AuthError::Inner(error));
                }
                if let Some(key) = &key {
                    QuotaError::check(limit, self.quotas.check(limit, key, 1)).map_err(AuthError::Quota)?;
                }
                return Err(AuthError::Credential);
            }
        };
        let address = device_address("device", answer.device.as_ref()).map_err(AuthError::Answer)?;
        let mailbox = mailbox_id("mailbox_id", &answer.mailbox_id).map_err(AuthError::Answer)?;
        Ok(Proof { caller: Caller { address, mailbox }, proved_at: now, renewed: true })
    }
}

impl Identity {
    /// From the `authorization` metadata: `Device <credential>` or `Bearer <token>`.
    pub(crate) fn from_metadata(metadata: &tonic::metadata::MetadataMap) -> Result<Self, AuthError> {
        let value = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let (scheme, rest) = value.and_then(|value| value.split_once(' ')).ok_or(AuthError::Missing)?;
        if scheme.eq_ignore_ascii_case("bearer") {
            Ok(Self::Token(rest.to_owned()))
        } else if scheme.eq_ignore_ascii_case("device") {
            Ok(Self::Credential(rest.to_owned()))
        } else {
            Err(AuthError::Missing)
        }
    }

    pub(crate) const fn kind(&self) -> IdentityKind {
        match self {
            Self::Credential(_) => IdentityKind::Credential,
            Self::Token(_) => IdentityKind::Token,
            Self::Ticket(_) => IdentityKind::Ticket,
        }
    }
}

impl ProofOutcome {
    pub(crate) fn of(outcome: &Result<Proof, AuthError>) -> Self {
        match outcome {
            Ok(proof) if proof.renewed => Self::Renewed,
            Ok(_) => Self::Proved,
            Err(AuthError::Inner(_) | AuthError::Answer(_)) => Self::Failed,
            Err(_) => Self::Refused,
        }
    }
}
