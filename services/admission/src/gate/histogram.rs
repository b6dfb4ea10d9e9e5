//! Who came lately, by level, and how far down the levels a budget reaches.

use crate::class::{Level, TIERS, Tier};
use crate::gate::Threshold;
use crate::gate::fair::Portion;

/// Arrivals of the last second by tick and level, and of the seconds before as a fading sum.
#[derive(Debug)]
pub(crate) struct Arrivals {
    ticks: Box<[[u32; Level::COUNT]; TICKS]>,
    newest: usize,
    /// What has left `ticks`, fading by [`FADE`] each tick.
    older: Box<[f32; Level::COUNT]>,
    /// How many ticks are in `older`, each counted as much as is left of it.
    older_ticks: f64,
    filled: usize,
}

const TICKS: usize = 10;
/// A time constant of 4 s: with the second in `ticks`, the 5 s of `reference/overload.md` b.4's guard for thin windows.
const FADE: f32 = 0.975;

/// Arrivals of the newest ticks, as many as it takes.
#[derive(Debug)]
pub(crate) struct Window {
    by_level: [f32; Level::COUNT],
    /// Ticks in the window.
    pub(crate) ticks: f64,
    /// Seats in the window.
    pub(crate) seats: f64,
    /// Too few arrivals to say who should be refused.
    pub(crate) thin: bool,
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        Self {
            ticks: Box::new([[0; Level::COUNT]; TICKS]),
            newest: 0,
            older: Box::new([0.0; Level::COUNT]),
            older_ticks: 0.0,
            filled: 0,
        }
    }

    /// Lets `fill` overwrite the oldest tick, which becomes the newest.
    pub(crate) fn push(&mut self, fill: impl FnOnce(&mut [u32; Level::COUNT])) {
        self.newest = (self.newest + 1) % TICKS;
        let slot = &mut self.ticks[self.newest];
        if self.filled == TICKS {
            for (older, leaving) in self.older.iter_mut().zip(slot.iter()) {
                *older = *older * FADE + *leaving as f32;
            }
            self.older_ticks = self.older_ticks * f64::from(FADE) + 1.0;
        }
        self.filled = (self.filled + 1).min(TICKS);
        fill(slot);
    }

    /// The newest ticks that hold at least `enough` seats together. After a step in the load a window of a fixed
    /// second would still be made of the callers of before, and refuse them for what others do.
    ///
    /// Of a second with fewer than `thin` seats, the ticks before are part too.
    pub(crate) fn window(&self, enough: f64, thin: f64) -> Window {
        let mut window = Window { by_level: [0.0; Level::COUNT], ticks: 0.0, seats: 0.0, thin: false };
        for back in 0..self.filled {
            for (sum, &count) in
                window.by_level.iter_mut().zip(&self.ticks[(self.newest + TICKS - back) % TICKS])
            {
                *sum += count as f32;
                window.seats += f64::from(count);
            }
            window.ticks += 1.0;
            if window.seats >= enough {
                return window;
            }
        }
        if window.seats < thin {
            for (sum, older) in window.by_level.iter_mut().zip(self.older.iter()) {
                *sum += older;
                window.seats += f64::from(*older);
            }
            window.ticks += self.older_ticks;
            window.thin = true;
        }
        window
    }
}

impl Window {
    pub(crate) fn seats_of(&self, tier: Tier) -> f64 {
        self.by_level[Level::new(tier, 0).index()..][..usize::from(Level::COHORTS)]
            .iter()
            .map(|&n| f64::from(n))
            .sum()
    }

    /// How far each tier may be open so that of this window's arrivals the best `budget` seats would have been
    /// admitted: to each tier its floor first, what is left by strict priority.
    ///
    /// Of each tier but the last at least `probe` of its arrivals pass, so that it is seen when it is well again;
    /// not more than `probe` of the budget either, because a hundredth of a flood is a flood.
    pub(crate) fn thresholds(&self, budget: f64, probe: f64) -> [Threshold; Tier::COUNT] {
        let offered = Tier::ALL.map(|tier| self.seats_of(tier));
        let mut admitted = [0.0; Tier::COUNT];
        let mut left = budget.max(0.0);
        for tier in 1..Tier::COUNT {
            admitted[tier] = offered[tier].min(TIERS[tier].floor * budget);
            left -= admitted[tier];
        }
        let mut thresholds = Tier::ALL.map(Threshold::open);
        for (tier, threshold) in Tier::ALL.into_iter().zip(&mut thresholds).skip(1) {
            let offered = offered[tier as usize];
            let more = (offered - admitted[tier as usize]).min(left.max(0.0));
            left -= more;
            let mut admitted = admitted[tier as usize] + more;
            if tier != Tier::Background {
                admitted = admitted.max(probe * offered.min(budget));
            }
            if offered <= 0.0 && tier.spec().floor <= 0.0 && left <= 0.0 {
                *threshold = Threshold::closed(tier);
            } else if admitted < offered {
                *threshold = self.prefix(tier, admitted);
            }
        }
        thresholds
    }

