//! Proof of work at the door: what a machine must do for each ticket, and a phone does in a blink.
//!
//! The challenge is a keyed hash of the device key, the time and the difficulty, so it is computed again when the solution comes, and nothing is remembered of who asked. It
//! buys a gateway's peace cheaply (one hash to check); it does not tell a person from a machine, and never stands alone.

use std::time::Duration;

use spillway_types::{Secret, Timestamp};

use crate::device::DeviceKey;

/// Leading zero bits. Each more doubles the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difficulty(u8);

/// What must be hashed with a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Puzzle {
    pub challenge: [u8; 16],
    pub difficulty: Difficulty,
}

/// Makes puzzles and checks solutions.
#[derive(Clone, Debug)]
pub struct Door {
    secret: Secret,
}

/// Chooses the difficulty from the rate at which tickets are asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DifficultyLaw {
    pub least: Difficulty,
    pub most: Difficulty,
    /// Tickets a second up to which the least is asked; each doubling above adds a bit.
    pub calm: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// Less than is asked now, and than was asked a minute ago.
    #[error("a difficulty of {0} bits is not enough")]
    TooEasy(u8),
    /// Another device's, an older one's, or none.
    #[error("not a solution")]
    Wrong,
}

/// A puzzle is good in the minute in which it was made and in the next one.
pub const PUZZLE_MINUTE: Duration = Duration::from_secs(60);

impl Difficulty {
    /// 2^26 hashes take a phone a minute; nobody may be asked for more.
    pub const MAX: u8 = 26;

    pub const fn new(bits: u8) -> Self {
        Self(if bits > Self::MAX { Self::MAX } else { bits })
    }

    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Hashes that a solution takes on average.
    pub const fn expected(self) -> u64 {
        1 << self.0
    }
}

impl Default for DifficultyLaw {
    /// 15 bits are 33,000 hashes, 33 ms at a million a second, which is a phone of some years ago. 21 are two seconds: for a million machines'
    /// tickets, 23 days of one processor.
    fn default() -> Self {
        Self { least: Difficulty(15), most: Difficulty(21), calm: 100.0 }
    }
}

impl DifficultyLaw {
    /// `rate`: tickets asked for, a second.
    pub fn difficulty(&self, rate: f64) -> Difficulty {
        let more = (rate / self.calm).log2();
        // `as` saturates, and what is not a number is 0.
        let bits = self.least.0.saturating_add(more.max(0.0).floor() as u8);
        Difficulty::new(bits.clamp(self.least.0, self.most.0.max(self.least.0)))
    }
}

impl Door {
    /// `secret`: the same at all gateways, because the solution may come to another one.
    pub fn new(secret: &Secret) -> Self {
        Self { secret: secret.derive("waiting room puzzle v1", &[]) }
    }

    pub fn puzzle(&self, device: &DeviceKey, difficulty: Difficulty, now: Timestamp) -> Puzzle {
        self.at(device, difficulty, minute(now))
    }

    /// Checks a solution with two hashes, or four if it is of the minute before. `asked`: the least difficulty that has been asked of anybody within two minutes. The same
    /// solution can be shown again while it is good, for a ticket of the same device: of those, one is live.
    ///
    /// # Errors
    ///
    /// [`WorkError`].
    pub fn check(
        &self,
        device: &DeviceKey,
        difficulty: Difficulty,
        asked: Difficulty,
        solution: u64,
        now: Timestamp,
    ) -> Result<(), WorkError> {
        if difficulty < asked {
            return Err(WorkError::TooEasy(difficulty.0));
        }
        let minute = minute(now);
        let solved = |minute| self.at(device, difficulty, minute).is_solved_by(solution);
        if solved(minute) || minute.checked_sub(1).is_some_and(solved) {
            Ok(())
        } else {
            Err(WorkError::Wrong)
        }
    }

    fn at(&self, device: &DeviceKey, difficulty: Difficulty, minute: u64) -> Puzzle {
        let mut input = [0; 41];
        input[..32].copy_from_slice(device.as_bytes());
        input[32..40].copy_from_slice(&minute.to_be_bytes());
        input[40] = difficulty.0;
        let hash = blake3::keyed_hash(self.secret.expose(), &input);
        let mut challenge = [0; 16];
        challenge.copy_from_slice(&hash.as_bytes()[..16]);
        Puzzle { challenge, difficulty }
    }
}

impl Puzzle {
    /// The client's half: the least counter from `start` that solves it, within so many hashes. A client that shows progress calls it
    /// with slices.
    pub fn solve(&self, start: u64, hashes: u64) -> Option<u64> {
        (start..start.saturating_add(hashes)).find(|counter| self.is_solved_by(*counter))
    }

    fn is_solved_by(&self, counter: u64) -> bool {
        let mut input = [0; 24];
        input[..16].copy_from_slice(&self.challenge);
        input[16..].copy_from_slice(&counter.to_be_bytes());
        let hash = blake3::hash(&input);
        let (bytes, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        u64::from_be_bytes(*bytes).leading_zeros() >= u32::from(self.difficulty.0)
    }
}

fn minute(now: Timestamp) -> u64 {
    now.as_millis() / 60_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solution_is_good_for_its_device_its_minute_and_the_next() {
        let door = Door::new(&Secret::from_bytes([5; 32]));
        let (device, other) = (DeviceKey::from_bytes([1; 32]), DeviceKey::from_bytes([2; 32]));
        let difficulty = Difficulty::new(12);
        let now = Timestamp::from_millis(1_000 * 60_000);
        let solution = door.puzzle(&device, difficulty, now).solve(0, u64::MAX).unwrap();
        let check = |device, at| door.check(device, difficulty, difficulty, solution, now.saturating_add(at));
        assert_eq!(check(&device, Duration::ZERO), Ok(()));
        assert_eq!(check(&device, Duration::from_secs(119)), Ok(()));
        assert_eq!(check(&device, Duration::from_secs(120)), Err(WorkError::Wrong));
        assert_eq!(check(&other, Duration::ZERO), Err(WorkError::Wrong));
        let harder = door.check(&device, difficulty, Difficulty::new(13), solution, now);
        assert_eq!(harder, Err(WorkError::TooEasy(12)));
        // The difficulty is in the challenge, so that an easy puzzle's luck is no hard one's.
        let claimed = door.check(&device, Difficulty::new(13), difficulty, solution, now);
        assert_eq!(claimed, Err(WorkError::Wrong));
    }

    #[test]
    fn work_doubles_with_each_bit() {
        let door = Door::new(&Secret::from_bytes([6; 32]));
        let hashes = |bits| {
            let solve = |n: u8| {
                let device = DeviceKey::from_bytes([n; 32]);
                door.puzzle(&device, Difficulty::new(bits), Timestamp::ZERO).solve(0, u64::MAX).unwrap()
            };
            (0..200).map(solve).sum::<u64>() as f64 / 200.0
        };
        for bits in [4, 8] {
            let expected = Difficulty::new(bits).expected() as f64;
            assert!((hashes(bits) / expected - 1.0).abs() < 0.25, "{bits}: {}", hashes(bits));
        }
    }

    #[test]
    fn difficulty_follows_the_rate_within_bounds() {
        let law = DifficultyLaw::default();
        let bits = |rate| law.difficulty(rate).bits();
        assert_eq!([0.0, 100.0, 250.0, 1_600.0, 1e9, f64::NAN].map(bits), [15, 15, 16, 19, 21, 15]);
    }
}
