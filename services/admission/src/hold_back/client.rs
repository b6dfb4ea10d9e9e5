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
    /// A probe is out.
    probing: bool,
    /// The next one.
    no_probe_before: Duration,
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
            self.no_probe_before = until;
        }
    }

    /// Exempt calls are never held.
    pub fn ask(&mut self, now: Duration, tier: Tier, rng: &mut impl Rng) -> Advice {
        match self.advice {
            Some((open, until)) if tier > open && now < until => {
                let probes = now >= self.no_probe_before && rng.random_bool(PROBES);
                if !probes {
                    return Advice::Hold { until };
                }
                (self.probing, self.no_probe_before) = (true, until);
                Advice::Send
            }
            _ => Advice::Send,
        }
    }
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
