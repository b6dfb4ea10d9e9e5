//! Everybody who calls. A million of them are two hundred megabytes, so what is kept of each is small.

use spillway_admission::{Advice, HeldBack, HoldBack as Told, RetryBudget, RetryPolicy, Tier};

use super::Behaviour;
use crate::policy::{HoldBack, TIERS};
use crate::random::{Stream, mix};
use crate::time::Nanos;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) budget: RetryBudget,
    held_back: HeldBack,
    behaviour: u8,
    pub(crate) connected: bool,
    pub(crate) connecting: bool,
    pub(crate) reconnects: u8,
    pub(crate) gateway: u32,
}

#[derive(Debug)]
pub(crate) struct Population {
    clients: Vec<Client>,
    behaviours: Vec<Behaviour>,
    /// Milliseconds of the run before which a tier of a client is not to be asked for; only when somebody listens.
    not_before: Vec<u32>,
    elephants: u32,
    elephant_weight: f64,
    seed: u64,
}

impl Population {
    /// The first `elephants` of `count` clients call `elephant_weight` times as often as the others. `shares` says how
    /// many behave how; it need not add up to 1.
    pub(crate) fn new(
        count: u32,
        (elephants, elephant_weight): (u32, f64),
        shares: &[(Behaviour, f64)],
        seed: u64,
    ) -> Self {
        let total: f64 = shares.iter().map(|(_, share)| share).sum();
        let behave = |client: u32| {
            let mut rest = (mix(u64::from(client) ^ mix(seed ^ 0xbe4a)) as f64 / u64::MAX as f64) * total;
            let chosen = shares.iter().position(|(_, share)| {
                rest -= share;
                rest < 0.0
            });
            chosen.unwrap_or(shares.len().saturating_sub(1)) as u8
        };
        let clients = (0..count.max(1)).map(|client| Client {
            budget: RetryBudget::new(RetryPolicy::default()),
            held_back: HeldBack::default(),
            behaviour: behave(client),
            connected: true,
            connecting: false,
            reconnects: 0,
            gateway: mix(u64::from(client) ^ seed) as u32,
        });
        let listens = shares.iter().any(|(behaviour, _)| behaviour.hears_retry_info);
        Self {
            clients: clients.collect(),
            behaviours: shares.iter().map(|(behaviour, _)| *behaviour).collect(),
            not_before: if listens { vec![0; count.max(1) as usize * TIERS] } else { Vec::new() },
            elephants,
            elephant_weight,
            seed,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.clients.len() as u32
    }

    /// Who calls next.
    pub(crate) fn pick(&self, chance: &mut Stream) -> u32 {
        let mice = self.len() - self.elephants.min(self.len());
        let heavy = f64::from(self.elephants) * self.elephant_weight;
        if self.elephants > 0 && chance.chance(heavy / (heavy + f64::from(mice))) {
            return chance.below(self.elephants);
        }
        self.elephants + chance.below(mice.max(1))
    }

    /// A stable hash of who it is.
    pub(crate) fn user(&self, client: u32) -> u64 {
        mix(u64::from(client) ^ mix(self.seed))
    }

    pub(crate) fn client(&mut self, client: u32) -> &mut Client {
        &mut self.clients[client as usize]
    }

    pub(crate) fn behaviour(&self, client: u32) -> &Behaviour {
        &self.behaviours[usize::from(self.clients[client as usize].behaviour)]
    }

    pub(crate) fn client_and_behaviour(&mut self, client: u32) -> (&mut Client, &Behaviour) {
        let client = &mut self.clients[client as usize];
        let behaviour = &self.behaviours[usize::from(client.behaviour)];
        (client, behaviour)
    }

    /// Whether the client keeps a call of this tier to itself.
    pub(crate) fn holds_back(&mut self, client: u32, tier: u8, now: Nanos, chance: &mut Stream) -> bool {
        let pushed = self.not_before.get(slot(client, tier)).is_some_and(|until| millis(now) < *until);
        let Some(tier) = Tier::from_index(usize::from(tier)) else { return pushed };
        let advice = self.clients[client as usize].held_back.ask(now.duration(), tier, chance.rng());
        pushed || matches!(advice, Advice::Hold { .. })
    }

    /// The client hears what came with an answer.
    pub(crate) fn hear(
        &mut self,
        client: u32,
        served: bool,
        hold_back: Option<HoldBack>,
        now: Nanos,
        chance: &mut Stream,
    ) {
        if !self.behaviour(client).hears_hold_back {
            return;
        }
        let told = hold_back.and_then(|told| {
            let open = Tier::from_index(usize::from(told.worst_open))?;
            Some(Told { open, ttl: told.ttl.duration() })
        });
        self.clients[client as usize].held_back.told(now.duration(), told, chance.rng());
        if told.is_none() && served {
            // All is open again, what was closed with a pause too.
            let slots = slot(client, 0)..slot(client, 0) + TIERS;
            if let Some(slots) = self.not_before.get_mut(slots) {
                slots.fill(0);
            }
        }
    }

    /// One timer for each tier and not for each call.
    pub(crate) fn push_back(&mut self, client: u32, tier: u8, until: Nanos) {
        if self.behaviour(client).hears_retry_info
            && let Some(slot) = self.not_before.get_mut(slot(client, tier))
        {
            *slot = millis(until);
        }
    }
}

fn slot(client: u32, tier: u8) -> usize {
    client as usize * TIERS + usize::from(tier)
}

fn millis(at: Nanos) -> u32 {
    u32::try_from(at.0 / 1_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Cohort;

    #[test]
    fn elephants_call_as_often_as_their_weight_says() {
        let shares = [(Cohort::OpenLoop.behaviour(), 1.0)];
        let population = Population::new(110, (10, 100.0), &shares, 1);
        let mut chance = Stream::new(1, 1);
        let calls = 100_000;
        let heavy = (0..calls).filter(|_| population.pick(&mut chance) < 10).count() as f64;
        let expected = f64::from(calls) * 1_000.0 / 1_100.0;
        assert!((heavy - expected).abs() < 0.01 * expected, "{heavy} {expected}");
    }

    #[test]
    fn a_client_holds_back_what_it_was_told_until_the_time_is_over() {
        let shares = [(Cohort::Cooperative.behaviour(), 1.0)];
        let mut population = Population::new(2, (0, 1.0), &shares, 1);
        let mut chance = Stream::new(1, 1);
        let told = HoldBack { worst_open: 3, ttl: Nanos::from_secs(2) };
        population.hear(0, true, Some(told), Nanos::SECOND, &mut chance);
        let mut held = |tier, at| {
            (0..1_000).filter(|_| population.holds_back(0, tier, Nanos::from_millis(at), &mut chance)).count()
        };
        assert_eq!(held(3, 1_500), 0);
        assert!((970..1_000).contains(&held(4, 1_500)), "all but some probes");
        assert_eq!(held(4, 4_000), 0);
        population.push_back(1, 4, Nanos::from_secs(9));
        assert!(population.holds_back(1, 4, Nanos::from_secs(8), &mut chance));
        assert!(!population.holds_back(1, 3, Nanos::from_secs(8), &mut chance));
    }

    #[test]
    fn cohorts_come_in_their_shares() {
        let shares = [(Cohort::Polite.behaviour(), 3.0), (Cohort::HotLoop.behaviour(), 1.0)];
        let population = Population::new(40_000, (0, 1.0), &shares, 7);
        let polite = (0..40_000).filter(|client| population.behaviour(*client).hears_pushback).count();
        assert!((29_500..30_500).contains(&polite), "{polite}");
    }
}
