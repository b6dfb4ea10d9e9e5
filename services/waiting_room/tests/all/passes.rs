//! From a call to a pass that is used once, by the device that waited.

use std::collections::HashSet;
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;
use spillway_types::{Secret, Timestamp};
use spillway_waiting_room::{
    CHALLENGE_LIFETIME, Challenge, ClaimError, DeviceKey, Flags, KeyId, NetworkHash, PASS_LIFETIME, Pass,
    PassError, PassId, Room, SealKeys, SealedPass, SealedTicket, TICKET_LIFETIME, Ticket, UseError, Used,
    claim, claim_message, pass_message,
};

const ROOM: Room = Room(3);
const NUMBER: &[u8] = b"+4930123456";

struct Device {
    signing: SigningKey,
    key: DeviceKey,
}

impl Device {
    fn new(byte: u8) -> Self {
        let signing = SigningKey::from_bytes(&[byte; 32]);
        let key = DeviceKey::from_bytes(signing.verifying_key().to_bytes());
        Self { signing, key }
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

fn keys() -> SealKeys {
    SealKeys::new(KeyId(1), &Secret::from_bytes([1; 32]))
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_610_722_800_000)
}

fn ticket(device: &Device, seq: u64) -> Ticket {
    Ticket {
        room: ROOM,
        seq,
        issued: now(),
        lifetime: TICKET_LIFETIME,
        late: None,
        flags: Flags::default(),
        device: device.key.hash(),
        network: NetworkHash::from_bytes([0; 8]),
    }
}

fn claimed(
    device: &Device,
    sealed: &SealedTicket,
    ticket: &Ticket,
    challenge: &[u8],
    at: Timestamp,
) -> Result<Pass, ClaimError> {
    let signature = device.sign(&claim_message(sealed, challenge));
    claim(&keys(), sealed, ticket, challenge, &device.key, &signature, at)
}

fn used(device: &Device, pass: &SealedPass, number: &[u8], at: Timestamp) -> Result<Pass, PassError> {
    let signature = device.sign(&pass_message(pass, number));
    Pass::open(pass.as_bytes(), &keys(), ROOM, &device.key, number, &signature, at)
}

#[test]
fn a_claim_gives_the_device_a_pass() {
    let (keys, device) = (keys(), Device::new(9));
    let ticket = ticket(&device, 44);
    let sealed = ticket.seal(&keys);
    let challenge = Challenge::new(&keys, &sealed, now());
    let pass = claimed(&device, &sealed, &ticket, challenge.as_bytes(), now()).unwrap();
    assert_eq!(pass.id, PassId { room: ROOM, seq: 44 });
    let opened = used(&device, &pass.seal(&keys), NUMBER, now()).unwrap();
    assert_eq!(opened, pass);
}

#[test]
fn a_copied_ticket_claims_nothing() {
    let (keys, device, thief) = (keys(), Device::new(9), Device::new(8));
    let ticket = ticket(&device, 44);
    let sealed = ticket.seal(&keys);
    let challenge = Challenge::new(&keys, &sealed, now());
    let bytes = challenge.as_bytes();
    assert_eq!(claimed(&thief, &sealed, &ticket, bytes, now()), Err(ClaimError::OtherDevice));
    // The right key, which is public, and a signature by another one.
    let signature = thief.sign(&claim_message(&sealed, bytes));
    let result = claim(&keys, &sealed, &ticket, bytes, &device.key, &signature, now());
    assert!(matches!(result, Err(ClaimError::Signature(_))), "{result:?}");
}

#[test]
fn a_challenge_is_good_for_one_ticket_and_two_minutes() {
    let (keys, device) = (keys(), Device::new(9));
    let (first, second) = (ticket(&device, 44), ticket(&device, 45));
    let (sealed, other) = (first.seal(&keys), second.seal(&keys));
    let challenge = Challenge::new(&keys, &sealed, now());
    let bytes = challenge.as_bytes();
    let late = now().saturating_add(CHALLENGE_LIFETIME + Duration::from_secs(1));
    assert_eq!(claimed(&device, &sealed, &first, bytes, late), Err(ClaimError::Stale));
    assert_eq!(claimed(&device, &other, &second, bytes, now()), Err(ClaimError::Forged));
    assert_eq!(claimed(&device, &sealed, &first, &bytes[1..], now()), Err(ClaimError::Length(24)));
    // Made by a gateway whose clock is an hour ahead.
    let ahead = Challenge::new(&keys, &sealed, now().saturating_add(Duration::from_secs(3_600)));
    assert_eq!(claimed(&device, &sealed, &first, ahead.as_bytes(), now()), Err(ClaimError::Stale));
}

#[test]
fn a_pass_is_for_its_device_its_number_and_ten_minutes() {
    let (keys, device, thief) = (keys(), Device::new(9), Device::new(8));
    let id = PassId { room: ROOM, seq: 1 };
    let pass = Pass { id, device: device.key.hash(), expires: now().saturating_add(PASS_LIFETIME) };
    let sealed = pass.seal(&keys);
    assert_eq!(used(&thief, &sealed, NUMBER, now()), Err(PassError::OtherDevice));
    assert_eq!(used(&device, &sealed, NUMBER, pass.expires), Err(PassError::Expired(pass.expires)));
    let signature = device.sign(&pass_message(&sealed, b"+4930654321"));
    let result = Pass::open(sealed.as_bytes(), &keys, ROOM, &device.key, NUMBER, &signature, now());
    assert!(matches!(result, Err(PassError::Signature(_))), "{result:?}");
    for bit in 0..sealed.as_bytes().len() * 8 {
        let mut bytes = *sealed.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let signature = device.sign(&pass_message(&sealed, NUMBER));
        assert!(
            Pass::open(&bytes, &keys, ROOM, &device.key, NUMBER, &signature, now()).is_err(),
            "bit {bit}"
        );
    }
}

#[test]
fn a_full_set_lets_nobody_in() {
    let mut used = Used::new(2);
    let pass = |seq, at: Timestamp| Pass {
        id: PassId { room: ROOM, seq },
        device: Device::new(1).key.hash(),
        expires: at.saturating_add(PASS_LIFETIME),
    };
    assert_eq!(used.use_up(&pass(1, now()), now()), Ok(()));
    assert_eq!(used.use_up(&pass(5_000, now()), now()), Ok(()));
    assert_eq!(used.use_up(&pass(9_000, now()), now()), Err(UseError::Full));
    // Once the old ones mean nothing any more, there is room.
    let later = now().saturating_add(Duration::from_secs(2 * 3_600));
    assert_eq!(used.use_up(&pass(9_000, later), later), Ok(()));
    assert_eq!(used.pages(), 1);
}

proptest! {
    /// Claimed as often as anybody likes, while it can be claimed at all: one use.
    #[test]
    fn no_pass_is_used_twice(
        uses in prop::collection::vec((1u64..3_000, 0u64..60, any::<bool>()), 1..400),
    ) {
        let (mut set, mut seen) = (Used::new(10), HashSet::new());
        let device = Device::new(1).key.hash();
        let mut at = now();
        let end = now().saturating_add(Duration::from_secs(3_600));
        for (seq, pause, forget) in uses {
            at = at.saturating_add(Duration::from_secs(pause)).min(end);
            let id = PassId { room: ROOM, seq };
            let pass = Pass { id, device, expires: at.saturating_add(PASS_LIFETIME) };
            if forget {
                set.forget(at);
            }
            let expected = if seen.insert(seq) { Ok(()) } else { Err(UseError::Again) };
            prop_assert_eq!(set.use_up(&pass, at), expected);
            prop_assert!(set.pages() <= 3);
        }
    }
}
