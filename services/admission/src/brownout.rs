//! The brownout ladder: what is switched off so that the rest goes on.
//!
//! | rung | off | refused, if the operator set it |
//! |---|---|---|
//! | 0 | nothing | |
//! | 1 | fan-out of presence and typing | background |
//! | 2 | discovery beyond its filter, one-time keys | |
//! | 3 | discovery altogether; new sign-ups: they are held in the room | starting a sign-up |
//! | 4 | all but acks, resumes and sends | look-ups, finishing a sign-up |
//! | 5 | sends too: read-only. Only by the operator | sends |
//!
//! It goes up when the gate has had to cut for some seconds, one rung at a time, and down when what is off would fit
//! again. A switch that changes the very load by which it is judged flaps; against that, what is off still counts as
//! offered, going down takes long, and takes longer each time that it was wrong.

use std::str::FromStr;
use std::time::Duration;

use crate::class::Tier;
use crate::config::BrownoutConfig;

/// Who moves the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    Auto,
    /// Held at a rung by the operator.
    Set(u8),
}

/// What is no rung of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ladder is set to `auto` or to a rung from 0 to {RUNG_MAX}")]
pub struct NoRung;

/// The highest rung.
pub const RUNG_MAX: u8 = 5;
const RUNG_MAX_AUTOMATIC: u8 = 4;
/// Going down was right if it lasts for as many times the wait before it.
const PROBATION: u32 = 3;

#[derive(Debug)]
pub(crate) struct Ladder {
    config: BrownoutConfig,
    steering: Steering,
    rung: u8,
    /// How long there has been a reason to go up, less how long there was none.
    reason: Duration,
    calm: Duration,
    down_after: Duration,
    since_down: Duration,
}

impl Steering {
    /// Whether calls of a tier are refused outright. Only at a rung that the operator has set: left to itself the ladder
    /// makes work cheaper, puts off discovery and holds people in the room, while the gate refuses exactly what does not fit,
    /// and stops as soon as it fits.
    pub const fn closes(self, tier: Tier) -> bool {
        let from = match tier {
            Tier::Exempt | Tier::Ack | Tier::Resume => return false,
            Tier::Send => 5,
            Tier::Lookup | Tier::FinishSignUp => 4,
            Tier::StartSignUp => 3,
            Tier::Background => 1,
        };
        matches!(self, Self::Set(rung) if rung >= from)
    }
}

impl FromStr for Steering {
    type Err = NoRung;

    fn from_str(text: &str) -> Result<Self, NoRung> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let rung = text.parse().map_err(|_| NoRung)?;
        if rung <= RUNG_MAX { Ok(Self::Set(rung)) } else { Err(NoRung) }
    }
}

impl Ladder {
    pub(crate) fn new(config: BrownoutConfig) -> Self {
        Self {
            config,
            steering: Steering::Auto,
            rung: 0,
            reason: Duration::ZERO,
            calm: Duration::ZERO,
            down_after: config.down_after,
            since_down: Duration::MAX,
        }
    }

    pub(crate) fn configure(&mut self, config: BrownoutConfig) {
        self.config = config;
        self.down_after = self.down_after.clamp(config.down_after, config.down_after_max);
    }

    pub(crate) fn steer(&mut self, steering: Steering) {
        self.steering = steering;
        (self.reason, self.calm) = (Duration::ZERO, Duration::ZERO);
    }

    pub(crate) const fn steering(&self) -> Steering {
        self.steering
    }

    /// `cut`: the most important tier that the gate is cutting. `fits`: all that is offered, what is off included, would
    /// fit.
    pub(crate) fn tick(&mut self, length: Duration, cut: Option<Tier>, fits: bool) -> u8 {
        if let Steering::Set(rung) = self.steering {
            self.rung = rung.min(RUNG_MAX);
            return self.rung;
        }
        // After the operator's rung 5.
        self.rung = self.rung.min(RUNG_MAX_AUTOMATIC);
        let wanted = if self.config.automatic { wanted(cut) } else { 0 };
        self.since_down = self.since_down.saturating_add(length);
        if self.since_down > self.down_after * PROBATION && self.rung == 0 {
            self.down_after = self.config.down_after;
        }
        if wanted > self.rung {
            self.reason += length;
        } else {
            self.reason = self.reason.saturating_sub(length);
        }
        if wanted >= self.rung.max(1) || !fits {
            self.calm = Duration::ZERO;
        } else {
            self.calm += length;
        }
        if self.reason >= self.config.up_after {
            if self.since_down <= self.down_after * PROBATION {
                self.down_after = (self.down_after * 2).min(self.config.down_after_max);
            }
            self.rung += 1;
            (self.reason, self.calm) = (Duration::ZERO, Duration::ZERO);
            self.since_down = Duration::MAX;
        } else if self.rung > 0 && self.calm >= self.down_after {
            self.rung -= 1;
            (self.reason, self.calm, self.since_down) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        }
        self.rung
    }
}

