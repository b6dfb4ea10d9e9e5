//! How many codes a second a provider is given: a token bucket whose rate learns from the answers.
//!
//! Additive increase, multiplicative decrease, as in TCP (Chiu and Jain, 1989): "takes no more at present" cuts the rate
//! to seven tenths, once a second at most because all that were under way get that answer; while it is used, it rises
//! each second by a twentieth of what it was before the cut, and beyond that by a tenth of itself, up to the configured
//! rate.

use std::time::Duration;

use tokio::time::Instant;

use super::faded::Faded;

const CUT: f64 = 0.7;
const CUT_EVERY: Duration = Duration::from_secs(1);
/// Seconds from nothing to what it was.
const CLIMB_SECONDS: f64 = 20.0;
/// Above what was known to work, a share of itself each second.
const EXPLORE: f64 = 0.1;
/// Codes a second at least: whoever gives nothing learns nothing.
const RATE_MIN: f64 = 1.0;
/// Codes a second that a provider of unknown rate is thought to take when the first "no more" comes before a rate
/// could be measured: a little less than a Twilio account's default share of a pool of long codes.
const RATE_GUESS: f64 = 10.0;
const MEASURED_OVER: Duration = Duration::from_secs(5);
/// A rate is not measured over less than this.
const YOUNG: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Rate {
    /// Codes a second, as configured; infinite when it is not.
    max: f64,
    /// At present.
    limit: f64,
    /// What the limit climbs back to before it explores further.
    before_cut: f64,
    /// Codes that may go out now: at most those of a second, and at least room for one.
    tokens: f64,
    at: Instant,
    cut_at: Option<Instant>,
    raised_at: Instant,
    /// The provider said so.
    paused_until: Instant,
    taken: Faded,
    started: Instant,
}

impl Rate {
    /// `per_second`: what the contract with the provider says. Absent: no limit until it says "no more".
    pub(super) fn new(per_second: Option<f64>, now: Instant) -> Self {
        let max = per_second.unwrap_or(f64::INFINITY);
        Self {
            max,
            limit: max,
            before_cut: max,
            tokens: burst(max),
            at: now,
            cut_at: None,
            raised_at: now,
            paused_until: now,
            taken: Faded::new(MEASURED_OVER, now),
            started: now,
        }
    }

    /// # Errors
    ///
    /// When there is room again, if nobody else takes it.
    pub(super) fn room(&self, now: Instant) -> Result<(), Instant> {
        if self.paused_until > now {
            return Err(self.paused_until);
        }
        let tokens = self.tokens_at(now);
        if tokens >= 1.0 {
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - tokens) / self.limit).max(Duration::from_millis(1)))
    }

    pub(super) fn take(&mut self, now: Instant) {
        self.tokens = self.tokens_at(now) - 1.0;
        self.at = now;
    }

    /// A token whose call was never made.
    pub(super) fn give_back(&mut self, now: Instant) {
        self.tokens = (self.tokens_at(now) + 1.0).min(burst(self.limit));
        self.at = now;
    }

    /// The provider took a code.
    pub(super) fn taken(&mut self, now: Instant) {
        if self.limit < self.max {
            // A second's worth at most: a rate that is not used does not rise.
            let used = now.saturating_duration_since(self.raised_at).as_secs_f64().min(1.0);
            self.tokens = self.tokens_at(now);
            self.at = now;
            let is_known = self.limit < self.before_cut;
            let climb = if is_known { self.before_cut / CLIMB_SECONDS } else { self.limit * EXPLORE };
            self.limit = (self.limit + climb * used).min(self.max);
            self.raised_at = now;
        }
        self.taken.add(1.0, now);
    }

    /// The provider takes no more, for `pause` at least.
    pub(super) fn throttled(&mut self, pause: Duration, now: Instant) {
        self.paused_until = self.paused_until.max(now + pause);
        if self.cut_at.is_some_and(|cut| now.saturating_duration_since(cut) < CUT_EVERY) {
            return;
        }
        let limit = if self.limit.is_finite() { self.limit } else { self.measured(now).max(RATE_GUESS) };
        self.tokens = self.tokens_at(now).min(1.0);
        self.at = now;
        self.before_cut = limit;
        self.limit = (limit * CUT).max(RATE_MIN);
        self.cut_at = Some(now);
        self.raised_at = now;
    }

    /// Codes a second at present; infinite when there is no limit.
    pub(super) fn limit(&self) -> f64 {
        self.limit
    }

    fn tokens_at(&self, now: Instant) -> f64 {
        if self.limit.is_infinite() {
            return f64::INFINITY;
        }
        let earned = self.limit * now.saturating_duration_since(self.at).as_secs_f64();
        let tokens = if self.tokens.is_finite() { self.tokens } else { 0.0 };
        (tokens + earned).min(burst(self.limit))
    }

    /// Codes a second lately: the faded sum of a steady rate r is r times the integral of what fades.
    fn measured(&self, now: Instant) -> f64 {
        let half_lives =
            now.saturating_duration_since(self.started).max(YOUNG).div_duration_f64(MEASURED_OVER);
        let integral = MEASURED_OVER.as_secs_f64() / std::f64::consts::LN_2 * (1.0 - (-half_lives).exp2());
        self.taken.get(now) / integral
    }
}

