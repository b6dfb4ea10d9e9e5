//! The keys under which tickets, challenges and passes are sealed. Two live at a time.
//!
//! All gateways must open what any of them has sealed, and cannot change keys at the same instant. So a new key is first
//! learnt ([`SealKeys::learn`]) and a while later sealed with ([`SealKeys::switch`]). Learning a key forgets the older of the two.
//! What was sealed therefore opens for at least the time between two learnings, less the one from learning to switching: with keys
//! learnt daily, tickets may live for a day less some minutes.

use std::fmt;

use spillway_types::Secret;
use subtle::ConstantTimeEq;

/// Which key. In every sealed thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u8);

/// The live keys.
#[derive(Clone)]
pub struct SealKeys {
    sealing: Key,
    other: Option<Key>,
}

/// Why a key cannot be learnt or switched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Two secrets under one id: what one of them sealed would count as forged.
    #[error("key {0:?} is live already")]
    Live(KeyId),
    #[error("key {0:?} has not been learnt")]
    Unknown(KeyId),
}

/// 128 bits of keyed BLAKE3. A forger has one chance in 2^128 for each question asked of a gateway.
pub(crate) const MAC_BYTES: usize = 16;

/// What is sealed. Each has a key of its own, so that one can never pass for another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Ticket,
    Challenge,
    Pass,
}

#[derive(Clone)]
struct Key {
    id: KeyId,
    /// By [`Purpose`].
    secrets: [Secret; 3],
}

impl SealKeys {
    pub fn new(id: KeyId, secret: &Secret) -> Self {
        Self { sealing: Key::new(id, secret), other: None }
    }

    /// Opens what `secret` has sealed, from now on, and forgets the key that is not sealed with.
    ///
    /// # Errors
    ///
    /// [`KeyError::Live`].
    pub fn learn(&mut self, id: KeyId, secret: &Secret) -> Result<(), KeyError> {
        if self.get(id).is_some() {
            return Err(KeyError::Live(id));
        }
        self.other = Some(Key::new(id, secret));
        Ok(())
    }

    /// Seals with the key `id` from now on; what was sealed with the one before still opens.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unknown`].
    pub fn switch(&mut self, id: KeyId) -> Result<(), KeyError> {
        if self.sealing.id == id {
            return Ok(());
        }
        match &mut self.other {
            Some(other) if other.id == id => {
                std::mem::swap(other, &mut self.sealing);
                Ok(())
            }
            _ => Err(KeyError::Unknown(id)),
        }
    }

    pub const fn sealing_id(&self) -> KeyId {
        self.sealing.id
    }

    /// With the key that is sealed with.
    pub(crate) fn seal(&self, purpose: Purpose, body: &[u8]) -> [u8; MAC_BYTES] {
        self.sealing.mac(purpose, body)
    }

    /// Whether `mac` is that of `body`, in a time that does not depend on where they differ; `None` when there is no such
    /// key.
    pub(crate) fn check(&self, id: KeyId, purpose: Purpose, body: &[u8], mac: &[u8]) -> Option<bool> {
        self.get(id).map(|key| key.mac(purpose, body).as_slice().ct_eq(mac).into())
    }

    fn get(&self, id: KeyId) -> Option<&Key> {
        std::iter::once(&self.sealing).chain(&self.other).find(|key| key.id == id)
    }
}

impl Key {
    fn new(id: KeyId, secret: &Secret) -> Self {
        let secrets = ["waiting room ticket v1", "waiting room challenge v1", "waiting room pass v1"];
        Self { id, secrets: secrets.map(|purpose| secret.derive(purpose, &[])) }
    }

    fn mac(&self, purpose: Purpose, body: &[u8]) -> [u8; MAC_BYTES] {
        let hash = blake3::keyed_hash(self.secrets[purpose as usize].expose(), body);
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&hash.as_bytes()[..MAC_BYTES]);
        mac
    }
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = self.other.as_ref().map(|key| key.id);
        f.debug_struct("SealKeys").field("sealing", &self.sealing.id).field("other", &other).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learnt_key_opens_before_it_seals_and_the_one_before_opens_after() {
        let secret = |byte| Secret::from_bytes([byte; 32]);
        let mut first = SealKeys::new(KeyId(1), &secret(1));
        let mut second = first.clone();
        for keys in [&mut first, &mut second] {
            keys.learn(KeyId(2), &secret(2)).unwrap();
        }
        first.switch(KeyId(2)).unwrap();
        // One has switched and the other has not.
        for (sealer, opener) in [(&first, &second), (&second, &first)] {
            let mac = sealer.seal(Purpose::Ticket, b"body");
            assert_eq!(opener.check(sealer.sealing_id(), Purpose::Ticket, b"body", &mac), Some(true));
            assert_eq!(opener.check(sealer.sealing_id(), Purpose::Pass, b"body", &mac), Some(false));
        }
        assert_eq!(first.learn(KeyId(1), &secret(9)), Err(KeyError::Live(KeyId(1))));
        assert_eq!(first.switch(KeyId(3)), Err(KeyError::Unknown(KeyId(3))));
        first.learn(KeyId(3), &secret(3)).unwrap();
        assert_eq!(first.check(KeyId(1), Purpose::Ticket, b"body", &[0; 16]), None);
    }
}
