//! A scheduled opening: whoever comes in the minute before it takes part in a lottery, so that a fast network wins nothing.
//!
//! Numbers are given out as always. When the minute is over, the pool is known: the numbers lent in it. The place of each is drawn by a
//! permutation of the pool under a key that no device has, so every gateway computes the same place from the number alone, and nothing is
//! stored. Whoever comes later has a higher number than all of the pool, and keeps it as his place. The permutation depends on
//! how many are in the pool, so nobody can know a place before the draw, not even with the key.
//!
//! The permutation: a Feistel network of six rounds over pairs of numbers below the root of the pool's size, with keyed BLAKE3 for its rounds; what falls outside
//! of the pool is sent through again (cycle walking; Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). Some 1 µs.

use spillway_types::Secret;

use crate::ticket::Room;

/// The numbers among which places are drawn. None before the draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub first: u64,
    pub count: u64,
}

/// A pool's draw.
#[derive(Clone, Debug)]
pub struct Lottery {
    pool: Pool,
    key: Secret,
    /// The least number whose square is not below the pool's size.
    side: u64,
}

const ROUNDS: u8 = 6;

impl Pool {
    pub const fn contains(&self, number: u64) -> bool {
        number >= self.first && number - self.first < self.count
    }

    /// The last number of it; the one before the first if it is empty.
    pub const fn last(&self) -> u64 {
        self.first + self.count - 1
    }
}

impl Lottery {
    /// `secret`: known to all gateways and to no device.
    pub fn draw(secret: &Secret, room: Room, pool: Pool) -> Self {
        let (room, first, count) = (room.0.to_be_bytes(), pool.first.to_be_bytes(), pool.count.to_be_bytes());
        let root = pool.count.isqrt();
        let side = if root * root < pool.count { root + 1 } else { root };
        Self { pool, key: secret.derive("waiting room lottery v1", &[&room, &first, &count]), side }
    }

    pub const fn pool(&self) -> Pool {
        self.pool
    }

    /// The place of whoever has `seq`.
    pub fn place(&self, seq: u64) -> u64 {
        if !self.pool.contains(seq) {
            return seq;
        }
        let mut at = self.permute(seq - self.pool.first);
        while at >= self.pool.count {
            at = self.permute(at);
        }
        self.pool.first + at
    }

    fn permute(&self, at: u64) -> u64 {
        let (mut left, mut right) = (at / self.side, at % self.side);
        for round in 0..ROUNDS {
            (left, right) = (right, (left + self.round(round, right)) % self.side);
        }
        left * self.side + right
    }

    fn round(&self, round: u8, half: u64) -> u64 {
        let mut input = [round; 9];
        input[1..].copy_from_slice(&half.to_be_bytes());
        let hash = blake3::keyed_hash(self.key.expose(), &input);
        let (bytes, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        // 64 bits modulo a side of at most 2^32: a bias of 2^-32. Below 2^63, so that the sum above does not overflow.
        u64::from_be_bytes(*bytes) >> 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lottery(key: u8, first: u64, count: u64) -> Lottery {
        Lottery::draw(&Secret::from_bytes([key; 32]), Room(1), Pool { first, count })
    }

    #[test]
    fn places_have_nothing_to_do_with_arrival() {
        const COUNT: u64 = 20_000;
        let lottery = lottery(1, 1, COUNT);
        // Spearman's rho of independent orders has the deviation 1 / sqrt(n).
        let mean = (COUNT as f64 + 1.0) / 2.0;
        let covariance: f64 =
            (1..=COUNT).map(|seq| (seq as f64 - mean) * (lottery.place(seq) as f64 - mean)).sum();
        let variance: f64 = (1..=COUNT).map(|seq| (seq as f64 - mean).powi(2)).sum();
        let rho = covariance / variance;
        assert!(rho.abs() < 4.0 / (COUNT as f64).sqrt(), "{rho}");
        // Neighbours do not stay neighbours.
        let near =
            (1..COUNT).filter(|&seq| lottery.place(seq).abs_diff(lottery.place(seq + 1)) < 100).count();
        let chance = COUNT as f64 * 200.0 / COUNT as f64;
        assert!((near as f64) < chance * 1.5, "{near} of {chance}");
    }

    #[test]
    fn another_size_or_key_is_another_draw() {
        let places = |lottery: Lottery| (1..=1_000).map(|seq| lottery.place(seq)).collect::<Vec<_>>();
        let base = places(lottery(1, 1, 1_000));
        for other in [lottery(2, 1, 1_000), lottery(1, 1, 1_001)] {
            let same = places(other).iter().zip(&base).filter(|(a, b)| a == b).count();
            assert!(same < 10, "{same}");
        }
    }

    proptest! {
        #[test]
        fn every_place_is_drawn_once_and_later_numbers_stay_behind(
            key: u8, first in 1u64..1_000_000, count in 0u64..3_000, later in 0u64..1_000_000,
        ) {
            let lottery = lottery(key, first, count);
            let mut places: Vec<_> = (first..first + count).map(|seq| lottery.place(seq)).collect();
            places.sort_unstable();
            prop_assert_eq!(places, (first..first + count).collect::<Vec<_>>());
            let later = first + count + later;
            prop_assert_eq!(lottery.place(later), later);
            prop_assert_eq!(lottery.place(first - 1), first - 1);
        }
    }
}
