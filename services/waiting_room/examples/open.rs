//! What a poll, a claim and a place in a lottery cost: `cargo run --release -p spillway-waiting-room --example open`.
//!
//! Prints nanoseconds for one, the best of twenty batches.

// The one place that measures real time.
#![allow(clippy::disallowed_types)]

use std::hint::black_box;
use std::time::Instant;

use spillway_types::{Secret, Timestamp};
use spillway_waiting_room::{
    DeviceKey, Difficulty, Door, Flags, KeyId, Lottery, NetworkHash, Pool, Room, SealKeys, TICKET_LIFETIME,
    Ticket,
};

const BATCHES: u32 = 20;

fn main() {
    let keys = SealKeys::new(KeyId(1), &Secret::from_bytes([1; 32]));
    let secret = Secret::from_bytes([2; 32]);
    let device = DeviceKey::from_bytes([3; 32]);
    let now = Timestamp::from_millis(1_610_722_800_000);
    let ticket = Ticket {
        room: Room(1),
        seq: 123_456,
        issued: now,
        lifetime: TICKET_LIFETIME,
        late: None,
        flags: Flags::default(),
        device: device.hash(),
        network: NetworkHash::from_bytes([0; 8]),
    };
    let sealed = ticket.seal(&keys);
    let mut forged = *sealed.as_bytes();
    forged[20] ^= 1;
    let lottery = Lottery::draw(&secret, Room(1), Pool { first: 1, count: 1_000_000 });
    let door = Door::new(&secret);
    let easy = Difficulty::new(0);
    let puzzle = door.puzzle(&device, Difficulty::new(Difficulty::MAX), now);

    print("ticket opened", 100_000, || Ticket::open(black_box(sealed.as_bytes()), &keys, Room(1), now));
    print("forged ticket refused", 100_000, || Ticket::open(black_box(&forged), &keys, Room(1), now));
    print("ticket sealed", 100_000, || black_box(&ticket).seal(&keys));
    print("place in a lottery of a million", 10_000, || lottery.place(black_box(77_777)));
    print("proof of work checked", 100_000, || door.check(&device, easy, easy, black_box(7), now));
    print("thousand hashes of a solver", 100, || puzzle.solve(black_box(0), 1_000));
    // A key that is a point of the curve, and a signature that is none of its: all of the work but the answer.
    let point = DeviceKey::from_bytes([
        0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
        0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    ]);
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(point.as_bytes());
    print("signature verified", 1_000, || point.verify(black_box(b"message"), &signature));
}

fn print<T>(what: &str, times: u32, mut run: impl FnMut() -> T) {
    let batch = |_| {
        let start = Instant::now();
        for _ in 0..times {
            black_box(run());
        }
        start.elapsed().as_nanos() as f64 / f64::from(times)
    };
    let best = (0..BATCHES).map(batch).fold(f64::INFINITY, f64::min);
    println!("{what:32} {best:9.0} ns");
}
