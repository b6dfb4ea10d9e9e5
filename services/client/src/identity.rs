//! Who the device is: its lasting credential, and the short-lived token it got for it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use spillway_api::Reason;
use spillway_types::AccountId;
use spillway_types::DeviceAddress;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::call::CallError;

/// Where an answer carries a fresh token.
const TOKEN_HEADER: &str = "x-spillway-token";

/// The identity of one device. Prefers the token, which costs the service no look-up.
pub struct Identity {
    pub address: DeviceAddress,
    credential: String,
    token: Mutex<Option<MetadataValue<Ascii>>>,
    resume_ticket: Mutex<Option<String>>,
}

impl Identity {
    pub fn new(address: DeviceAddress, credential: String) -> Self {
        Self { address, credential, token: Mutex::new(None), resume_ticket: Mutex::new(None) }
    }

    pub fn with_token(self, token: &str) -> Self {
        self.set_token(token);
        self
    }

    pub fn account(&self) -> AccountId {
        self.address.account
    }

    /// The lasting secret, for the device's own safe storage.
    pub fn credential(&self) -> &str {
        &self.credential
    }

    /// Puts the token into a request, or the credential when there is no token.
    pub fn authorize(&self, metadata: &mut MetadataMap) {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let value = token.or_else(|| format!("Device {}", self.credential).parse().ok());
        if let Some(value) = value {
            metadata.insert("authorization", value);
        }
    }

    pub(crate) fn learn(&self, metadata: &MetadataMap) {
        if let Some(token) = metadata.get(TOKEN_HEADER).and_then(|value| value.to_str().ok()) {
            self.set_token(token);
        }
    }

    pub(crate) fn set_token(&self, token: &str) {
        let value = format!("Bearer {token}").parse().ok();
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    /// Drops the token if `error` says it is no longer good; answers whether there was one to drop.
    pub(crate) fn forget_token_after(&self, error: &CallError) -> bool {
        let refused = error.refusal().is_some_and(|refusal| refusal.reason == Reason::Unauthenticated);
        refused && self.token.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// Takes the ticket: each works once.
    pub(crate) fn take_resume_ticket(&self) -> Option<ResumeTicket<'_>> {
        let text = self.resume_ticket.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(ResumeTicket { identity: self, text: Some(text) })
    }

    pub(crate) fn set_resume_ticket(&self, ticket: String) {
        *self.resume_ticket.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
    }
}

/// A ticket that is being tried. Dropped before the service has said anything about it, it is tried again next time: whoever could not
/// be heard, or was told to come later, must not cost a look-up for that.
#[derive(Debug)]
pub(crate) struct ResumeTicket<'a> {
    identity: &'a Identity,
    text: Option<String>,
}

impl ResumeTicket<'_> {
    pub(crate) fn text(&self) -> String {
        self.text.clone().unwrap_or_default()
    }

    /// It was good, or will never be.
    pub(crate) fn spent(mut self) {
        self.text = None;
    }
}

impl Drop for ResumeTicket<'_> {
    fn drop(&mut self) {
        if let Some(text) = self.text.take() {
            let mut ticket = self.identity.resume_ticket.lock().unwrap_or_else(PoisonError::into_inner);
            // Another session may have got a newer one.
            ticket.get_or_insert(text);
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_that_was_not_looked_at_is_tried_again() {
        let address =
            DeviceAddress { account: AccountId::random(), device: spillway_types::DeviceId::PRIMARY };
        let identity = Identity::new(address, "secret".to_owned());
        let next = || identity.take_resume_ticket().map(|ticket| ticket.text());
        assert_eq!(next(), None);
        identity.set_resume_ticket("one".to_owned());
        assert_eq!(next().as_deref(), Some("one"));
        assert_eq!(next().as_deref(), Some("one"), "nobody has said anything about it");
        let ticket = identity.take_resume_ticket().unwrap();
        assert_eq!(next(), None, "it is being tried");
        identity.set_resume_ticket("two".to_owned());
        drop(ticket);
        assert_eq!(next().as_deref(), Some("two"), "the newer one stays");
        identity.take_resume_ticket().unwrap().spent();
        assert_eq!(next(), None);
    }
}
