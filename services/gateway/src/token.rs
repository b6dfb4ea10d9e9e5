//! Access tokens: `authorization: Bearer <token>`, good for any number of calls until they expire.

use std::time::Duration;

use spillway_types::{Secret, Timestamp};

use crate::auth::Proof;
use crate::config::IdentityConfig;
use crate::signed::{Claims, SignatureError, Signer};

/// A token or ticket, and how long it is good.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) text: String,
    pub(crate) expires_in: Duration,
}

#[derive(Debug)]
pub(crate) struct Tokens {
    signer: Signer,
    lifetime: Duration,
    proof_age_max: Duration,
}

impl Tokens {
    pub(crate) fn new(config: &IdentityConfig, key: &Secret) -> Self {
        Self {
            signer: Signer::new(key, "access token"),
            lifetime: config.token_lifetime,
            proof_age_max: config.proof_age_max,
        }
    }

    pub(crate) fn issue(&self, proof: &Proof, now: Timestamp) -> Issued {
        let expires_at = expiry(proof, now, self.lifetime, self.proof_age_max);
        let claims = Claims { caller: proof.caller, proved_at: proof.proved_at, expires_at, nonce: [0; 16] };
        Issued { text: self.signer.sign(&claims), expires_in: expires_at.since(now) }
    }

    pub(crate) fn verify(&self, text: &str, now: Timestamp) -> Result<Proof, SignatureError> {
        let claims = self.signer.verify(text, now)?;
        Ok(Proof { caller: claims.caller, proved_at: claims.proved_at, renewed: false })
    }
}

/// What is made from an old proof must not outlive it.
pub(crate) fn expiry(
    proof: &Proof,
    now: Timestamp,
    lifetime: Duration,
    proof_age_max: Duration,
) -> Timestamp {
    now.saturating_add(lifetime).min(proof.proved_at.saturating_add(proof_age_max))
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}
