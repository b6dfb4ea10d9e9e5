//! Tickets: what was sealed opens, and nothing else does.

use std::time::Duration;

use proptest::prelude::*;
use spillway_types::{Secret, Timestamp};
use spillway_waiting_room::{
    DeviceHash, Flags, KeyId, Late, NetworkHash, Room, SealKeys, TICKET_BYTES, Ticket, TicketError,
};

fn secret(byte: u8) -> Secret {
    Secret::from_bytes([byte; 32])
}

prop_compose! {
    fn ticket()(
        room: u16,
        seq: u64,
        issued in 0u64..1 << 53,
        lifetime in 1u32..,
        late in prop::option::of((1u8.., 0u64..1 << 53)),
        flags: u8,
        device: [u8; 16],
        network: [u8; 8],
    ) -> Ticket {
        Ticket {
            room: Room(room),
            seq,
            issued: Timestamp::from_micros(issued),
            lifetime: Duration::from_secs(lifetime.into()),
            late: late.map(|(times, called)| Late { times, called: Timestamp::from_micros(called) }),
            flags: Flags(flags),
            device: DeviceHash::from_bytes(device),
            network: NetworkHash::from_bytes(network),
        }
    }
}

proptest! {
    #[test]
    fn what_was_sealed_opens(ticket in ticket()) {
        let keys = SealKeys::new(KeyId(7), &secret(1));
        let sealed = ticket.seal(&keys);
        prop_assert!(sealed.as_bytes().len() <= 96);
        let open = |room, now| Ticket::open(sealed.as_bytes(), &keys, room, now);
        prop_assert_eq!(open(ticket.room, ticket.issued), Ok(ticket));
        let expires = ticket.expires();
        prop_assert_eq!(open(ticket.room, expires), Err(TicketError::Expired(expires)));
        let other = Room(ticket.room.0.wrapping_add(1));
        prop_assert_eq!(open(other, ticket.issued), Err(TicketError::OtherRoom));
        let others = SealKeys::new(KeyId(7), &secret(2));
        prop_assert_eq!(Ticket::open(sealed.as_bytes(), &others, ticket.room, ticket.issued), Err(TicketError::Forged));
    }

    #[test]
    fn a_flipped_bit_is_refused(ticket in ticket(), bit in 0..TICKET_BYTES * 8) {
        let keys = SealKeys::new(KeyId(7), &secret(1));
        let mut bytes = *ticket.seal(&keys).as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let expected = match bit / 8 {
            0 => TicketError::Version(bytes[0]),
            1 => TicketError::UnknownKey(KeyId(bytes[1])),
            _ => TicketError::Forged,
        };
        prop_assert_eq!(Ticket::open(&bytes, &keys, ticket.room, ticket.issued), Err(expected));
    }

    #[test]
    fn another_length_is_refused(ticket in ticket(), bytes in prop::collection::vec(any::<u8>(), 0..200), keep: bool) {
        let keys = SealKeys::new(KeyId(7), &secret(1));
        // The ticket's own bytes cut off or continued, or any.
        let mut given = bytes;
        if keep {
            let sealed = ticket.seal(&keys);
            let common = given.len().min(TICKET_BYTES);
            given[..common].copy_from_slice(&sealed.as_bytes()[..common]);
        }
        prop_assume!(given.len() != TICKET_BYTES);
        let length = given.len();
        prop_assert_eq!(Ticket::open(&given, &keys, ticket.room, ticket.issued), Err(TicketError::Length(length)));
    }

    /// Gateways learn and switch at different times, a day apart; a ticket of less than a day opens everywhere for all of its life.
    #[test]
    fn keys_change_under_the_queue(
        issued in 0u64..5 * DAY, asked_after in 0u64..23 * 3_600, lags in prop::array::uniform2(0u64..300),
    ) {
        let now = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
        let ticket = Ticket {
            room: Room(1),
            seq: 5,
            issued: now(issued),
            lifetime: Duration::from_secs(23 * 3_600),
            late: None,
            flags: Flags::default(),
            device: DeviceHash::from_bytes([1; 16]),
            network: NetworkHash::from_bytes([2; 8]),
        };
        let sealed = ticket.seal(&keys_at(issued, lags[0]));
        let opener = keys_at(issued + asked_after, lags[1]);
        prop_assert_eq!(Ticket::open(sealed.as_bytes(), &opener, Room(1), now(issued + asked_after)), Ok(ticket));
    }
}

const DAY: u64 = 24 * 3_600;

/// What a gateway knows that does everything `lag` seconds late: a key learnt each day, and sealed with ten minutes later.
fn keys_at(seconds: u64, lag: u64) -> SealKeys {
    let mut keys = SealKeys::new(KeyId(0), &secret(0));
    for day in 1..=seconds / DAY {
        let id = KeyId(u8::try_from(day).expect("some days"));
        if seconds >= day * DAY + lag {
            keys.learn(id, &secret(id.0)).expect("a new key");
        }
        if seconds >= day * DAY + lag + 600 {
            keys.switch(id).expect("a learnt key");
        }
    }
    keys
}
