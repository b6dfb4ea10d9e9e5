//! How long a kind of call takes: for refusing what cannot be answered in time.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::limiter::Kind;

/// The median and the upper quartile of each kind's service time, read without a lock.
#[derive(Debug)]
pub(crate) struct Published {
    /// Microseconds: median, upper quartile.
    kinds: [[AtomicU32; 2]; Kind::COUNT],
}

#[derive(Debug)]
pub(crate) struct Estimates {
    kinds: [Option<Box<Spread>>; Kind::COUNT],
}

/// A histogram with four buckets an octave, from 64 microseconds to 67 seconds.
#[derive(Debug)]
struct Spread {
    counts: [u16; BUCKETS],
    total: u32,
    last: Duration,
    dirty: bool,
}

const BUCKETS: usize = 80;
/// From here on old calls count half, so that the estimate follows within about as many calls.
const TOTAL_MAX: u32 = 1_024;
/// Fewer calls say nothing.
const TOTAL_MIN: u32 = 20;
/// An estimate without new calls is forgotten. Otherwise one slow spell could refuse all calls of a kind as too late for
/// ever, because none would run to show that it is over.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);

impl Published {
    pub(crate) fn new() -> Self {
        Self { kinds: [const { [const { AtomicU32::new(0) }; 2] }; Kind::COUNT] }
    }

    /// Zero when it is not known.
    pub(crate) fn median(&self, kind: Kind) -> Duration {
        Duration::from_micros(self.kinds[kind.index()][0].load(Relaxed).into())
    }

    pub(crate) fn upper_quartile(&self, kind: Kind) -> Duration {
        Duration::from_micros(self.kinds[kind.index()][1].load(Relaxed).into())
    }
}

impl Estimates {
    pub(crate) fn new() -> Self {
        Self { kinds: [const { None }; Kind::COUNT] }
    }

    pub(crate) fn add(&mut self, now: Duration, kind: Kind, service: Duration) {
        let spread = self.kinds[kind.index()].get_or_insert_with(|| {
            Box::new(Spread { counts: [0; BUCKETS], total: 0, last: now, dirty: false })
        });
        if spread.total >= TOTAL_MAX {
            spread.counts.iter_mut().for_each(|count| *count /= 2);
            spread.total = spread.counts.iter().map(|&count| u32::from(count)).sum();
        }
        spread.counts[bucket(service)] += 1;
        spread.total += 1;
        (spread.last, spread.dirty) = (now, true);
    }

    pub(crate) fn publish(&mut self, now: Duration, published: &Published) {
        for (slot, atomics) in self.kinds.iter_mut().zip(&published.kinds) {
            let Some(spread) = slot else { continue };
            let forgotten = now.saturating_sub(spread.last) > FORGOTTEN_AFTER;
            if spread.dirty || forgotten {
                for (atomic, quantile) in atomics.iter().zip([0.5, 0.75]) {
                    atomic.store(if forgotten { 0 } else { spread.quantile(quantile) }, Relaxed);
                }
                spread.dirty = false;
            }
            if forgotten {
                *slot = None;
            }
        }
    }
}

impl Spread {
    /// Microseconds; the lower end of the bucket, so that nobody is refused for the histogram's coarseness.
    fn quantile(&self, quantile: f64) -> u32 {
        if self.total < TOTAL_MIN {
            return 0;
        }
        let mut left = (f64::from(self.total) * quantile) as u32;
        for (bucket, &count) in self.counts.iter().enumerate() {
            if u32::from(count) > left {
                return if bucket == 0 { 0 } else { (4 + bucket as u32 % 4) << (4 + bucket / 4) };
            }
            left -= u32::from(count);
        }
        0
    }
}

fn bucket(service: Duration) -> usize {
    let micros = service.as_micros().clamp(64, (1 << 26) - 1) as u32;
    let octave = micros.ilog2() - 6;
    let quarter = (micros >> (octave + 4)) & 3;
    (octave * 4 + quarter) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIND: Kind = Kind::new(3);

    #[test]
    fn an_estimate_is_forgotten_when_nothing_confirms_it() {
        let (mut estimates, published) = (Estimates::new(), Published::new());
        for millis in 1..=100 {
            estimates.add(Duration::ZERO, KIND, Duration::from_millis(millis));
        }
        estimates.publish(Duration::ZERO, &published);
        let (median, quartile) = (published.median(KIND), published.upper_quartile(KIND));
        assert!((40..=51).contains(&median.as_millis()), "{median:?}");
        assert!((60..=76).contains(&quartile.as_millis()), "{quartile:?}");
        assert_eq!(published.median(Kind::new(4)), Duration::ZERO);
        estimates.publish(Duration::from_millis(1_001), &published);
        assert_eq!(published.median(KIND), Duration::ZERO);
    }

    #[test]
    fn it_follows_a_change_within_some_thousand_calls() {
        let (mut estimates, published) = (Estimates::new(), Published::new());
        for call in 0..4_000 {
            let millis = if call < 2_000 { 200 } else { 5 };
            estimates.add(Duration::ZERO, KIND, Duration::from_millis(millis));
        }
        estimates.publish(Duration::ZERO, &published);
        assert!(published.upper_quartile(KIND) <= Duration::from_millis(5));
    }

    proptest! {
        #[test]
        fn a_bucket_begins_at_or_below_its_times_by_a_quarter_at_most(micros in 128u64..60_000_000) {
            let mut spread = Spread { counts: [0; BUCKETS], total: 20, last: Duration::ZERO, dirty: false };
            spread.counts[bucket(Duration::from_micros(micros))] = 20;
            let told = u64::from(spread.quantile(0.5));
            prop_assert!(told <= micros && micros - told <= told / 4, "{micros} became {told}");
        }
    }
}
