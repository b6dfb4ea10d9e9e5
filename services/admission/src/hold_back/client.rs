//! The client's half of hold-back: a state machine without a clock, for any client library.

use std::time::Duration;

use rand::Rng;

use crate::class::Tier;
use crate::hold_back::HoldBack;

/// What one client has been told by one server.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeldBack {
    /// The tier up to which calls go out, and until when.
    advice: Option<(Tier, Duration)>,
    /// Before this no call of the tier goes out, in milliseconds of the client's clock. 32 bits, because a simulation has millions of these; after
    /// 49 days nothing is held for a pause any more.
    not_before: [u32; Tier::COUNT],
    /// The next probe, in the same unit.
    no_probe_before: u32,
    /// A probe is out.
    probing: bool,
}

/// What to do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    Send,
    /// Keep it until then, or tell the user now: it would be refused.
    Hold {
        until: Duration,
    },
}

/// Of the calls that should be held this share goes out, so that a client learns that the server is well before it is
/// told by something else. One, and no other before what is told about it is over: who comes again and again before he was told
/// to is taken for [deaf](crate::Deaf).
const PROBES: f64 = 0.01;

impl HeldBack {
    /// Takes up what came with an answer. An answer without advice says that all is open again.
    ///
    /// The advice holds for one to one and a half times as long as told, drawn at random, so that those who held do not
    /// come back together.
    pub fn told(&mut self, now: Duration, advice: Option<HoldBack>, rng: &mut impl Rng) {
        self.advice = advice.map(|HoldBack { open, ttl }| {
            (open, now.saturating_add(ttl.mul_f64(rng.random_range(1.0..=1.5))))
        });
        if std::mem::take(&mut self.probing)
            && let Some((_, until)) = self.advice
        {
            self.no_probe_before = millis(until);
        }
    }

    /// Takes up what came with the answer of a call that was served: without advice all is open, what was closed for a pause too.
    pub fn served(&mut self, now: Duration, advice: Option<HoldBack>, rng: &mut impl Rng) {
        self.told(now, advice, rng);
        if advice.is_none() {
            self.not_before = [0; Tier::COUNT];
        }
    }

    /// A call of this tier was refused, and may be tried again in `pause`. Where nothing was advised about others, so may they: the server
    /// counts who comes back, not what for, and does not listen to who comes too early. To be called after the advice was taken up.
    pub fn refused(&mut self, now: Duration, tier: Tier, pause: Duration) {
        if !self.advice.is_some_and(|(open, until)| tier > open && now < until) {
            self.not_before[tier as usize] = millis(now.saturating_add(pause));
        }
    }

    /// Exempt calls are never held for advice.
    pub fn ask(&mut self, now: Duration, tier: Tier, rng: &mut impl Rng) -> Advice {
        let not_before = self.not_before[tier as usize];
        if millis(now) < not_before {
            // Nobody probes before he was told to come.
            return Advice::Hold { until: Duration::from_millis(not_before.into()) };
        }
        match self.advice {
            Some((open, until)) if tier > open && now < until => {
                let probes = millis(now) >= self.no_probe_before && rng.random_bool(PROBES);
                if !probes {
                    return Advice::Hold { until };
                }
                (self.no_probe_before, self.probing) = (millis(until), true);
                Advice::Send
            }
            _ => Advice::Send,
        }
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn told(rng: &mut SmallRng) -> HeldBack {
        let mut held = HeldBack::default();
        held.told(NOW, Some(HoldBack { open: Tier::Send, ttl: Duration::from_secs(2) }), rng);
        held
    }

    #[test]
    fn worse_tiers_wait_but_for_one_in_a_hundred() {
        let mut rng = SmallRng::seed_from_u64(1);
        // Of as many clients that have been told the same.
        let sent = |tier, rng: &mut SmallRng| {
            (0..10_000).filter(|_| told(rng).ask(NOW, tier, rng) == Advice::Send).count()
        };
        assert_eq!(sent(Tier::Exempt, &mut rng), 10_000);
        assert_eq!(sent(Tier::Send, &mut rng), 10_000);
        let probes = sent(Tier::Lookup, &mut rng);
        assert!((60..140).contains(&probes), "{probes}");
    }

    #[test]
    fn one_client_probes_once_until_what_it_was_told_is_over() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut held = told(&mut rng);
        let probes = |held: &mut HeldBack, now, rng: &mut SmallRng| {
            (0..10_000).filter(|_| held.ask(now, Tier::Lookup, rng) == Advice::Send).count()
        };
        assert_eq!(probes(&mut held, NOW, &mut rng), 1);
        // The probe is refused, and others that were under way.
        let advice = Some(HoldBack { open: Tier::Send, ttl: Duration::from_secs(4) });
        for n in 1..4 {
            held.told(NOW + Duration::from_millis(100 * n), advice, &mut rng);
        }
        assert_eq!(probes(&mut held, NOW + Duration::from_millis(4_100), &mut rng), 0);
        held.told(NOW + Duration::from_secs(7), advice, &mut rng);
        assert_eq!(probes(&mut held, NOW + Duration::from_secs(8), &mut rng), 1);
    }

    #[test]
    fn who_was_refused_comes_back_with_nothing_of_that_tier_before_he_was_told_to() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut held = HeldBack::default();
        let until = NOW + Duration::from_secs(7);
        held.refused(NOW, Tier::Send, Duration::from_secs(7));
        held.told(NOW, None, &mut rng);
        for n in 0..1_000 {
            let now = NOW + Duration::from_millis(7 * n);
            assert_eq!(held.ask(now, Tier::Send, &mut rng), Advice::Hold { until });
        }
        assert_eq!(held.ask(until, Tier::Send, &mut rng), Advice::Send);
        assert_eq!(held.ask(NOW, Tier::Ack, &mut rng), Advice::Send);
        held.served(NOW, None, &mut rng);
        assert_eq!(held.ask(NOW, Tier::Send, &mut rng), Advice::Send, "all is open again");
        // What is said about all calls goes before what is said about one.
        let ttl = Duration::from_secs(1);
        held.told(NOW, Some(HoldBack { open: Tier::Ack, ttl }), &mut rng);
        held.refused(NOW, Tier::Send, Duration::from_secs(7));
        assert_eq!(held.ask(NOW + 2 * ttl, Tier::Send, &mut rng), Advice::Send);
        // After 49 days.
        let late = Duration::from_millis(u32::MAX.into());
        held.refused(late, Tier::Send, Duration::from_secs(7));
        assert_eq!(held.ask(late, Tier::Send, &mut rng), Advice::Send);
    }

    #[test]
    fn they_come_back_spread_over_half_of_the_ttl() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut quarters = [0; 4];
        for _ in 0..4_000 {
            let mut held = told(&mut rng);
            let until = loop {
                if let Advice::Hold { until } = held.ask(NOW, Tier::Background, &mut rng) {
                    break until;
                }
            };
            assert_eq!(held.ask(until, Tier::Background, &mut rng), Advice::Send);
            quarters[((until - NOW).as_millis() as usize - 2_000) / 250 % 4] += 1;
        }
        assert!(quarters.iter().all(|&count: &i32| count.abs_diff(1_000) < 150), "{quarters:?}");
    }

    #[test]
    fn an_answer_without_advice_opens_everything() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut held = told(&mut rng);
        held.told(NOW, None, &mut rng);
        assert_eq!(held.ask(NOW, Tier::Background, &mut rng), Advice::Send);
    }
}
