//! Connections: how fast they are taken, how long they live, and when those who lost one come back.
//!
//! A handshake costs as much as some hundred small calls, and a million clients that lost their server all want one now.
//! The server takes as many a second as a share of its processors can do, and tells everybody how far to spread before it
//! happens, because afterwards it can no longer tell anybody anything.

use std::time::Duration;

use rand::Rng;

/// A token bucket for things that come one by one.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    /// Seconds for one.
    period: f64,
    /// How many may come at once after a pause.
    burst: f64,
    /// When the bucket would be full again, in seconds (the theoretical arrival time of GCRA).
    full_at: f64,
}

/// How old connections get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectionAge {
    pub mean: Duration,
    /// Each connection's age is this share longer or shorter, drawn evenly. 0.1 is gRFC A9's, which tonic lacks: without
    /// it, connections that were opened together are closed together for ever.
    pub jitter: f64,
}

/// How a client that lost its stream comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reconnect {
    /// Told by the server while all was well: the first try comes at any time within it.
    pub spread: Duration,
    pub base: Duration,
    pub cap: Duration,
}

impl Pacer {
    /// `rate` a second, at least one in 1000 s, and up to `burst` at once.
    pub fn new(rate: f64, burst: u32) -> Self {
        Self { period: 1.0 / rate.max(1e-3), burst: f64::from(burst.max(1)), full_at: 0.0 }
    }

    /// Takes one; else tells how long until one is there. Who is told so has taken nothing.
    ///
    /// # Errors
    ///
    /// The time to wait.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let now = now.as_secs_f64();
        let full_at = self.full_at.max(now) + self.period;
        let early = full_at - now - self.period * self.burst;
        // A millionth of a period is what adding up costs.
        if early > self.period * 1e-6 {
            return Err(Duration::from_secs_f64(early));
        }
        self.full_at = full_at;
        Ok(())
    }
}

/// Handshakes a second that `share` of the processors can do, when one takes so much of a processor's time.
/// `reference/overload.md` b.9 gives handshakes 0.3 of a gateway.
pub fn handshakes_per_second(cores: u32, handshake_cpu: Duration, share: f64) -> f64 {
    share * f64::from(cores) / handshake_cpu.as_secs_f64().max(1e-6)
}

/// How far clients must spread so that all of `connected` come back at `rate` a second over the fleet. A million and 20,000
/// a second: 50 s.
pub fn reconnect_spread(connected: u64, rate: f64) -> Duration {
    Duration::from_secs_f64((connected as f64 / rate.max(1e-3)).min(SPREAD_MAX_S))
}

/// Nobody waits longer than this for their first try.
const SPREAD_MAX_S: f64 = 3_600.0;

impl ConnectionAge {
    /// After which a connection is told to go elsewhere.
    pub fn draw(&self, rng: &mut impl Rng) -> Duration {
        let jitter = self.jitter.clamp(0.0, 1.0);
        self.mean.mul_f64(rng.random_range(1.0 - jitter..=1.0 + jitter))
    }
}

impl Default for ConnectionAge {
    fn default() -> Self {
        Self { mean: Duration::from_secs(30 * 60), jitter: 0.1 }
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { spread: Duration::ZERO, base: Duration::from_secs(1), cap: Duration::from_secs(300) }
    }
}

impl Reconnect {
    /// How long to wait before try number `tries + 1` since the stream was lost. The first is spread; later ones wait up to a
    /// time that doubles, and never less than is told by the spread's mean.
    pub fn pause(&self, tries: u32, rng: &mut impl Rng) -> Duration {
        let within = if tries == 0 {
            self.spread
        } else {
            self.base.saturating_mul(1 << (tries - 1).min(20)).min(self.cap).max(self.spread)
        };
        within.mul_f64(rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    proptest! {
        #[test]
        fn no_window_takes_more_than_burst_and_rate(
            rate in 0.5..5_000.0,
            burst in 1u32..50,
            gaps_us in prop::collection::vec(0u64..20_000, 1..300),
        ) {
            let mut pacer = Pacer::new(rate, burst);
            let (mut now, mut taken) = (Duration::from_secs(1), Vec::new());
            for gap in gaps_us {
                now += Duration::from_micros(gap);
                match pacer.take(now) {
                    Ok(()) => taken.push(now),
                    // Whoever waits as long as told gets one, if nobody else came.
                    Err(wait) => prop_assert!(pacer.clone().take(now + wait + Duration::from_nanos(2)).is_ok()),
                }
            }
            for first in 0..taken.len() {
                for last in first..taken.len() {
                    let most = f64::from(burst) + (taken[last] - taken[first]).as_secs_f64() * rate + 1e-3;
                    prop_assert!((last - first + 1) as f64 <= most);
                }
            }
        }

        #[test]
        fn ages_stay_within_their_jitter(jitter in 0.0..1.0, seed: u64) {
            let age = ConnectionAge { jitter, ..ConnectionAge::default() };
            let drawn = age.draw(&mut SmallRng::seed_from_u64(seed)).div_duration_f64(age.mean);
            prop_assert!((1.0 - jitter - 1e-9..=1.0 + jitter + 1e-9).contains(&drawn));
        }
    }

    /// The worked example: a million clients and 20,000 handshakes a second come back in 50 s, and no second of it brings
    /// more than the fleet can take.
    #[test]
    fn a_million_come_back_as_fast_as_they_can_be_taken() {
        let reconnect = Reconnect { spread: reconnect_spread(1_000_000, 20_000.0), ..Reconnect::default() };
        assert_eq!(reconnect.spread, Duration::from_secs(50));
        let mut rng = SmallRng::seed_from_u64(1);
        let mut seconds = [0u32; 50];
        for _ in 0..1_000_000 {
            seconds[reconnect.pause(0, &mut rng).as_secs() as usize] += 1;
        }
        assert!(seconds.iter().all(|&count| count < 20_800), "{seconds:?}");
        assert!((handshakes_per_second(4, Duration::from_millis(1), 0.3) - 1_200.0).abs() < 1e-6);
    }

    #[test]
    fn later_tries_double_up_to_the_cap() {
        let mut rng = SmallRng::seed_from_u64(1);
        let reconnect = Reconnect { spread: Duration::from_secs(10), ..Reconnect::default() };
        let mut longest =
            |tries| (0..1_000).map(|_| reconnect.pause(tries, &mut rng)).max().unwrap().as_secs_f64();
        assert!(longest(1) <= 10.0 && longest(5) <= 16.0 && longest(5) > 14.0 && longest(30) <= 300.0);
    }
}
