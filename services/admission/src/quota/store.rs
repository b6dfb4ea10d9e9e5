//! The memory of one limit: bounded, sharded, keyed by hash.
//!
//! governor's own keyed stores grow with every key they ever saw and are swept only when told to. This one has a
//! fixed number of places. A key that is at rest (as much permitted as if it were new) is dropped when its place is
//! needed; when every place in a shard is taken by a key that is not, the new key is turned away and the limit
//! answers for it by its failure mode. Keys already known go on being counted exactly.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::nanos::Nanos;
use governor::state::StateStore;
use prometheus::IntGauge;

/// Large enough that random hashes fill shards evenly: with all tables four fifths full (410 keys a shard on
/// average, standard deviation 20), fewer than one shard in a million is full. Small enough that a sweep, which is
/// the cost of turning a key away, is a scan of 8 KiB.
const SHARD_KEYS_MAX: usize = 512;

/// A key on its way through governor.
///
/// [`StateStore`] has no words for "full" and none for "only looking", so both travel with the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    hash: u64,
    /// Permits asked for times the period: what an admitted request adds to its key's arrival time.
    weight_ns: u64,
    charge: bool,
    no_room: Cell<Option<Duration>>,
}

impl Probe {
    pub(crate) fn new(hash: u64, weight_ns: u64, charge: bool) -> Self {
        Self { hash, weight_ns, charge, no_room: Cell::new(None) }
    }

    /// After the check: how long until there will be room, when there was none for this key. The limiter's answer
    /// means nothing then.
    pub(crate) fn no_room(&self) -> Option<Duration> {
        self.no_room.get()
    }
}

impl Hash for Probe {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// One remembered key.
///
/// 64 bits of hash are enough. A collision makes two callers share a bucket. With the largest default table full
/// (2^20 keys) a new key meets an old one with probability 2^20 / 2^64, so a process that sees 10^9 new keys a day
/// has one such pair in some 48 years; an attacker cannot aim for one without the hash key. 128 bits would cost
/// half as much memory again.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    /// GCRA's theoretical arrival time: nanoseconds after the limiter's start at which the key is at rest.
    tat_ns: u64,
}

pub(crate) const ENTRY_BYTES: usize = size_of::<Entry>();

/// Entries in the order of their hash. A sorted vector that doubles up to [`SHARD_KEYS_MAX`] takes exactly
/// [`ENTRY_BYTES`] for each key when full. A hash map takes 17 bytes for each slot, of which 7/8 are usable, and
/// doubles once more when keys come and go at its brim: 19 to 39 bytes.
type Shard = Vec<Entry>;

#[derive(Debug)]
pub(crate) struct BoundedStore {
    shards: Box<[Mutex<Shard>]>,
    shard_keys_max: usize,
    keys: AtomicUsize,
    keys_gauge: IntGauge,
}

impl BoundedStore {
    /// Holds at most `keys_max` keys, which is at least one.
    pub(crate) fn new(keys_max: u32, keys_gauge: IntGauge) -> Self {
        let keys_max = keys_max as usize;
        let shards = keys_max.div_ceil(SHARD_KEYS_MAX);
        keys_gauge.set(0);
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            shard_keys_max: keys_max / shards,
            keys: AtomicUsize::new(0),
            keys_gauge,
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        let index = ((hash >> 32) * self.shards.len() as u64) >> 32;
        // A shard is consistent between any two statements that can panic, so a poisoned one is still good.
        self.shards[index as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resized(&self, added: usize, dropped: usize) {
        self.keys.fetch_add(added, Ordering::Relaxed);
        let before = self.keys.fetch_sub(dropped, Ordering::Relaxed);
        self.keys_gauge.set((before - dropped) as i64);
    }

    #[cfg(test)]
    pub(crate) fn allocated_bytes(&self) -> usize {
        let entries: usize = (self.shards.iter()).map(|shard| shard.lock().unwrap().capacity()).sum();
        entries * ENTRY_BYTES + self.shards.len() * size_of::<Mutex<Shard>>()
    }
}

impl StateStore for BoundedStore {
    type Key = Probe;

    fn measure_and_replace<T, F, E>(&self, probe: &Probe, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(probe.hash);
        let place = match shard.binary_search_by_key(&probe.hash, |entry| entry.hash) {
            Ok(found) => {
                let (outcome, next) = decide(Some(shard[found].tat_ns.into()))?;
                if probe.charge {
                    shard[found].tat_ns = next.as_u64();
                }
                return Ok(outcome);
            }
            Err(place) => place,
        };

        let (outcome, next) = decide(None)?;
        let tat_ns = next.as_u64();
        // A new key's arrival time is now plus its weight: this is how the store learns what time it is.
        let now_ns = tat_ns - probe.weight_ns;
        let mut dropped = 0;
        if shard.len() >= self.shard_keys_max {
            match drop_at_rest(&mut shard, now_ns) {
                Ok(count) => dropped = count,
                Err(room_at_ns) => {
                    probe.no_room.set(Some(Duration::from_nanos(room_at_ns - now_ns)));
                    return Ok(outcome);
                }
            }
        }
        if probe.charge {
            let place = match dropped {
                0 => place,
                _ => shard.partition_point(|entry| entry.hash < probe.hash),
            };
            shard.insert(place, Entry { hash: probe.hash, tat_ns });
        }
        self.resized(usize::from(probe.charge), dropped);
        Ok(outcome)
    }
}

/// How many entries were dropped, or, when all must stay, when the first of them will be at rest.
fn drop_at_rest(shard: &mut Shard, now_ns: u64) -> Result<usize, u64> {
    let before = shard.len();
    let mut first_rest_ns = u64::MAX;
    shard.retain(|entry| {
        let busy = entry.tat_ns > now_ns;
        if busy {
            first_rest_ns = first_rest_ns.min(entry.tat_ns);
        }
        busy
    });
    match before - shard.len() {
        0 => Err(first_rest_ns),
        dropped => Ok(dropped),
    }
}
