//! The highest rate at which the gates hold, and what becomes of the service beyond it.
//!
//! The rate is doubled until a trial misses a gate, halved into what is left until that is as narrow as wanted, and then confirmed with a longer
//! trial, because a queue that grows slowly is not seen in a short one. A confirmation that fails takes one step back and is
//! tried again. Beyond the knee further trials say how much of what is asked for is still done in time: a service that sheds load keeps its
//! goodput, and one that collapses does not.

use serde::{Deserialize, Serialize};

/// What a trial at one rate showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub rate_per_s: f64,
    pub verdict: TrialVerdict,
    /// Done in time, a second.
    pub goodput_per_s: f64,
    pub p99_ms: Option<f64>,
    /// Where it can be read about.
    pub folder: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialVerdict {
    /// All gates held.
    Held,
    Missed,
    /// The load tool was too slow for this rate, so nothing is known of the service.
    Invalid,
    /// By the user.
    Interrupted,
}

/// What a trial is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Search,
    Confirm,
    Beyond,
}

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub min_per_s: f64,
    pub max_per_s: f64,
    /// Share of the rate to which the knee is searched.
    pub tolerance: f64,
    /// Whether to go beyond the knee.
    pub beyond: bool,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub ending: Ending,
    /// The highest rate that was confirmed.
    pub sustainable_per_s: Option<f64>,
    /// All trials, in the order in which they took place.
    pub trials: Vec<Trial>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The knee is between the sustainable rate and a rate that missed.
    Knee,
    /// Even the highest rate held.
    AboveMax,
    /// Even the lowest rate missed.
    BelowMin,
    /// The load tool gave out before the service did.
    GeneratorLimit,
    /// No confirmation held.
    Unconfirmed,
    Interrupted,
}

/// Multiples of the knee at which goodput is looked at.
const BEYOND: [f64; 4] = [1.1, 1.25, 1.5, 2.0];
const CONFIRMATIONS_MAX: usize = 4;

