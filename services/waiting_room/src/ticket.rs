//! Tickets: a place in the order, which the device keeps and no server does.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | key |
//! | 2 | room |
//! | 8 | sequence number |
//! | 8 | issued, microseconds since the epoch |
//! | 4 | lifetime, seconds |
//! | 8 | called late at, microseconds since the epoch; 0 if not |
//! | 1 | times called late |
//! | 1 | flags |
//! | 16 | device |
//! | 8 | network |
//! | 16 | 128 bits of BLAKE3, keyed, of all before |
//!
//! Big-endian. The body fits into one block of BLAKE3, so that opening a ticket, which is all that a poll costs, is one compression:
//! `examples/open.rs` measures it.

use std::time::Duration;

use spillway_types::Timestamp;

use crate::bytes::{Reader, Writer};
use crate::device::{DeviceHash, NetworkHash};
use crate::keys::{KeyId, MAC_BYTES, Purpose, SealKeys};

/// Which queue. A fleet may have several, for a beta and for everybody, say; their numbers have nothing to do with each
/// other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room(pub u16);

/// What is known of a ticket's holder. All bits are kept, so that a later version's flags survive an older gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub room: Room,
    /// From 1, in the order of [`crate::Blocks`].
    pub seq: u64,
    pub issued: Timestamp,
    /// Whole seconds.
    pub lifetime: Duration,
    /// Set once its holder has missed a window.
    pub late: Option<Late>,
    pub flags: Flags,
    pub device: DeviceHash,
    pub network: NetworkHash,
}

/// Who did not come when called keeps the place, and is called again when he asks ([`crate::View::turn`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// From 1 to [`crate::LATE_MAX`].
    pub times: u8,
    pub called: Timestamp,
}

/// A ticket as the device keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SealedTicket([u8; TICKET_BYTES]);

/// Why bytes are not a ticket that is good here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    #[error("a ticket has {TICKET_BYTES} bytes, not {0}")]
    Length(usize),
    #[error("version {0} of tickets is not known")]
    Version(u8),
    /// Its key has been forgotten, or is not learnt yet.
    #[error("{0:?} is not live")]
    UnknownKey(KeyId),
    #[error("not sealed by this service")]
    Forged,
    #[error("a ticket of another room")]
    OtherRoom,
    #[error("over since {0:?}")]
    Expired(Timestamp),
}

/// Of a sealed ticket.
pub const TICKET_BYTES: usize = BODY_BYTES + MAC_BYTES;

/// How long a ticket is good by default: as long as one key in a day's rotation allows, see [`SealKeys`].
pub const TICKET_LIFETIME: Duration = Duration::from_secs(23 * 3_600);

const BODY_BYTES: usize = 58;
const VERSION: u8 = 1;

// One block of BLAKE3, and the bound of `reference/overload.md` b.10.
const _: () = assert!(BODY_BYTES <= 64 && TICKET_BYTES <= 96);

impl Flags {
    /// The challenge at the door was passed with more than proof of work: attestation, or a push to the device.
    pub const ATTESTED: Flags = Flags(1);
    /// Looks like a machine: such a ticket waits like all others and is never called.
    pub const NEVER_CALLED: Flags = Flags(2);

    /// All of both.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Ticket {
    pub fn expires(&self) -> Timestamp {
        self.issued.saturating_add(self.lifetime)
    }

    /// With the key that `keys` seals with.
    pub fn seal(&self, keys: &SealKeys) -> SealedTicket {
        let mut bytes = [0; TICKET_BYTES];
        let mut writer = Writer::new(&mut bytes);
        writer.put(&[VERSION, keys.sealing_id().0]);
        writer.put(&self.room.0.to_be_bytes());
        writer.put(&self.seq.to_be_bytes());
        writer.put(&self.issued.as_micros().to_be_bytes());
        writer.put(&u32::try_from(self.lifetime.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
        let (times, called) = self.late.map_or((0, 0), |late| (late.times, late.called.as_micros()));
        writer.put(&called.to_be_bytes());
        writer.put(&[times, self.flags.0]);
        writer.put(self.device.as_bytes());
        writer.put(self.network.as_bytes());
        let mac = keys.seal(Purpose::Ticket, writer.written());
        writer.put(&mac);
        SealedTicket(bytes)
    }

    /// # Errors
    ///
    /// [`TicketError`]. A MAC is checked before anything that it covers is believed, and in constant time.
    pub fn open(bytes: &[u8], keys: &SealKeys, room: Room, now: Timestamp) -> Result<Self, TicketError> {
        let sealed: &[u8; TICKET_BYTES] = bytes.try_into().map_err(|_| TicketError::Length(bytes.len()))?;
        let (body, mac) = sealed.split_at(BODY_BYTES);
        let mut reader = Reader::new(body);
        let [version, key] = reader.take();
        if version != VERSION {
            return Err(TicketError::Version(version));
        }
        match keys.check(KeyId(key), Purpose::Ticket, body, mac) {
            None => return Err(TicketError::UnknownKey(KeyId(key))),
            Some(false) => return Err(TicketError::Forged),
            Some(true) => {}
        }
        let ticket = Self::read(&mut reader);
        if ticket.room != room {
            return Err(TicketError::OtherRoom);
        }
        if ticket.expires() <= now {
            return Err(TicketError::Expired(ticket.expires()));
        }
        Ok(ticket)
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let room = Room(u16::from_be_bytes(reader.take()));
        let seq = u64::from_be_bytes(reader.take());
        let issued = Timestamp::from_micros(u64::from_be_bytes(reader.take()));
        let lifetime = Duration::from_secs(u32::from_be_bytes(reader.take()).into());
        let called = Timestamp::from_micros(u64::from_be_bytes(reader.take()));
        let [times, flags] = reader.take();
        Self {
            room,
            seq,
            issued,
            lifetime,
            late: (times > 0).then_some(Late { times, called }),
            flags: Flags(flags),
            device: DeviceHash::from_bytes(reader.take()),
            network: NetworkHash::from_bytes(reader.take()),
        }
    }
}

impl SealedTicket {
    /// What a device shows; [`Ticket::open`] says whether it is one.
    pub const fn from_bytes(bytes: [u8; TICKET_BYTES]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; TICKET_BYTES] {
        &self.0
    }
}
