//! A set of numbers that may say yes too often, never no, and grows.
//!
//! Its size has to be known before the first number is in, and is not: entries are counted by walking over them, and come
//! by the hundred a second on a bad day. So it is a list of Bloom filters, each sized when the one before is full: as large
//! as all before it together, and with half of the false positives that the one before may have, so that the sum stays
//! below 1 % (Almeida et al., "Scalable Bloom Filters", 2007). Building it anew makes one of them again.
//!
//! Why Bloom filters: they take additions from one thread while others ask. A binary fuse filter is smaller by a third and
//! takes none; a cuckoo filter could forget one entry, but moves the others about while somebody asks for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fastbloom::{AtomicBloomFilter, optimal_size};

/// The first layer has room for this many when nothing is known; 95 kB.
const ROOM_MIN: usize = 1 << 16;
/// Of the first layer when it is full. All layers together stay below twice this.
const FALSE_POSITIVES: f64 = 0.004;

/// Clones share the bits.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    layers: Vec<Arc<Layer>>,
    bytes_max: usize,
}

#[derive(Debug)]
struct Layer {
    bits: AtomicBloomFilter,
    room: usize,
    held: AtomicUsize,
}

impl Layers {
    /// One layer with room for so many.
    pub(crate) fn with_room(expected: usize, bytes_max: usize) -> Self {
        let room = expected.max(ROOM_MIN);
        let bits = optimal_size(room, FALSE_POSITIVES).min(bytes_max.saturating_mul(8));
        Self { layers: vec![Arc::new(Layer::new(room, bits))], bytes_max }
    }

    /// `hash` must be random in all its bits.
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        self.layers.iter().any(|layer| layer.bits.contains_hash(hash))
    }

    /// One caller at a time; others may ask meanwhile.
    pub(crate) fn insert(&mut self, hash: u64) {
        // What it would say yes to anyhow takes no room, so that being told twice costs nothing.
        if self.may_have(hash) {
            return;
        }
        if self.last().is_full() {
            self.grow();
        }
        let last = self.last();
        last.bits.insert_hash(hash);
        last.held.fetch_add(1, Ordering::Relaxed);
    }

    /// Where there is no memory for another layer, the last one takes more than it has room for.
    fn grow(&mut self) {
        let room = self.held().max(ROOM_MIN);
        let index = i32::try_from(self.layers.len()).expect("each layer doubles the size");
        let bits = optimal_size(room, FALSE_POSITIVES * 0.5_f64.powi(index));
        if self.bytes() + bits / 8 <= self.bytes_max {
            self.layers.push(Arc::new(Layer::new(room, bits)));
        }
    }

    fn last(&self) -> &Layer {
        self.layers.last().expect("there is a first layer")
    }

    /// About as many as there are: those are not counted that it said yes to before they came.
    pub(crate) fn held(&self) -> usize {
        self.layers.iter().map(|layer| layer.held.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.bits.num_bits() / 8).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.layers.len()
    }
}

impl Layer {
    fn new(room: usize, bits: usize) -> Self {
        let bits = AtomicBloomFilter::with_num_bits(bits).expected_items(room);
        Self { bits, room, held: AtomicUsize::new(0) }
    }

    fn is_full(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.room
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const SEED: u64 = 20_210_115;

    /// Of 200,000 numbers that are not in it.
    fn false_positives(layers: &Layers) -> f64 {
        let mut strangers = SmallRng::seed_from_u64(!SEED);
        let yes = (0..200_000).filter(|_| layers.may_have(strangers.random())).count();
        yes as f64 / 200_000.0
    }

    #[test]
    fn it_stays_below_one_in_a_hundred_however_much_it_grows() {
        let mut layers = Layers::with_room(0, usize::MAX);
        let mut numbers = SmallRng::seed_from_u64(SEED);
        for doublings in 0..=5 {
            let room = ROOM_MIN << doublings;
            for _ in layers.held()..room {
                layers.insert(numbers.random());
            }
            let rate = false_positives(&layers);
            assert!(rate < 0.01, "{rate} with {} layers", layers.len());
            assert!(layers.bytes() <= 3 * room, "{} bytes for {room}", layers.bytes());
        }
        assert_eq!(layers.len(), 6);
        let mut again = SmallRng::seed_from_u64(SEED);
        assert!((0..ROOM_MIN << 5).all(|_| layers.may_have(again.random())));
    }

    #[test]
    fn sized_for_what_comes_it_is_one_layer_of_a_byte_and_a_half_for_each() {
        let mut layers = Layers::with_room(1_000_000, usize::MAX);
        let mut numbers = SmallRng::seed_from_u64(SEED);
        for _ in 0..1_000_000 {
            layers.insert(numbers.random());
        }
        assert_eq!(layers.len(), 1);
        assert!(layers.bytes() < 1_500_000, "{} bytes", layers.bytes());
        let rate = false_positives(&layers);
        assert!((0.003..0.005).contains(&rate), "{rate}");
    }

    #[test]
    fn without_memory_it_says_yes_too_often_and_still_never_no() {
        let mut layers = Layers::with_room(10_000_000, 1 << 17);
        let mut numbers = SmallRng::seed_from_u64(SEED);
        for _ in 0..500_000 {
            layers.insert(numbers.random());
        }
        assert!(layers.bytes() <= 1 << 17, "{} bytes", layers.bytes());
        let mut again = SmallRng::seed_from_u64(SEED);
        assert!((0..500_000).all(|_| layers.may_have(again.random())));
        assert!(false_positives(&layers) > 0.01);
    }

    #[test]
    fn being_told_twice_takes_no_room() {
        let mut layers = Layers::with_room(0, usize::MAX);
        for _ in 0..1_000_000 {
            layers.insert(0x0123_4567_89ab_cdef);
        }
        assert_eq!((layers.held(), layers.len()), (1, 1));
    }
}
