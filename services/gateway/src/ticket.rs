//! Resume tickets: a hello that costs no look-up, once.
//!
//! A gateway remembers the tickets that were used at it, so a stolen copy is noticed there; gateways do not tell each
//! other, because a returning herd must not cause traffic between them.

use std::time::Duration;

use quick_cache::sync::Cache;
use spillway_types::{Secret, Timestamp, random_bytes};

use crate::auth::Proof;
use crate::config::IdentityConfig;
use crate::signed::{Claims, SignatureError, Signer};
use crate::token::{Issued, expiry};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TicketError {
    #[error("the resume ticket {0}")]
    NoProof(SignatureError),
    #[error("the resume ticket was used before")]
    Used,
}

#[derive(Debug)]
pub(crate) struct Tickets {
    signer: Signer,
    lifetime: Duration,
    proof_age_max: Duration,
    used: Cache<[u8; 16], ()>,
}

impl Tickets {
    pub(crate) fn new(config: &IdentityConfig, key: &Secret) -> Self {
        Self {
            signer: Signer::new(key, "resume ticket"),
            lifetime: config.ticket_lifetime,
            proof_age_max: config.proof_age_max,
            used: Cache::new(config.used_tickets_max),
        }
    }

    pub(crate) fn issue(&self, proof: &Proof, now: Timestamp) -> Issued {
        let expires_at = expiry(proof, now, self.lifetime, self.proof_age_max);
        let claims =
            Claims { caller: proof.caller, proved_at: proof.proved_at, expires_at, nonce: random_bytes() };
        Issued { text: self.signer.sign(&claims), expires_in: expires_at.since(now) }
    }

    /// Uses the ticket up.
    pub(crate) fn redeem(&self, text: &str, now: Timestamp) -> Result<Proof, TicketError> {
        let claims = self.signer.verify(text, now).map_err(TicketError::NoProof)?;
        let mut first = false;
        // The cache runs the closure for one of those who come with the same nonce at once.
        let used = self.used.get_or_insert_with(&claims.nonce, || {
            first = true;
            Ok::<_, std::convert::Infallible>(())
        });
        match used {
            Ok(()) if first => {
                Ok(Proof { caller: claims.caller, proved_at: claims.proved_at, renewed: false })
            }
            _ => Err(TicketError::Used),
        }
    }
}

#[cfg(test)]
mod tests {
    use spillway_types::{AccountId, DeviceAddress, DeviceId, MailboxId};

    use super::*;
    use crate::auth::Caller;
    use crate::token::Tokens;

    const NOW: Timestamp = Timestamp::from_millis(1_610_722_800_000);

    fn proof() -> Proof {
        let address = DeviceAddress { account: AccountId::random(), device: DeviceId::PRIMARY };
        Proof { caller: Caller { address, mailbox: MailboxId::random() }, proved_at: NOW, renewed: false }
    }

    fn issuers() -> (Tokens, Tickets) {
        let (config, key) = (IdentityConfig::default(), Secret::from_bytes([1; 32]));
        (Tokens::new(&config, &key), Tickets::new(&config, &key))
    }

    #[test]
    fn a_ticket_works_once() {
        let (_, tickets) = issuers();
        let (proof, ticket) = (proof(), tickets.issue(&proof(), NOW));
        assert_eq!(tickets.redeem(&ticket.text, NOW).unwrap().proved_at, NOW);
        assert_eq!(tickets.redeem(&ticket.text, NOW), Err(TicketError::Used));
        let again = tickets.issue(&proof, NOW);
        assert_eq!(tickets.redeem(&again.text, NOW), Ok(proof));
    }

    #[test]
    fn a_token_is_no_ticket_and_a_ticket_is_no_token() {
        let (tokens, tickets) = issuers();
        let (token, ticket) = (tokens.issue(&proof(), NOW), tickets.issue(&proof(), NOW));
        assert_eq!(tickets.redeem(&token.text, NOW), Err(TicketError::NoProof(SignatureError::Forged)));
        assert_eq!(tokens.verify(&ticket.text, NOW), Err(SignatureError::Forged));
    }

    #[test]
    fn renewing_ends_when_the_proof_is_too_old() {
        let (_, tickets) = issuers();
        let config = IdentityConfig::default();
        let mut now = NOW;
        let mut proof = proof();
        let mut hops = 0;
        loop {
            let ticket = tickets.issue(&proof, now);
            now = now.saturating_add(ticket.expires_in - Duration::from_micros(1));
            let Ok(next) = tickets.redeem(&ticket.text, now) else { break };
            proof = next;
            hops += 1;
            if now.since(NOW) + Duration::from_secs(1) > config.proof_age_max {
                break;
            }
        }
        assert!(hops >= 7, "renewed {hops} times");
        let last = tickets.issue(&proof, now);
        assert!(now.saturating_add(last.expires_in) <= NOW.saturating_add(config.proof_age_max));
    }
}