/// Searches with `trial`, which offers a rate and says what came of it.
///
/// # Errors
///
/// When a trial could not take place.
pub async fn search<E>(
    bounds: Bounds,
    mut trial: impl AsyncFnMut(f64, Purpose) -> Result<Trial, E>,
) -> Result<Found, E> {
    let mut trials = Vec::new();
    let found = |ending, sustainable_per_s, trials: &mut Vec<Trial>| {
        Ok(Found { ending, sustainable_per_s, trials: std::mem::take(trials) })
    };
    // The highest rate that held, and the lowest that did not.
    let (mut held, mut missed): (Option<f64>, Option<f64>) = (None, None);
    let mut limited = false;
    let mut rate = bounds.min_per_s;
    loop {
        let seen = trial(rate, Purpose::Search).await?;
        let verdict = seen.verdict;
        trials.push(seen);
        match verdict {
            TrialVerdict::Held => held = Some(rate),
            TrialVerdict::Missed => (missed, limited) = (Some(rate), false),
            TrialVerdict::Interrupted => return found(Ending::Interrupted, held, &mut trials),
            // Rates above it would be no better.
            TrialVerdict::Invalid => (missed, limited) = (Some(rate), true),
        }
        rate = match (held, missed) {
            (None, Some(_)) if limited => return found(Ending::GeneratorLimit, None, &mut trials),
            (None, _) => return found(Ending::BelowMin, None, &mut trials),
            (Some(held), None) if held >= bounds.max_per_s => break,
            (Some(held), None) => (held * 2.0).min(bounds.max_per_s),
            (Some(held), Some(missed)) if missed - held <= bounds.tolerance * missed => break,
            (Some(held), Some(missed)) => f64::midpoint(held, missed),
        };
    }
    let mut candidate = held.unwrap_or(bounds.min_per_s);
    let mut confirmed = None;
    for _ in 0..CONFIRMATIONS_MAX {
        let seen = trial(candidate, Purpose::Confirm).await?;
        let verdict = seen.verdict;
        trials.push(seen);
        match verdict {
            TrialVerdict::Held => {
                confirmed = Some(candidate);
                break;
            }
            TrialVerdict::Interrupted => return found(Ending::Interrupted, None, &mut trials),
            TrialVerdict::Missed | TrialVerdict::Invalid => candidate *= 1.0 - bounds.tolerance,
        }
        if candidate < bounds.min_per_s {
            break;
        }
    }
    let Some(knee) = confirmed else { return found(Ending::Unconfirmed, None, &mut trials) };
    let ending = match missed {
        _ if limited => Ending::GeneratorLimit,
        Some(_) => Ending::Knee,
        None => Ending::AboveMax,
    };
    if bounds.beyond && ending == Ending::Knee {
        for factor in BEYOND {
            let seen = trial(knee * factor, Purpose::Beyond).await?;
            let over = matches!(seen.verdict, TrialVerdict::Invalid | TrialVerdict::Interrupted);
            trials.push(seen);
            if over {
                break;
            }
        }
    }
    found(ending, Some(knee), &mut trials)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// A server with one queue (M/M/1) that serves `mu` a second; nobody waits longer than `patience_s`.
    struct Server {
        mu: f64,
        limit_ms: f64,
        /// Refuses who would wait longer. `None`: everybody waits.
        patience_s: Option<f64>,
        random: StdRng,
        trials: u32,
    }

    impl Server {
        fn new(mu: f64, limit_ms: f64, seed: u64) -> Self {
            Self { mu, limit_ms, patience_s: None, random: StdRng::seed_from_u64(seed), trials: 0 }
        }

        /// The rate at which p99 of the time in the system is the limit: that time is exponential with rate μ − λ.
        fn knee(&self) -> f64 {
            self.mu - 100f64.ln() / (self.limit_ms / 1_000.0)
        }

        fn trial(&mut self, rate: f64, purpose: Purpose) -> Trial {
            self.trials += 1;
            let length_s = if purpose == Purpose::Confirm { 240.0 } else { 60.0 };
            let exponential = |random: &mut StdRng, rate: f64| -(1.0 - random.random::<f64>()).ln() / rate;
            let (mut now, mut free_at, mut times, mut in_time) = (0.0, 0.0_f64, Vec::new(), 0);
            while now < length_s {
                now += exponential(&mut self.random, rate);
                let waits = (free_at - now).max(0.0);
                if self.patience_s.is_some_and(|patience| waits > patience) {
                    continue;
                }
                free_at = now + waits + exponential(&mut self.random, self.mu);
                let ms = (free_at - now) * 1_000.0;
                in_time += u32::from(ms <= self.limit_ms);
                times.push(ms);
            }
            times.sort_by(f64::total_cmp);
            let p99 = times[times.len() * 99 / 100];
            let verdict = if p99 <= self.limit_ms { TrialVerdict::Held } else { TrialVerdict::Missed };
            let goodput_per_s = f64::from(in_time) / length_s;
            Trial { rate_per_s: rate, verdict, goodput_per_s, p99_ms: Some(p99), folder: String::new() }
        }

        async fn search(&mut self, bounds: Bounds) -> Found {
            let found: Result<_, Infallible> =
                search(bounds, async |rate, purpose| Ok(self.trial(rate, purpose))).await;
            found.unwrap()
        }
    }

    const BOUNDS: Bounds = Bounds { min_per_s: 25.0, max_per_s: 100_000.0, tolerance: 0.03, beyond: true };

    #[tokio::test]
    async fn the_knee_of_a_queue_is_found() {
        for (mu, limit_ms, seed) in [(1_000.0, 50.0, 1), (300.0, 100.0, 2), (2_000.0, 10.0, 3)] {
            let mut server = Server::new(mu, limit_ms, seed);
            let found = server.search(BOUNDS).await;
            let (knee, rate) = (server.knee(), found.sustainable_per_s.unwrap());
            assert_eq!(found.ending, Ending::Knee);
            assert!((rate / knee - 1.0).abs() < 0.08, "seed {seed}: {rate} and not {knee}");
            assert!(server.trials <= 26, "{} trials", server.trials);
        }
    }

    #[tokio::test]
    async fn goodput_beyond_the_knee_tells_shedding_from_collapse() {
        let goodput = async |patience_s| {
            let mut server = Server { patience_s, ..Server::new(500.0, 100.0, 7) };
            let found = server.search(Bounds { max_per_s: 5_000.0, ..BOUNDS }).await;
            let last = found.trials.last().unwrap();
            last.goodput_per_s / found.sustainable_per_s.unwrap_or(500.0)
        };
        assert!(goodput(None).await < 0.2, "everybody waits for ever");
        // p99 of those who were let in holds at every rate then.
        let mut shedding = Server { patience_s: Some(0.06), ..Server::new(500.0, 100.0, 7) };
        let found = shedding.search(Bounds { max_per_s: 2_000.0, ..BOUNDS }).await;
        assert_eq!((found.ending, found.sustainable_per_s), (Ending::AboveMax, Some(2_000.0)));
        assert!(found.trials.last().unwrap().goodput_per_s > 450.0);
    }

    #[tokio::test]
    async fn the_edges_are_told_apart() {
        let slow = Server::new(20.0, 50.0, 1).search(BOUNDS).await;
        assert_eq!((slow.ending, slow.sustainable_per_s, slow.trials.len()), (Ending::BelowMin, None, 1));
        let trial = |rate_per_s: f64, verdict| Trial {
            rate_per_s,
            verdict,
            goodput_per_s: rate_per_s,
            p99_ms: None,
            folder: String::new(),
        };
        let weak: Result<_, Infallible> = search(BOUNDS, async |rate, _| {
            Ok(trial(rate, if rate < 1_000.0 { TrialVerdict::Held } else { TrialVerdict::Invalid }))
        })
        .await;
        let weak = weak.unwrap();
        assert_eq!(weak.ending, Ending::GeneratorLimit);
        assert!((950.0..1_000.0).contains(&weak.sustainable_per_s.unwrap()));
        // A short trial that holds and a long one that does not.
        let leaky: Result<_, Infallible> = search(BOUNDS, async |rate, purpose| {
            let limit = if purpose == Purpose::Confirm { 900.0 } else { 1_000.0 };
            Ok(trial(rate, if rate < limit { TrialVerdict::Held } else { TrialVerdict::Missed }))
        })
        .await;
        let sustainable = leaky.unwrap().sustainable_per_s.unwrap();
        assert!((860.0..900.0).contains(&sustainable), "{sustainable}");
        let stopped: Result<_, Infallible> =
            search(BOUNDS, async |rate, _| Ok(trial(rate, TrialVerdict::Interrupted))).await;
        assert_eq!(stopped.unwrap().ending, Ending::Interrupted);
    }
}
