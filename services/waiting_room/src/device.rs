//! What a ticket remembers of whom it was given to: hashes, of a key and of a network.

use std::fmt;
use std::net::IpAddr;

use ed25519_dalek::{Signature, VerifyingKey};
use spillway_types::Secret;

/// A device's Ed25519 public key, as it came. Whether it is a point of the curve shows when a signature is verified: a key
/// that is none can hold a ticket, and can never use it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceKey([u8; 32]);

/// 128 bits of BLAKE3 of a device's public key. Not keyed, because the device computes it too; nobody can find a second key
/// with the same hash (2^128), and whoever makes two keys that share one (2^64) has two keys for one place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceHash([u8; 16]);

/// 64 bits of keyed BLAKE3 of the network an address belongs to: /24, or /48 of IPv6. Keyed, because without a key all 2^24 of
/// them could be tried.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetworkHash([u8; 8]);

/// The signature is not the device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not the device's")]
pub struct BadSignature;

impl DeviceKey {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn hash(&self) -> DeviceHash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"spillway waiting room device v1");
        hasher.update(&self.0);
        DeviceHash(first(&hasher))
    }

    /// Strictly: keys of small order and signatures that can be altered into another valid one are refused.
    ///
    /// # Errors
    ///
    /// The key is no key, or `signature` is not its signature of `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
        key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| BadSignature)
    }
}

impl DeviceHash {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl NetworkHash {
    /// `key`: one for as long as rooms are open, because hashes under two keys cannot be compared.
    pub fn of(key: &Secret, address: IpAddr) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key.expose());
        hasher.update(b"spillway waiting room network v1");
        match address.to_canonical() {
            IpAddr::V4(address) => hasher.update(&address.octets()[..3]),
            IpAddr::V6(address) => hasher.update(&address.octets()[..6]),
        };
        Self(first(&hasher))
    }

    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({:?})", self.hash())
    }
}

impl fmt::Debug for DeviceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for NetworkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

fn first<const N: usize>(hasher: &blake3::Hasher) -> [u8; N] {
    let mut bytes = [0; N];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_network_and_others_do_not() {
        let key = Secret::from_bytes([3; 32]);
        let network = |text: &str| NetworkHash::of(&key, text.parse().unwrap());
        assert_eq!(network("192.0.2.1"), network("192.0.2.254"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.9"));
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:ffff::9"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_ne!(network("2001:db8:1::"), network("2001:db8:2::"));
        let other = NetworkHash::of(&Secret::from_bytes([4; 32]), "192.0.2.1".parse().unwrap());
        assert_ne!(network("192.0.2.1"), other);
    }

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        // The identity point: with it, R = identity and s = 0 satisfy the equation for every message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert_eq!(DeviceKey::from_bytes(identity).verify(b"anything", &signature), Err(BadSignature));
    }
}
