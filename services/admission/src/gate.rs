//! The priority gate: refuses what will not fit before it costs anything.
//!
//! On the way of a call there is one addition to a counter of its own processor, one relaxed load and one
//! comparison. Everything else happens once a tick, in [`balance`], [`below`] and [`histogram`].

pub(crate) mod balance;
pub(crate) mod below;
pub(crate) mod fair;
pub(crate) mod histogram;
pub(crate) mod unheard;
pub(crate) mod welcome;

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::class::cohort::User;
use crate::class::{Level, Tier};
use crate::pushback::Reason;
use fair::FairShare;
use unheard::{Rate, Unheard};

/// Up to which level, and which fraction of that level, a tier is open: `level << 16 | fraction`.
///
/// One for each tier, because one threshold for all cannot leave the lower tiers their floors while a higher one is
/// cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(u32);

impl Threshold {
    pub const fn open(tier: Tier) -> Self {
        Self((tier as u32 + 1) << 23)
    }

    pub const fn closed(tier: Tier) -> Self {
        Self((tier as u32) << 23)
    }

    /// Admits all cohorts before `level`'s, and of its own the users whose lot is below `fraction` (0 to 1).
    pub(crate) fn within(level: Level, fraction: f64) -> Self {
        let fraction = (fraction.clamp(0.0, 1.0) * f64::from(u16::MAX)) as u32;
        Self(u32::from(level.value()) << 16 | fraction)
    }

    /// Admits this share (0 to 1) of a tier's levels, from the first.
    pub(crate) fn up_to(tier: Tier, openness: f64) -> Self {
        let (closed, open) = (Self::closed(tier).0, Self::open(tier).0);
        Self(closed + (openness.clamp(0.0, 1.0) * f64::from(open - closed)) as u32)
    }

    pub const fn is_open(self, tier: Tier) -> bool {
        self.0 >= Self::open(tier).0
    }

    pub const fn admits(self, level: Level, user: User) -> bool {
        lot(level, user) < self.0
    }

    /// The share of a level that passes, 0 to 1.
    fn share(self, level: Level) -> f64 {
        let begins = u32::from(level.value()) << 16;
        f64::from(self.0.saturating_sub(begins).min(1 << 16)) / f64::from(1 << 16)
    }

    /// How much of a tier is open, 0 to 1, if users were spread evenly over its cohorts.
    pub fn openness(self, tier: Tier) -> f64 {
        let (closed, open) = (Self::closed(tier).0, Self::open(tier).0);
        f64::from(self.0.clamp(closed, open) - closed) / f64::from(open - closed)
    }
}

/// A user's place in the order of all calls. Within a cohort it is drawn from the user and the level, so that it stays
/// while the cohort does.
const fn lot(level: Level, user: User) -> u32 {
    let mixed = (user.0 ^ level.value() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (level.value() as u32) << 16 | (mixed >> 48) as u32
}

#[derive(Debug)]
pub(crate) struct Gate {
    thresholds: [AtomicU32; Tier::COUNT],
    /// The same for who is not heard for now.
    welcome: [AtomicU32; Tier::COUNT],
    shares: FairShare,
    unheard: Unheard,
    shards: Box<[Shard]>,
}

/// What one processor counts. Apart by two cache lines, because processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    /// Seats asked for by level, since the last tick.
    arrivals: [AtomicU32; Level::COUNT],
    refused: [[AtomicU64; Reason::COUNT]; Tier::COUNT],
}

/// Refusals by tier and reason.
pub(crate) type Refused = [[u64; Reason::COUNT]; Tier::COUNT];

impl Gate {
    /// `shards`: about one for each processor.
    pub(crate) fn new(shards: usize) -> Self {
        let shard = || Shard {
            arrivals: [const { AtomicU32::new(0) }; Level::COUNT],
            refused: [const { [const { AtomicU64::new(0) }; Reason::COUNT] }; Tier::COUNT],
        };
        Self {
            thresholds: Tier::ALL.map(|tier| AtomicU32::new(Threshold::open(tier).0)),
            welcome: Tier::ALL.map(|tier| AtomicU32::new(Threshold::open(tier).0)),
            shares: FairShare::new(),
            unheard: Unheard::new(),
            shards: (0..shards.max(1)).map(|_| shard()).collect(),
        }
    }

    /// Counts an arrival, and answers whether it may go on.
    pub(crate) fn pass(&self, level: Level, user: User, seats: u32) -> bool {
        let (level, user) = self.shares.place(level, user, seats);
        self.shard().arrivals[level.index()].fetch_add(seats, Relaxed);
        self.threshold(level.tier()).admits(level, user)
    }

    /// Whether an ordinary call of this level would pass. Counts nothing.
    pub(crate) fn would_pass(&self, level: Level, user: User) -> bool {
        self.threshold(level.tier()).admits(level.before_excess(), user)
    }

