//! What one user asks for beyond a fair share goes last.
//!
//! A cohort is refused or admitted whole, so within one whoever asks a hundred times as often would get a hundred times as
//! much, and raise the bar for everybody else. In overload each tier has an *allowance*, in seats a second for each user. Of a
//! user who asks for more, calls are marked as excess with probability 1 - allowance / rate, and excess stands behind
//! all users of its tier (core-stateless fair queueing, SIGCOMM '98). The allowance sinks while the gate has to cut into
//! what is not excess, and rises while there is room: then it is the max-min fair share.
//!
//! Rates are counted in a count-min sketch, so memory is fixed and nobody is told apart who asks for little.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use crate::class::cohort::User;
use crate::class::{Level, Tier};
use crate::gate::Threshold;

/// Read and counted on the way of each call.
#[derive(Debug)]
pub(crate) struct FairShare {
    /// Seats a second; [`OFF`] while a tier is not cut.
    allowances: [AtomicU32; Tier::COUNT],
    /// Two seconds of two rows.
    seconds: [[Box<[AtomicU32]>; 2]; 2],
    /// Which of the seconds is being counted.
    current: AtomicUsize,
    /// Counts ticks.
    tick: AtomicU32,
}

/// What a tier was offered and admitted in the window of arrivals, in seats a second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Portion {
    pub(crate) ordinary: f64,
    pub(crate) admitted: f64,
    /// Of what was admitted.
    pub(crate) excess: f64,
}

/// Moves the allowances, once a tick.
#[derive(Debug)]
pub(crate) struct Allowances {
    values: [f64; Tier::COUNT],
    ticks: u32,
    /// Seconds that still have to be cleared since something was last counted.
    counted: u32,
}

const OFF: u32 = u32::MAX;
/// 128 KiB in all.
const COLUMNS: usize = 1 << 13;
const TICKS: u32 = 10;
const SINKS: f64 = 0.85;
const SINKS_NEAR: f64 = 0.95;
const RISES: f64 = 1.05;
/// Excess is to be between these shares of what is admitted: enough that a tick which admits less cuts only excess.
const RESERVE: (f64, f64) = (0.05, 0.15);
/// A user who asks for this many a second is no heavy user.
const LEAST: f64 = 4.0;
/// Of what a tier is offered: nobody asks for more than this, or the one who does is found within a tick or two.
const FIRST: f64 = 1.0 / 16.0;

impl FairShare {
    pub(crate) fn new() -> Self {
        let row = || (0..COLUMNS).map(|_| AtomicU32::new(0)).collect();
        let second = || [row(), row()];
        Self {
            allowances: [const { AtomicU32::new(OFF) }; Tier::COUNT],
            seconds: [second(), second()],
            current: AtomicUsize::new(0),
            tick: AtomicU32::new(0),
        }
    }

    /// Seats a second that are a fair share of a tier.
    pub(crate) fn allowance(&self, tier: Tier) -> f64 {
        match self.allowances[tier as usize].load(Relaxed) {
            OFF => f64::INFINITY,
            allowance => allowance.into(),
        }
    }

