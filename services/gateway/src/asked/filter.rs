//! A Bloom filter that keeps the bits of a key in one line of the processor's cache: to look a key up, and to put it in,
//! costs one access to memory and not one for each bit (Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient
//! Bloom Filters", 2007). The price is a bit more for each key, because lines fill unevenly.
//!
//! The directory's filter, whose keys are nearly all strangers, ends at the first bit that is not set, so `fastbloom` does for it. Here nearly every
//! key is put in, and with a library that spreads the bits that was a fifth of what a question costs.

use std::sync::atomic::{AtomicU64, Ordering};

/// With [`BITS_SET`], 4 of 1,000 keys that are not in a full filter seem to be in it.
const BITS_PER_KEY: usize = 12;
const BITS_SET: u32 = 7;
const WORDS: usize = 8;
/// Of the bits of a line, which there are 512 of.
const PLACE_BITS: u32 = 9;

#[derive(Debug)]
#[repr(align(64))]
struct Line([AtomicU64; WORDS]);

#[derive(Debug)]
pub(super) struct Filter(Box<[Line]>);

impl Filter {
    /// Has room for `keys`, at least one.
    pub(super) fn with_room_for(keys: usize) -> Self {
        let lines = (keys * BITS_PER_KEY).div_ceil(size_of::<Line>() * 8).max(1);
        Self((0..lines).map(|_| Line([const { AtomicU64::new(0) }; WORDS])).collect())
    }

    pub(super) fn has(&self, hash: u64) -> bool {
        let line = self.line(hash);
        places(hash).all(|(word, bit)| line.0[word].load(Ordering::Relaxed) & bit != 0)
    }

    /// Whether it was not there.
    pub(super) fn insert(&self, hash: u64) -> bool {
        if self.has(hash) {
            return false;
        }
        let line = self.line(hash);
        for (word, bit) in places(hash) {
            line.0[word].fetch_or(bit, Ordering::Relaxed);
        }
        true
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// By the upper bits of the hash, as Lemire's "Fast Random Integer Generation in an Interval" (2019) does.
    fn line(&self, hash: u64) -> &Line {
        let line = (u128::from(hash) * self.0.len() as u128) >> u64::BITS;
        &self.0[line as usize]
    }
}

/// The words and bits of a line that are set for a hash. Those of hashes with the same line differ as well.
fn places(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    // Splitmix64's last steps (Steele, Lea and Flood, 2014).
    let mixed = (hash ^ (hash >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mixed = mixed ^ (mixed >> 32);
    (0..BITS_SET).map(move |n| {
        let place = (mixed >> (n * PLACE_BITS)) & ((1 << PLACE_BITS) - 1);
        ((place >> 6) as usize, 1 << (place & 63))
    })
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn a_full_filter_has_all_that_was_put_in_and_little_else() {
        const KEYS: usize = 100_000;
        let hasher = RandomState::new();
        let filter = Filter::with_room_for(KEYS);
        assert_eq!(filter.bytes(), 150_016);
        let mut taken_for_old = 0;
        for key in 0..KEYS {
            taken_for_old += usize::from(!filter.insert(hasher.hash_one(key)));
        }
        assert!((0..KEYS).all(|key| filter.has(hasher.hash_one(key))));
        let strangers = (KEYS..2 * KEYS).filter(|key| filter.has(hasher.hash_one(key))).count();
        // 413 on average, give or take 20.
        assert!(strangers < 500, "{strangers} of {KEYS}");
        assert!(taken_for_old < strangers, "{taken_for_old}, {strangers}");
    }

    #[test]
    fn the_smallest_works() {
        let filter = Filter::with_room_for(1);
        assert!(!filter.has(7));
        assert!(filter.insert(7));
        assert!(!filter.insert(7));
    }
}