fn burst(limit: f64) -> f64 {
    limit.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    /// Offers a code each millisecond to a provider that takes `capacity` of them a second and throttles the rest.
    /// Answers with how many it took in each second, and how often it had to throttle.
    fn drive(rate: &mut Rate, capacity: f64, seconds: usize, now: &mut Instant) -> (Vec<usize>, usize) {
        let burst = (capacity / 10.0).max(1.0);
        let (mut credit, mut throttled, mut taken) = (burst, 0, vec![0; seconds]);
        for count in &mut taken {
            for _ in 0..1_000 {
                *now += TICK;
                credit = f64::min(credit + capacity / 1_000.0, burst);
                if rate.room(*now).is_err() {
                    continue;
                }
                rate.take(*now);
                if credit >= 1.0 {
                    credit -= 1.0;
                    rate.taken(*now);
                    *count += 1;
                } else {
                    throttled += 1;
                    rate.throttled(Duration::from_millis(20), *now);
                }
            }
        }
        (taken, throttled)
    }

    #[test]
    fn the_configured_rate_holds() {
        let mut now = Instant::now();
        let mut rate = Rate::new(Some(50.0), now);
        let (taken, throttled) = drive(&mut rate, 1_000.0, 10, &mut now);
        let all: usize = taken.iter().sum();
        assert!((545..=552).contains(&all), "50 a second and a burst of as much: {all}");
        assert_eq!(throttled, 0);
    }

    #[test]
    fn it_finds_a_provider_that_takes_less_and_follows_it_up_again() {
        let mut now = Instant::now();
        let mut rate = Rate::new(Some(200.0), now);
        let (taken, throttled) = drive(&mut rate, 60.0, 60, &mut now);
        let (late, all): (usize, usize) = (taken[30..].iter().sum(), taken.iter().sum());
        assert!(late > 30 * 60 * 7 / 10, "at least seven tenths of what it takes: {late} in 30 s");
        assert!(throttled * 10 < all, "{throttled} throttled of {all}");
        let (taken, _) = drive(&mut rate, 1_000.0, 120, &mut now);
        assert!(taken[110] >= 195, "back at the configured rate: {}", taken[110]);
    }

    #[test]
    fn an_unknown_rate_is_learnt_from_what_was_taken() {
        let mut now = Instant::now();
        let mut rate = Rate::new(None, now);
        let (taken, _) = drive(&mut rate, 300.0, 30, &mut now);
        assert!(rate.limit().is_finite());
        let late: usize = taken[15..].iter().sum();
        assert!(late > 15 * 300 * 6 / 10, "{late} in 15 s");
    }

    #[test]
    fn many_answers_to_one_burst_cut_once_and_the_pause_counts() {
        let now = Instant::now();
        let mut rate = Rate::new(Some(100.0), now);
        (0..50).for_each(|_| rate.throttled(Duration::from_secs(7), now));
        assert!((rate.limit() - 70.0).abs() < 1e-9);
        assert_eq!(rate.room(now), Err(now + Duration::from_secs(7)));
        rate.room(now + Duration::from_secs(7)).unwrap();
    }

    #[test]
    fn a_token_that_was_not_used_comes_back() {
        let now = Instant::now();
        let mut rate = Rate::new(Some(1.0), now);
        rate.take(now);
        assert_eq!(rate.room(now), Err(now + Duration::from_secs(1)));
        rate.give_back(now);
        rate.room(now).unwrap();
    }
}