    /// The level that the gate takes for a call: the last of its tier for excess, its own for others. Excess has no lot of its
    /// user's but one of its own, so that what is left over is not given to the same few.
    pub(crate) fn place(&self, level: Level, user: User, seats: u32) -> (Level, User) {
        let tier = level.tier();
        let allowance = self.allowances[tier as usize].load(Relaxed);
        if allowance == OFF {
            return (level.before_excess(), user);
        }
        let mut hash = (user.0 ^ (tier as u64) << 61).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash = (hash ^ (hash >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let columns = [(hash >> 48) as usize % COLUMNS, (hash >> 32) as usize % COLUMNS];
        let current = self.current.load(Relaxed);
        let (mut now, mut before) = (u32::MAX, u32::MAX);
        for (row, column) in columns.into_iter().enumerate() {
            now = now.min(self.seconds[current][row][column].fetch_add(seats, Relaxed).saturating_add(seats));
            before = before.min(self.seconds[1 - current][row][column].load(Relaxed));
        }
        let rate = now.max(before);
        if rate <= allowance {
            return (level.before_excess(), user);
        }
        // Another lot for each call and each tick, else the same calls of each second would pass.
        let mut lot = hash ^ u64::from(now) << 32 ^ u64::from(self.tick.load(Relaxed));
        lot = (lot ^ (lot >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        lot = (lot ^ (lot >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        lot ^= lot >> 31;
        let within = (lot >> 32) * u64::from(rate) < u64::from(allowance) << 32;
        if within { (level.before_excess(), user) } else { (Level::excess(tier), User(lot)) }
    }
}

impl Allowances {
    pub(crate) fn new() -> Self {
        Self { values: [f64::INFINITY; Tier::COUNT], ticks: 0, counted: 0 }
    }

    pub(crate) fn tick(
        &mut self,
        shares: &FairShare,
        thresholds: &[Threshold; Tier::COUNT],
        portions: &[Portion; Tier::COUNT],
    ) {
        // What strangers add to a user's columns must not make the user look heavy.
        let strangers = portions.iter().map(|portion| portion.ordinary).sum::<f64>() / COLUMNS as f64;
        let least = LEAST + 4.0 * strangers;
        for ((value, portion), tier) in self.values.iter_mut().zip(portions).zip(Tier::ALL) {
            let threshold = thresholds[tier as usize];
            let first = portion.ordinary * FIRST;
            if threshold.is_open(tier) {
                *value *= RISES;
                if *value > first {
                    *value = f64::INFINITY;
                }
            } else if threshold < Threshold::within(Level::excess(tier), 0.0) {
                *value = (value.min(first) * SINKS).max(least);
            } else if portion.excess < RESERVE.0 * portion.admitted {
                *value = (value.min(first) * SINKS_NEAR).max(least);
            } else if portion.excess > RESERVE.1 * portion.admitted {
                *value *= RISES;
            }
            let allowance = if value.is_finite() { *value as u32 } else { OFF };
            shares.allowances[tier as usize].store(allowance, Relaxed);
        }
        shares.tick.fetch_add(1, Relaxed);
        self.ticks += 1;
        if self.values.iter().any(|value| value.is_finite()) {
            self.counted = 2;
        }
        if self.ticks >= TICKS {
            self.ticks = 0;
            if self.counted == 0 {
                return;
            }
            self.counted -= 1;
            let next = 1 - shares.current.load(Relaxed);
            for count in shares.seconds[next].iter().flat_map(|row| row.iter()) {
                count.store(0, Relaxed);
            }
            shares.current.store(next, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second of calls to sends: `users` users with one call each, and one heavy user with `heavy`. How many of the
    /// heavy one's, and of all others', are excess.
    fn second(shares: &FairShare, allowances: &mut Allowances, users: u64, heavy: u32) -> (u32, u32) {
        let level = Level::new(Tier::Send, 3);
        let mut excess = (0, 0);
        let closed = Tier::ALL.map(Threshold::closed);
        let mut portions = [Portion::default(); Tier::COUNT];
        portions[Tier::Send as usize].ordinary = users as f64;
        for tick in 0..TICKS {
            for user in (0..users).filter(|user| user % u64::from(TICKS) == u64::from(tick)) {
                let (placed, _) = shares.place(level, User(user.wrapping_mul(0x9E37_79B9)), 1);
                excess.1 += u32::from(placed == Level::excess(Tier::Send));
            }
            for _ in 0..heavy / TICKS {
                let (placed, _) = shares.place(level, User(u64::MAX), 1);
                excess.0 += u32::from(placed == Level::excess(Tier::Send));
            }
            allowances.tick(shares, &closed, &portions);
        }
        excess
    }

    #[test]
    fn what_is_beyond_the_allowance_is_excess_and_others_are_left_alone() {
        let (shares, mut allowances) = (FairShare::new(), Allowances::new());
        for _ in 0..5 {
            second(&shares, &mut allowances, 10_000, 1_000);
        }
        let allowance = shares.allowances[Tier::Send as usize].load(Relaxed);
        assert!((4..=8).contains(&allowance), "{allowance}");
        let (heavy, others) = second(&shares, &mut allowances, 10_000, 1_000);
        assert!(heavy > 950, "{heavy}");
        assert!(others < 20, "{others}");
    }

    #[test]
    fn nothing_is_counted_while_nothing_is_cut() {
        let (shares, mut allowances) = (FairShare::new(), Allowances::new());
        let open = Tier::ALL.map(Threshold::open);
        for _ in 0..30 {
            allowances.tick(&shares, &open, &[Portion { ordinary: 1e6, ..Portion::default() }; Tier::COUNT]);
            for _ in 0..1_000 {
                let level = Level::new(Tier::Send, 127);
                assert_eq!(shares.place(level, User(1), 1), (Level::new(Tier::Send, 126), User(1)));
            }
        }
        assert!(shares.seconds.iter().flatten().all(|row| row.iter().all(|count| count.load(Relaxed) == 0)));
    }
}