    /// What a tier offered and what a threshold admits of it, for a window of so many seconds.
    pub(crate) fn portion(&self, tier: Tier, threshold: Threshold, window_s: f64) -> Portion {
        let excess = Level::excess(tier);
        let mut portion = Portion::default();
        for cohort in 0..Level::COHORTS {
            let level = Level::new(tier, cohort);
            let offered = f64::from(self.by_level[level.index()]) / window_s;
            let admitted = offered * threshold.share(level);
            portion.admitted += admitted;
            if level == excess {
                portion.excess += admitted;
            } else {
                portion.ordinary += offered;
            }
        }
        portion
    }

    /// The threshold below which a tier's arrivals sum up to `seats`.
    fn prefix(&self, tier: Tier, seats: f64) -> Threshold {
        let mut left = seats;
        for cohort in 0..Level::COHORTS {
            let level = Level::new(tier, cohort);
            let here = f64::from(self.by_level[level.index()]);
            if here > left {
                return Threshold::within(level, left / here);
            }
            left -= here;
        }
        Threshold::open(tier)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tick in which each tier brings its number of calls, spread over its cohorts.
    fn tick(calls: [u32; Tier::COUNT]) -> impl FnOnce(&mut [u32; Level::COUNT]) {
        move |slot| {
            slot.fill(0);
            for (tier, calls) in Tier::ALL.into_iter().zip(calls) {
                for call in 0..calls {
                    slot[Level::new(tier, (call % 128) as u8).index()] += 1;
                }
            }
        }
    }

    fn window_of(calls: [u32; Tier::COUNT]) -> Window {
        let mut arrivals = Arrivals::new();
        arrivals.push(tick(calls));
        arrivals.window(1.0, 0.0)
    }

    /// Seats of the window that thresholds let through, a border cohort by its fraction.
    fn admitted(window: &Window, thresholds: &[Threshold; Tier::COUNT]) -> [f64; Tier::COUNT] {
        Tier::ALL.map(|tier| {
            (0..128)
                .map(|cohort| {
                    let level = Level::new(tier, cohort);
                    let users =
                        (0..500).filter(|&user| thresholds[tier as usize].admits(level, crate::User(user)));
                    f64::from(window.by_level[level.index()]) * users.count() as f64 / 500.0
                })
                .sum()
        })
    }

    #[test]
    fn when_all_tiers_overload_each_keeps_its_floor() {
        let window = window_of([0, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000]);
        let through = admitted(&window, &window.thresholds(10_000.0, 0.01));
        // The tenth without a floor goes to acks.
        let expected = [0.0, 6_000.0, 1_000.0, 2_000.0, 500.0, 300.0, 200.0, 0.0];
        for (tier, (through, expected)) in through.iter().zip(expected).enumerate() {
            assert!((through - expected).abs() <= 10.0 + expected * 0.01, "{tier}: {through} of {expected}");
        }
    }

    #[test]
    fn floors_that_nobody_needs_flow_to_who_does() {
        let window = window_of([0, 100, 0, 400, 0, 0, 5_000, 5_000]);
        let thresholds = window.thresholds(1_000.0, 0.01);
        assert!(thresholds[..=5].iter().zip(Tier::ALL).all(|(threshold, tier)| threshold.is_open(tier)));
        let through = admitted(&window, &thresholds);
        assert!((through[6] - 500.0).abs() < 10.0 && through[7] == 0.0, "{through:?}");
    }

    #[test]
    fn a_step_is_judged_by_its_own_callers() {
        let mut arrivals = Arrivals::new();
        for _ in 0..9 {
            arrivals.push(tick([0, 0, 0, 300, 0, 0, 0, 0]));
        }
        arrivals.push(tick([0, 0, 0, 300, 0, 0, 0, 2_700]));
        let window = arrivals.window(200.0, 40.0);
        assert_eq!((window.ticks, window.seats), (1.0, 3_000.0));
        assert!(window.thresholds(310.0, 0.01)[Tier::Send as usize].is_open(Tier::Send));
    }

    #[test]
    fn a_thin_second_reaches_further_back() {
        let mut arrivals = Arrivals::new();
        for _ in 0..100 {
            arrivals.push(tick([0, 0, 0, 1, 0, 0, 0, 0]));
        }
        let window = arrivals.window(200.0, 40.0);
        assert!(window.thin && window.seats > 40.0, "{window:?}");
        assert!((window.seats / window.ticks - 1.0).abs() < 0.01);
    }

    proptest! {
        /// No inversion: a tier is cut only when every lower one is down to its floor or its probes.
        #[test]
        fn shedding_begins_below(calls in prop::array::uniform8(0u32..5_000), budget in 50.0..10_000.0) {
            let window = window_of(calls);
            let through = admitted(&window, &window.thresholds(budget, 0.01));
            let mut total = 0.0;
            for tier in 1..8 {
                total += through[tier];
                let cut = through[tier] < f64::from(calls[tier]) * 0.98 - 2.0;
                for (lower, &passed) in through.iter().enumerate().skip(tier + 1) {
                    let guaranteed = (TIERS[lower].floor * budget).max(0.01 * budget) * 1.05 + 3.0;
                    prop_assert!(!cut || passed <= guaranteed, "{tier} is cut while {lower} gets {passed}");
                }
                prop_assert!(through[tier] >= f64::from(calls[tier]).min(TIERS[tier].floor * budget) * 0.95 - 2.0);
            }
            prop_assert!(total <= budget * 1.07 + 10.0, "{total} of {budget}");
        }
    }
}
