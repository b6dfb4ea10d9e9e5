//! Whether a device is what it says: a phone with the app on it, and not one of ten thousand that somebody's script plays.
//!
//! It is asked when a turn is claimed, not when a place is taken: claims come at the rate at which people are let in, so whoever
//! answers is asked as often as there are sign-ups and not as often as there are arrivals; and the challenge of the claim,
//! which this service made for this ticket a moment ago, is the nonce that the platforms' attestations need. Places that
//! machines take cost the people behind them nothing: who is turned away counts as somebody who did not come, and others are
//! called in his place.

mod webhook;

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use webhook::{WebhookAttestation, WebhookConfig, WebhookConfigError};

/// Judges devices.
#[async_trait]
pub trait Attestation: fmt::Debug + Send + Sync {
    /// # Errors
    ///
    /// When nobody knows. The caller bounds the time.
    async fn judge(&self, evidence: &Evidence<'_>) -> Result<Verdict, AttestationError>;
}

/// What a device shows for itself.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The platform's, such as a Play Integrity token or an App Attest assertion. Opaque here, at most 16 KiB, and empty if
    /// the device sent none.
    pub statement: &'a [u8],
    /// What the statement has to be about: made by this service for this device's ticket, at most two minutes ago.
    pub challenge: &'a [u8],
    /// Ed25519. The device has just signed with it.
    pub device_key: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Genuine,
    /// It waits like everybody else, and is never called.
    Counterfeit,
}

/// Nobody knows whether a device is genuine.
#[derive(Debug, thiserror::Error)]
#[error("devices cannot be judged")]
pub struct AttestationError(#[source] pub Box<dyn Error + Send + Sync>);

/// Of [`Evidence::statement`].
pub(crate) const STATEMENT_BYTES_MAX: usize = 16 * 1024;