/// The rung that would help a gate that has to cut this tier.
fn wanted(cut: Option<Tier>) -> u8 {
    match cut {
        None => 0,
        Some(Tier::Background) => 1,
        Some(Tier::StartSignUp) => 2,
        Some(Tier::FinishSignUp | Tier::Lookup) => 3,
        Some(Tier::Exempt | Tier::Ack | Tier::Resume | Tier::Send) => 4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    fn ladder() -> Ladder {
        Ladder::new(BrownoutConfig::default())
    }

    /// The rungs it was on, one after the other, with the second each began.
    fn walk(
        ladder: &mut Ladder,
        seconds: u32,
        mut input: impl FnMut(u8) -> (Option<Tier>, bool),
    ) -> Vec<(u32, u8)> {
        let mut rungs = vec![(0, ladder.rung)];
        for tick in 0..seconds * 10 {
            let (cut, fits) = input(ladder.rung);
            let rung = ladder.tick(TICK, cut, fits);
            if rungs.last().is_none_or(|&(_, last)| last != rung) {
                rungs.push((tick / 10, rung));
            }
        }
        rungs
    }

    #[test]
    fn up_one_by_one_and_down_one_by_one() {
        let mut ladder = ladder();
        let up = walk(&mut ladder, 20, |_| (Some(Tier::Send), false));
        assert_eq!(up, [(0, 0), (1, 1), (3, 2), (5, 3), (7, 4)]);
        let down = walk(&mut ladder, 130, |_| (None, true));
        assert_eq!(down, [(0, 4), (9, 3), (19, 2), (29, 1), (39, 0)]);
    }

    #[test]
    fn what_is_off_still_counts() {
        let mut ladder = ladder();
        walk(&mut ladder, 10, |_| (Some(Tier::Background), false));
        // With background off the gate cuts nothing, but it would not fit.
        let held = walk(&mut ladder, 3_600, |_| (None, false));
        assert_eq!(held, [(0, 1)]);
    }

    #[test]
    fn a_ladder_that_was_wrong_to_go_down_waits_longer_each_time() {
        let mut ladder = ladder();
        // The load comes back whenever background is on, and nobody can tell before.
        let rungs =
            walk(
                &mut ladder,
                3_600,
                |rung| if rung == 0 { (Some(Tier::Background), false) } else { (None, true) },
            );
        let downs: Vec<u32> =
            rungs.iter().filter(|(_, rung)| *rung == 0).map(|(second, _)| *second).collect();
        let waits: Vec<u32> = downs.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits[1..6], [22, 42, 82, 162, 302], "{waits:?}");
    }

    proptest! {
        /// Walked up and down under noise: while it is bad, the gate's word is wrong in a fifth of all ticks; while it is
        /// well, once in 15 seconds.
        #[test]
        fn noise_does_not_make_it_flap(seed: u64) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut ladder = ladder();
            for (cut, ends) in [(Some(Tier::StartSignUp), 2), (Some(Tier::Send), 4), (None, 0)] {
                let before = ladder.rung;
                let mut tick = 0;
                let rungs = walk(&mut ladder, if cut.is_some() { 120 } else { 600 }, |_| {
                    tick += 1;
                    match (cut, rng.random_range(0..10)) {
                        (Some(_), 0) | (None, _) if cut.is_some() || tick % 150 == 0 => (Some(Tier::Send), false),
                        (Some(_), 1) => (None, true),
                        _ => (cut, cut.is_none()),
                    }
                });
                prop_assert_eq!(ladder.rung, ends);
                prop_assert_eq!(rungs.len() - 1, usize::from(before.abs_diff(ends)), "{:?}", rungs);
            }
        }
    }

    #[test]
    fn the_operator_overrides_and_gives_back() {
        let mut ladder = ladder();
        ladder.steer("5".parse().unwrap());
        assert_eq!(walk(&mut ladder, 60, |_| (None, true)), [(0, 0), (0, 5)]);
        ladder.steer("auto".parse().unwrap());
        assert_eq!(walk(&mut ladder, 11, |_| (None, true)), [(0, 5), (0, 4), (9, 3)]);
        ladder.steer(Steering::Set(0));
        assert_eq!(walk(&mut ladder, 60, |_| (Some(Tier::Ack), false)), [(0, 3), (0, 0)]);
        for text in ["6", "-1", "", "up"] {
            assert_eq!(text.parse::<Steering>(), Err(NoRung));
        }
    }

    #[test]
    fn each_rung_closes_what_the_table_says() {
        let closed = |rung| Tier::ALL.into_iter().filter(|&tier| Steering::Set(rung).closes(tier)).count();
        assert_eq!([0, 1, 2, 3, 4, 5].map(closed), [0, 1, 1, 2, 4, 5]);
        assert!(Tier::ALL.into_iter().all(|tier| !Steering::Auto.closes(tier)));
    }
}
