//! Secrets that never print themselves, and the keyed hashes under which they are stored.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// 256 random or derived bits that must not appear in a log line, an error or a debug print.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret([u8; 32]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a secret of 32 bytes, got {0}")]
pub struct SecretError(pub usize);

impl Secret {
    pub fn random() -> Self {
        Self(random_bytes())
    }

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Named so that a reader sees where a secret leaves its wrapper.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Derives the secret for one purpose from this one (BLAKE3 keyed hash over `parts`, length-prefixed).
    pub fn derive(&self, purpose: &str, parts: &[&[u8]]) -> Secret {
        Secret(keyed(self, purpose, parts))
    }

    /// What is stored in place of a secret: keyed BLAKE3 of it, useless without the key.
    pub fn hash(&self, purpose: &str, parts: &[&[u8]]) -> KeyedHash {
        KeyedHash(keyed(self, purpose, parts))
    }
}

impl TryFrom<&[u8]> for Secret {
    type Error = SecretError;

    fn try_from(bytes: &[u8]) -> Result<Self, SecretError> {
        bytes.try_into().map(Self).map_err(|_| SecretError(bytes.len()))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A keyed hash, compared in constant time.
#[derive(Clone, Copy)]
pub struct KeyedHash([u8; 32]);

impl KeyedHash {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for KeyedHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyedHash {}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHash(..)")
    }
}

fn keyed(key: &Secret, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    for part in std::iter::once(&purpose.as_bytes()).chain(parts) {
        // Length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Bytes from the operating system's generator.
///
/// # Panics
///
/// When the operating system has no randomness to give: no secret may be made from anything else.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::from_bytes([7; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(format!("{:?}", secret.hash("x", &[])), "KeyedHash(..)");
    }

    #[test]
    fn parts_and_purposes_are_separated() {
        let key = Secret::from_bytes([1; 32]);
        assert_ne!(key.hash("p", &[b"ab", b"c"]), key.hash("p", &[b"a", b"bc"]));
        assert_ne!(key.hash("p", &[b"ab"]), key.hash("q", &[b"ab"]));
        assert_eq!(key.hash("p", &[b"ab"]), key.hash("p", &[b"ab"]));
    }
}
