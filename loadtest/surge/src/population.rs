//! The people: person `i` of a seed is always the same person, so no state needs to be kept or shared.

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use spillway_api::v1;
use spillway_client::NewDevice;

/// Country codes with a share of the January 2021 exodus, and a mobile prefix that leaves eight digits free and is
/// valid in the country's numbering plan. India, Germany, Brazil and Mexico led the download charts of that week.
const PREFIXES: [&str; 4] = ["+9198", "+49151", "+55119", "+9170"];
/// Subscriber numbers under each prefix.
const SUBSCRIBERS: u64 = 100_000_000;

/// From one person to the next: the golden section of [`SUBSCRIBERS`], without a factor in common. People do not live in blocks of numbers, and a
/// service that looks for blocks must not find any.
const STRIDE: u64 = 61_803_399;

/// One-time prekeys that a phone uploads when it signs up. Phones of 2021 uploaded 100; ten keep the store's share
/// of a sign-up in proportion without making the generator encode megabytes.
const ONE_TIME_KEYS: u32 = 10;

/// Everybody who could be in a run.
#[derive(Clone, Copy, Debug)]
pub struct Population {
    seed: u64,
}

/// Person `i`.
#[derive(Clone, Debug)]
pub struct Person {
    pub index: u64,
    pub number: String,
}

impl Population {
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Two different indices below 400 million are two different numbers.
    pub fn person(&self, index: u64) -> Person {
        Person { index, number: self.number(index) }
    }

    fn number(&self, index: u64) -> String {
        let prefix = PREFIXES[(index % PREFIXES.len() as u64) as usize];
        // Another seed is another part of the numbering plan, so that runs against one server do not meet.
        let offset = splitmix(self.seed) % SUBSCRIBERS;
        let subscriber = (index / PREFIXES.len() as u64 * STRIDE + offset) % SUBSCRIBERS;
        format!("{prefix}{subscriber:08}")
    }

    /// An address book of `size` numbers, of which at least one and otherwise a share of `registered` belong to
    /// people below `existing`, with those people by number; the rest belong to nobody.
    pub fn address_book(
        &self,
        index: u64,
        size: usize,
        registered: f64,
        existing: u64,
    ) -> (Vec<String>, Vec<(String, u64)>) {
        let mut random = self.random(index, 0x0B00);
        let mut known = Vec::new();
        let book = (0..size).map(|entry| {
            // A newcomer came because of somebody.
            if entry == 0 || random.random::<f64>() < registered {
                let friend = random.random_range(0..existing.max(1));
                known.push((self.number(friend), friend));
                self.number(friend)
            } else {
                // Nobody signs up with an index this high.
                self.number(random.random_range(200_000_000..300_000_000))
            }
        });
        (book.collect(), known)
    }

    /// The device that person `index` signs up with.
    pub fn device(&self, index: u64) -> NewDevice {
        let mut random = self.random(index, 0xDE01);
        let mut key = |length: usize| {
            let mut bytes = vec![0; length];
            random.fill_bytes(&mut bytes);
            Bytes::from(bytes)
        };
        let signed = v1::SignedPreKey { key_id: 1, public_key: key(33), signature: key(64) };
        let last_resort = v1::SignedPreKey { key_id: 2, public_key: key(33), signature: key(64) };
        let one_time =
            (0..ONE_TIME_KEYS).map(|n| v1::OneTimePreKey { key_id: 100 + n, public_key: key(33) }).collect();
        NewDevice {
            identity_key: key(33),
            registration_id: registration_id(index),
            name: Bytes::from_static(b"surge"),
            prekeys: v1::PreKeys { signed: Some(signed), last_resort: Some(last_resort), one_time },
            discoverable: true,
        }
    }

    /// What draws how person `index` behaves.
    pub(crate) fn manner(&self, index: u64) -> SmallRng {
        self.random(index, 0x3A22)
    }

    /// The key with which that device holds its place in a waiting room.
    pub fn device_secret(&self, index: u64) -> [u8; 32] {
        self.random(index, 0x5EC2).random()
    }

    fn random(&self, index: u64, purpose: u64) -> SmallRng {
        SmallRng::seed_from_u64(splitmix(self.seed ^ splitmix(index ^ splitmix(purpose))))
    }
}

/// The registration id of person `index`'s device: 14 bits, as phones use, never 0.
pub fn registration_id(index: u64) -> u32 {
    (splitmix(index) as u32 & 0x3FFF).max(1)
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014): a bijection, so that no two inputs collide.
fn splitmix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use spillway_types::PhoneNumber;

    use super::*;

    #[test]
    fn every_number_is_valid_and_nobody_shares_one() {
        let population = Population::new(2021);
        let mut numbers = HashSet::new();
        for index in (0..400).chain((0..4_000_000).step_by(9_973)) {
            let person = population.person(index);
            PhoneNumber::parse(&person.number).unwrap_or_else(|error| panic!("{}: {error}", person.number));
            numbers.insert(person.number);
        }
        let indices: HashSet<u64> = (0..400).chain((0..4_000_000).step_by(9_973)).collect();
        assert_eq!(numbers.len(), indices.len());
    }

    #[test]
    fn neighbours_have_numbers_that_are_far_apart() {
        let population = Population::new(5);
        let block = |index| population.person(index).number.chars().take(9).collect::<String>();
        let blocks: HashSet<_> = (0..400).map(block).collect();
        assert!(blocks.len() > 390, "{}", blocks.len());
    }

    #[test]
    fn the_same_seed_gives_the_same_person() {
        let [a, b, other] = [Population::new(7), Population::new(7), Population::new(8)];
        assert_eq!(a.person(3).number, b.person(3).number);
        assert_eq!(a.device(3).identity_key, b.device(3).identity_key);
        assert_eq!(a.device_secret(3), b.device_secret(3));
        assert_ne!(a.device_secret(3), a.device_secret(4));
        assert_eq!(a.address_book(3, 50, 0.1, 1_000), b.address_book(3, 50, 0.1, 1_000));
        assert_ne!(a.person(3).number, other.person(3).number);
    }

    #[test]
    fn an_address_book_holds_the_share_of_registered_people() {
        let population = Population::new(1);
        let existing: HashSet<String> = (0..100).map(|i| population.person(i).number).collect();
        let books = (0..200).flat_map(|i| population.address_book(i, 50, 0.1, 100).0);
        let hits = books.filter(|number| existing.contains(number)).count();
        assert!((950..1_450).contains(&hits), "10,000 numbers at a share of 0.1 and one gave {hits}");
    }
}