    /// Whether a caller who is not heard for now should be.
    pub(crate) fn welcomes(&self, level: Level, user: User) -> bool {
        let threshold = Threshold(self.welcome[level.tier() as usize].load(Relaxed));
        threshold.admits(level.before_excess(), user)
    }

    /// How `seats_per_second` of one caller would arrive.
    pub(crate) fn rate(&self, level: Level, seats_per_second: f64) -> Rate {
        let ordinary = seats_per_second.min(self.shares.allowance(level.tier()));
        let thousandths = |seats: f64| (seats * 1_000.0) as u32;
        Rate { ordinary: thousandths(ordinary), excess: thousandths(seats_per_second - ordinary) }
    }

    pub(crate) const fn unheard(&self) -> &Unheard {
        &self.unheard
    }

    pub(crate) fn shares(&self) -> &FairShare {
        &self.shares
    }

    pub(crate) fn threshold(&self, tier: Tier) -> Threshold {
        Threshold(self.thresholds[tier as usize].load(Relaxed))
    }

    pub(crate) fn set(&self, thresholds: &[Threshold; Tier::COUNT]) {
        for (atomic, threshold) in self.thresholds.iter().zip(thresholds) {
            atomic.store(threshold.0, Relaxed);
        }
    }

    pub(crate) fn set_welcome(&self, thresholds: &[Threshold; Tier::COUNT]) {
        for (atomic, threshold) in self.welcome.iter().zip(thresholds) {
            atomic.store(threshold.0, Relaxed);
        }
    }

    pub(crate) fn count_refused(&self, tier: Tier, reason: Reason) {
        self.shard().refused[tier as usize][reason as usize].fetch_add(1, Relaxed);
    }

    /// Moves what has been counted since the last call into `arrivals`, which is overwritten, and adds to `refused`.
    pub(crate) fn drain(&self, arrivals: &mut [u32; Level::COUNT], refused: &mut Refused) {
        arrivals.fill(0);
        for shard in &self.shards {
            for (sum, count) in arrivals.iter_mut().zip(&shard.arrivals) {
                take(count, |count| *sum = sum.saturating_add(count));
            }
            for (sums, counts) in refused.iter_mut().zip(&shard.refused) {
                for (sum, count) in sums.iter_mut().zip(counts) {
                    if count.load(Relaxed) != 0 {
                        *sum += count.swap(0, Relaxed);
                    }
                }
            }
        }
    }

    fn shard(&self) -> &Shard {
        &self.shards[thread_number() % self.shards.len()]
    }
}

/// Most bins are empty, and a load costs a tenth of a swap.
fn take(count: &AtomicU32, add: impl FnOnce(u32)) {
    if count.load(Relaxed) != 0 {
        add(count.swap(0, Relaxed));
    }
}

/// Threads are numbered as they come, so that as many threads as shards never share one.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) });
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Relaxed));
        }
        number.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_tier_admits_every_level_and_a_closed_one_none() {
        let gate = Gate::new(1);
        for value in 0..1024 {
            let level = Level::try_from(value).unwrap();
            for user in [0, 1, u64::MAX, 0xDEAD_BEEF] {
                assert!(gate.pass(level, User(user), 1), "{level}");
                assert!(Threshold::open(level.tier()).admits(level, User(user)));
                assert!(!Threshold::closed(level.tier()).admits(level, User(user)));
            }
        }
        let (mut arrivals, mut refused) = ([7; Level::COUNT], Refused::default());
        gate.drain(&mut arrivals, &mut refused);
        let expected = |index| match index % 128 {
            126 => 8,
            127 => 0,
            _ => 4,
        };
        assert!(arrivals.iter().enumerate().all(|(index, &count)| count == expected(index)));
        gate.drain(&mut arrivals, &mut refused);
        assert!(arrivals.iter().all(|&count| count == 0));
    }

    #[test]
    fn within_a_cohort_the_same_users_pass_each_time() {
        let level = Level::new(Tier::Send, 17);
        let threshold = Threshold::within(level, 0.25);
        let passed = (0..10_000).filter(|&user| threshold.admits(level, User(user))).count();
        assert!((2_300..2_700).contains(&passed), "{passed}");
        assert!(threshold.admits(Level::new(Tier::Send, 16), User(u64::MAX)));
        assert!((0..1_000).all(|user| !threshold.admits(Level::new(Tier::Send, 18), User(user))));
        assert!((threshold.openness(Tier::Send) - 17.25 / 128.0).abs() < 1e-4);
    }

    #[test]
    fn threads_count_without_losing_any() {
        let gate = Gate::new(2);
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let gate = &gate;
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        gate.pass(Level::new(Tier::Ack, thread), User(0), 2);
                        gate.count_refused(Tier::Ack, Reason::Overload);
                    }
                });
            }
        });
        let (mut arrivals, mut refused) = ([0; Level::COUNT], Refused::default());
        gate.drain(&mut arrivals, &mut refused);
        assert_eq!(arrivals.iter().sum::<u32>(), 80_000);
        assert_eq!(refused[Tier::Ack as usize][Reason::Overload as usize], 40_000);
    }
}
