//! Time-ordered message ids, minted once by the gateway.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{Clock, Timestamp};
use crate::id::IdError;
use crate::secret::random_bytes;

/// 100 ns ticks between the start of the Gregorian calendar (1582-10-15) and the Unix epoch, from RFC 9562 §5.1.
const UNIX_EPOCH_TICKS: u64 = 0x01B2_1DD2_1381_4000;
const TICKS_PER_MICRO: u64 = 10;

/// The id of a stored message: the 60-bit time and the 64-bit node part of a version 1 UUID (CQL `timeuuid`), kept
/// with the time first so that the order of values, and of [`MessageId::to_bytes`], is the order of time.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    ticks: u64,
    node: u64,
}

impl MessageId {
    pub const MIN: MessageId = MessageId { ticks: 0, node: 0 };

    /// The greatest id that a message minted at `time` or before can have.
    pub fn last_at(time: Timestamp) -> Self {
        let ticks = ticks(time).saturating_add(TICKS_PER_MICRO - 1);
        Self { ticks, node: u64::MAX }
    }

    /// When the id was minted, to the microsecond.
    pub fn time(self) -> Timestamp {
        Timestamp::from_micros(self.ticks.saturating_sub(UNIX_EPOCH_TICKS) / TICKS_PER_MICRO)
    }

    /// Big-endian time, then node: sorts as the id does.
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.ticks) << 64) | u128::from(self.node)).to_be_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let value = u128::from_be_bytes(bytes);
        Self { ticks: (value >> 64) as u64, node: value as u64 }
    }

    /// The same id in the field order of a version 1 UUID, as CQL's `timeuuid` wants it.
    pub fn to_timeuuid(self) -> [u8; 16] {
        let low = self.ticks & 0xFFFF_FFFF;
        let mid = (self.ticks >> 32) & 0xFFFF;
        let high = (self.ticks >> 48) & 0x0FFF;
        let first = (low << 32) | (mid << 16) | 0x1000 | high;
        ((u128::from(first) << 64) | u128::from(self.node)).to_be_bytes()
    }

    pub fn from_timeuuid(bytes: [u8; 16]) -> Self {
        let value = u128::from_be_bytes(bytes);
        let first = (value >> 64) as u64;
        let ticks = (first >> 32) | ((first & 0xFFFF_0000) << 16) | ((first & 0x0FFF) << 48);
        Self { ticks, node: value as u64 }
    }
}

impl TryFrom<&[u8]> for MessageId {
    type Error = IdError;

    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        bytes.try_into().map(Self::from_bytes).map_err(|_| IdError::Length(bytes.len()))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.to_timeuuid()).fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn ticks(time: Timestamp) -> u64 {
    time.as_micros().saturating_mul(TICKS_PER_MICRO).saturating_add(UNIX_EPOCH_TICKS)
}

/// Mints ids that are unique in the fleet and increase within the process while the clock does not step back.
#[derive(Debug)]
pub struct MessageIdGenerator {
    clock: Arc<dyn Clock>,
    last: Mutex<MessageId>,
}

/// A clock that is behind the last id by less than this is waited out by counting on from the last id; one that is
/// further behind has been set back, and is followed, because workers refuse ids from the future.
const STEP_BACK_TICKS: u64 = 10_000_000;

impl MessageIdGenerator {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, last: Mutex::new(MessageId { ticks: 0, node: random_node() }) }
    }

    pub fn mint(&self) -> MessageId {
        let now = ticks(self.clock.now());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if now > last.ticks {
            last.ticks = now;
        } else if last.ticks - now < STEP_BACK_TICKS {
            last.ticks += 1;
        } else {
            // The ticks ahead have been used once already: a new node keeps their ids apart (RFC 9562 §6.1).
            *last = MessageId { ticks: now, node: random_node() };
        }
        *last
    }
}

/// RFC 9562 variant, random clock sequence and random node with the multicast bit set (§6.10), so that processes
/// started in the same microsecond differ.
fn random_node() -> u64 {
    (u64::from_be_bytes(random_bytes()) & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0100_0000_0000
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::clock::TestClock;

    fn generator() -> (TestClock, MessageIdGenerator) {
        let clock = TestClock::default();
        (clock.clone(), MessageIdGenerator::new(Arc::new(clock)))
    }

    #[test]
    fn ids_increase_while_the_clock_stands_still() {
        let (clock, generator) = generator();
        let ids: Vec<_> = (0..1_000).map(|_| generator.mint()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(ids[0].time(), clock.now());
    }

    #[test]
    fn a_large_step_back_is_followed() {
        let (clock, generator) = generator();
        generator.mint();
        clock.rewind(Duration::from_secs(10));
        assert_eq!(generator.mint().time(), clock.now());
    }

    #[test]
    fn a_step_back_never_repeats_an_id() {
        let (clock, generator) = generator();
        let mut seen = HashSet::new();
        for step in 0..400 {
            assert!(seen.insert(generator.mint()), "id repeated at step {step}");
            match step % 5 {
                0 => clock.advance(Duration::from_micros(700)),
                1 => clock.rewind(Duration::from_micros(300)),
                2 => clock.rewind(Duration::from_secs(3)),
                3 => clock.advance(Duration::from_secs(3)),
                _ => {}
            }
        }
    }

    #[test]
    fn timeuuid_round_trip_keeps_time_and_version() {
        let (_, generator) = generator();
        let id = generator.mint();
        let bytes = id.to_timeuuid();
        assert_eq!(bytes[6] >> 4, 1, "version 1");
        assert_eq!(bytes[8] >> 6, 0b10, "RFC variant");
        assert_eq!(MessageId::from_timeuuid(bytes), id);
        assert_eq!(MessageId::from_bytes(id.to_bytes()), id);
    }

    #[test]
    fn byte_order_is_time_order() {
        let (clock, generator) = generator();
        let early = generator.mint();
        clock.advance(Duration::from_secs(400_000));
        let late = generator.mint();
        assert!(early.to_bytes() < late.to_bytes());
        assert!(MessageId::last_at(early.time()) >= early);
        assert!(MessageId::last_at(early.time()) < late);
    }
}
