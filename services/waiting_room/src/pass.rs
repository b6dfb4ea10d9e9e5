//! Passes: what a claim is answered with, and what lets a sign-up begin. Once, within ten minutes, by the device that waited.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | key |
//! | 2, 8 | id: room and sequence number |
//! | 8 | expires, microseconds since the epoch |
//! | 16 | device |
//! | 16 | 128 bits of BLAKE3, keyed, of all before |
//!
//! A pass alone starts nothing: the device signs it together with what it is used for ([`pass_message`]).

use std::time::Duration;

use spillway_types::Timestamp;

use crate::bytes::{Reader, Writer};
use crate::device::{BadSignature, DeviceHash, DeviceKey};
use crate::keys::{KeyId, MAC_BYTES, Purpose, SealKeys};
use crate::ticket::Room;
use crate::turn::CLAIMABLE_FOR;

/// A place in a room, and so the name of what must be used once: however often a ticket is claimed, its passes have one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PassId {
    pub room: Room,
    pub seq: u64,
}

/// What a pass says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    pub id: PassId,
    pub device: DeviceHash,
    pub expires: Timestamp,
}

/// A pass as the device keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SealedPass([u8; PASS_BYTES]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    #[error("a pass has {PASS_BYTES} bytes, not {0}")]
    Length(usize),
    #[error("version {0} of passes is not known")]
    Version(u8),
    #[error("{0:?} is not live")]
    UnknownKey(KeyId),
    #[error("not sealed by this service")]
    Forged,
    #[error("a pass of another room")]
    OtherRoom,
    #[error("over since {0:?}")]
    Expired(Timestamp),
    #[error("the pass is another device's")]
    OtherDevice,
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

/// Of a sealed pass.
pub const PASS_BYTES: usize = BODY_BYTES + MAC_BYTES;
/// From the claim.
pub const PASS_LIFETIME: Duration = Duration::from_secs(600);

const BODY_BYTES: usize = 36;
const VERSION: u8 = 1;
/// Of two gateways, one that made a pass and one that judges it.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);
const USE_DOMAIN: &[u8] = b"spillway waiting room pass v1\0";

impl Pass {
    pub fn seal(&self, keys: &SealKeys) -> SealedPass {
        let mut bytes = [0; PASS_BYTES];
        let mut writer = Writer::new(&mut bytes);
        writer.put(&[VERSION, keys.sealing_id().0]);
        writer.put(&self.id.room.0.to_be_bytes());
        writer.put(&self.id.seq.to_be_bytes());
        writer.put(&self.expires.as_micros().to_be_bytes());
        writer.put(self.device.as_bytes());
        let mac = keys.seal(Purpose::Pass, writer.written());
        writer.put(&mac);
        SealedPass(bytes)
    }

    /// Until when a pass of the same id can be good: who claims his ticket again gets one that ends later than this. He claims it for the
    /// first time [`CLAIMABLE_FOR`] before the last at most.
    pub fn place_shown_until(&self) -> Timestamp {
        self.expires.saturating_add(CLAIMABLE_FOR.saturating_add(CLOCKS_DIFFER))
    }

    /// Opens a pass and checks that its device wants to use it for `purpose` (the phone number, say). Whether it has been used is for
    /// [`crate::Used`], or for the store, to say.
    ///
    /// # Errors
    ///
    /// [`PassError`].
    pub fn open(
        bytes: &[u8],
        keys: &SealKeys,
        room: Room,
        device: &DeviceKey,
        purpose: &[u8],
        signature: &[u8; 64],
        now: Timestamp,
    ) -> Result<Self, PassError> {
        let sealed: &[u8; PASS_BYTES] = bytes.try_into().map_err(|_| PassError::Length(bytes.len()))?;
        let (body, mac) = sealed.split_at(BODY_BYTES);
        let mut reader = Reader::new(body);
        let [version, key] = reader.take();
        if version != VERSION {
            return Err(PassError::Version(version));
        }
        match keys.check(KeyId(key), Purpose::Pass, body, mac) {
            None => return Err(PassError::UnknownKey(KeyId(key))),
            Some(false) => return Err(PassError::Forged),
            Some(true) => {}
        }
        let id =
            PassId { room: Room(u16::from_be_bytes(reader.take())), seq: u64::from_be_bytes(reader.take()) };
        let expires = Timestamp::from_micros(u64::from_be_bytes(reader.take()));
        let pass = Self { id, device: DeviceHash::from_bytes(reader.take()), expires };
        if pass.id.room != room {
            return Err(PassError::OtherRoom);
        }
        if expires <= now {
            return Err(PassError::Expired(expires));
        }
        if device.hash() != pass.device {
            return Err(PassError::OtherDevice);
        }
        device.verify(&pass_message(&SealedPass(*sealed), purpose), signature)?;
        Ok(pass)
    }
}

impl SealedPass {
    /// As a device has kept it; [`Pass::open`] says whether it is one.
    pub const fn from_bytes(bytes: [u8; PASS_BYTES]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; PASS_BYTES] {
        &self.0
    }
}

/// What the device signs to use a pass. A pass has a fixed length, so that nothing of it can be taken for the purpose.
pub fn pass_message(pass: &SealedPass, purpose: &[u8]) -> Vec<u8> {
    [USE_DOMAIN, pass.as_bytes(), purpose].concat()
}
