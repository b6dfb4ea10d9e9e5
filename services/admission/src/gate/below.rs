//! What the hop below has room for, as far as it has told.
//!
//! It tells what reaches it over what it can do. That is little of what is offered here once something is refused here, so it says nothing of
//! what is offered: what the hop below can do is what was let through when it spoke, over what it told. (A gate that refuses what it is told of all that is
//! offered lets through the root of the excess: at ten times the capacity the hop below would see 3.2 times, and spend
//! itself on refusing.) Nothing is integrated, so nothing rings but for the ticks in which the two are not of the same time.

/// Room below, in seats a tick. `None` while there is enough for everybody.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Below {
    /// Let through in the last ticks, the newest first.
    passed: [f64; 3],
    room: Option<f64>,
}

/// A word from below is one to three ticks old: made at the end of one there, of what came in it, and heard in another here.
const AGE: [f64; 3] = [0.25, 0.5, 0.25];
/// What the hop below is given of what it can do. More than all, so that it is busy also when arrivals are not even, and sees what it can do.
const GIVEN: f64 = 1.05;
/// How much of the way to what was told is gone in a tick: what was told is a quotient of two counts.
const SETTLES: f64 = 0.5;
/// In a tick in which nothing was told, which is when there is room for a fifth more at least.
const GROWS: f64 = 1.1;

impl Below {
    /// `offered`: seats in a tick; `rho`: the share of it that was refused. `told`: what reaches the hop below over what it can do; 0 if it
    /// says nothing. Answers the share of what is offered that is too much for it.
    pub(crate) fn tick(&mut self, offered: f64, rho: f64, told: f64) -> f64 {
        let [newest, before, _] = self.passed;
        self.passed = [offered * (1.0 - rho), newest, before];
        if told > 1.0 || (told > 0.0 && self.room.is_some()) {
            let passed: f64 = self.passed.iter().zip(AGE).map(|(passed, share)| passed * share).sum();
            let seen = passed * GIVEN / told;
            self.room = Some(self.room.map_or(seen, |room| room + SETTLES * (seen - room)));
        } else if let Some(room) = &mut self.room {
            *room *= GROWS;
        }
        if told <= 1.0 && self.room.is_some_and(|room| room >= offered) {
            self.room = None;
        }
        self.room.map_or(0.0, |room| 1.0 - room / offered.max(1e-9)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hop below that can do `capacity` seats a tick and tells so `late` ticks later; what reaches it, tick by tick.
    fn reaches(capacity: impl Fn(usize) -> f64, offered: impl Fn(usize) -> f64, late: usize) -> Vec<f64> {
        let (mut below, mut rho, mut reached) = (Below::default(), 0.0, Vec::<f64>::new());
        for tick in 0..200_usize {
            let told = tick.checked_sub(late).map_or(0.0, |then| reached[then] / capacity(then));
            let told = if told >= 0.8 { told } else { 0.0 };
            reached.push(offered(tick) * (1.0 - rho));
            rho = below.tick(offered(tick), rho, told);
        }
        reached
    }

    #[test]
    fn it_is_given_what_it_can_do_and_not_the_root_of_the_excess() {
        for late in 1..=3 {
            for load in [1.5, 2.0, 4.0, 10.0, 100.0] {
                let reached = reaches(|_| 100.0, |_| 100.0 * load, late);
                let settled = &reached[30..];
                let mean = settled.iter().sum::<f64>() / settled.len() as f64;
                assert!((95.0..115.0).contains(&mean), "{load} x, {late} late: {mean}");
                let most = settled.iter().fold(0.0, |most: f64, reached| most.max(*reached));
                assert!(most < 140.0, "{load} x, {late} late: {most}");
            }
        }
    }

    #[test]
    fn what_changes_below_or_above_is_followed() {
        let reached = reaches(|tick| if tick < 80 { 100.0 } else { 200.0 }, |_| 1_000.0, 2);
        assert!((190.0..230.0).contains(&reached[110]), "{reached:?}");
        let reached = reaches(|tick| if tick < 80 { 100.0 } else { 50.0 }, |_| 1_000.0, 2);
        assert!((45.0..60.0).contains(&reached[110]), "{reached:?}");
        let reached = reaches(|_| 100.0, |tick| if tick < 80 { 1_000.0 } else { 60.0 }, 2);
        assert_eq!(reached[82..], [60.0; 118], "nobody is refused any more");
    }

    #[test]
    fn who_says_nothing_gets_all() {
        let mut below = Below::default();
        for _ in 0..100 {
            assert_eq!(below.tick(1_000.0, 0.0, 0.0), 0.0);
            assert_eq!(below.tick(1_000.0, 0.0, 0.95), 0.0);
        }
        assert!(below.tick(1_000.0, 0.0, 2.0) > 0.0);
        let ticks = (0..100).position(|_| below.tick(1_000.0, 0.5, 0.0) == 0.0).unwrap();
        assert!(ticks < 15, "{ticks}");
    }
}
