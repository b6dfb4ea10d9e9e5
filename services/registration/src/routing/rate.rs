//! How many codes a second a provider is given: a token bucket whose rate learns from the answers.
//!
//! Additive increase, multiplicative decrease, as in TCP (Chiu and Jain, 1989): "takes no more at present" cuts the rate
//! to seven tenths, or to what is being taken if that is less, but not below a half; once a second at most, because all that were
//! under way get that answer. So a provider that falls to a tenth is followed within five seconds. While at least a quarter of the rate is used, it rises
//! each second by a twentieth of what it was before the cut; beyond that by a tenth of itself, and as far as it was once in the last hour by two tenths
//! in the next second, four in the one after it, and so on up to doubling, as in TCP's slow start; up to the configured rate.

use std::time::Duration;

use tokio::time::Instant;

use super::faded::Faded;

const CUT: f64 = 0.7;
const CUT_MAX: f64 = 0.5;
const CUT_EVERY: Duration = Duration::from_secs(1);
/// Seconds from nothing to what it was.
const CLIMB_SECONDS: f64 = 20.0;
/// Above what was known to work, a share of itself in the first second; twice as much in each further one, and at most, below what worked once.
const EXPLORE: f64 = 0.1;
const EXPLORE_MAX: f64 = 1.0;
/// The part of the rate that has to be used for it to rise: an unused rate says nothing about the provider.
const USED_MIN: f64 = 0.25;
/// What worked once counts half after this time.
const ONCE: Duration = Duration::from_secs(3_600);
/// Codes a second at least: whoever gives nothing learns nothing.
const RATE_MIN: f64 = 1.0;
/// Codes a second that a provider of unknown rate is thought to take when the first "no more" comes before a rate
/// could be measured: a little less than a Twilio account's default share of a pool of long codes.
const RATE_GUESS: f64 = 10.0;
const MEASURED_OVER: Duration = Duration::from_secs(5);
const NOW: Duration = Duration::from_millis(500);
/// How much that was not used may be made up for at once, in seconds. Little, because whoever counts in seconds takes a greater burst for too
/// much, and no less than the dispatcher may be late.
const BURST: f64 = 0.2;
/// A pause that is not longer says that the rate is too high, and not that nothing is taken.
const MOMENT: Duration = Duration::from_secs(1);
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
    /// Codes that may go out now: at most those of [`BURST`], and at least room for one.
    tokens: f64,
    at: Instant,
    cut_at: Option<Instant>,
    raised_at: Instant,
    /// The provider said so.
    paused_until: Instant,
    taken: Faded,
    taken_now: Faded,
    /// The most codes a second that were taken over some seconds, and when that was looked at.
    once: f64,
    once_at: Instant,
    /// Seconds for which it has risen above what was known.
    explored: f64,
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
            taken_now: Faded::new(NOW, now),
            once: 0.0,
            once_at: now,
            explored: 0.0,
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
        self.at = self.at.max(now);
    }

    /// A token whose call was never made.
    pub(super) fn give_back(&mut self, now: Instant) {
        self.tokens = (self.tokens_at(now) + 1.0).min(burst(self.limit));
        self.at = self.at.max(now);
    }

    /// The provider took a code.
    pub(super) fn taken(&mut self, now: Instant) {
        self.taken.add(1.0, now);
        self.taken_now.add(1.0, now);
        let faded = self.once * (-now.saturating_duration_since(self.once_at).div_duration_f64(ONCE)).exp2();
        self.once = faded.max(self.measured(&self.taken, MEASURED_OVER, now));
        self.once_at = now;
        let is_used = self.measured(&self.taken_now, NOW, now) >= USED_MIN * self.limit;
        if self.limit < self.max && is_used {
            // A second's worth at most: a rate that is not used does not rise.
            let used = now.saturating_duration_since(self.raised_at).as_secs_f64().min(1.0);
            self.tokens = self.tokens_at(now);
            self.at = self.at.max(now);
            let is_known = self.limit < self.before_cut;
            let climb = if is_known {
                self.before_cut / CLIMB_SECONDS
            } else {
                let faster = if self.limit < self.once { self.explored.floor().exp2() } else { 1.0 };
                let share = (EXPLORE * faster).min(EXPLORE_MAX);
                self.explored += used;
                self.limit * share
            };
            self.limit = (self.limit + climb * used).min(self.max);
            self.raised_at = now;
        }
    }

    /// The provider takes no more, for `pause` at least.
    pub(super) fn throttled(&mut self, pause: Duration, now: Instant) {
        self.paused_until = self.paused_until.max(now + pause);
        // Nothing is saved up during the pause, or a burst would follow it.
        self.tokens = self.tokens_at(now).min(1.0);
        self.at = self.paused_until;
        if self.cut_at.is_some_and(|cut| now.saturating_duration_since(cut) < CUT_EVERY) {
            return;
        }
        let unknown = || self.measured(&self.taken, MEASURED_OVER, now).max(RATE_GUESS);
        let limit = if self.limit.is_finite() { self.limit } else { unknown() };
        let taken = self.measured(&self.taken_now, NOW, now);
        // Nothing taken says how high the rate is, not how low.
        let cut = if taken > 0.0 { taken.clamp(limit * CUT_MAX, limit * CUT) } else { limit * CUT };
        self.before_cut = limit;
        self.limit = cut.max(RATE_MIN);
        self.explored = 0.0;
        self.cut_at = Some(now);
        self.raised_at = now;
    }

    /// Codes a second at present; infinite when there is no limit.
    pub(super) fn limit(&self) -> f64 {
        self.limit
    }

    /// Codes a second that can be counted on: none while the provider has asked for a pause that is longer than a moment.
    pub(super) fn usable(&self, now: Instant) -> f64 {
        if self.paused_until.saturating_duration_since(now) > MOMENT { 0.0 } else { self.limit }
    }

    /// Codes a second that were taken in the last seconds.
    pub(super) fn measured_lately(&self, now: Instant) -> f64 {
        self.measured(&self.taken, MEASURED_OVER, now)
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
    fn measured(&self, taken: &Faded, half_life: Duration, now: Instant) -> f64 {
        let half_lives = now.saturating_duration_since(self.started).max(YOUNG).div_duration_f64(half_life);
        let integral = half_life.as_secs_f64() / std::f64::consts::LN_2 * (1.0 - (-half_lives).exp2());
        taken.get(now) / integral
    }
}

fn burst(limit: f64) -> f64 {
    (limit * BURST).max(1.0)
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
        assert!((505..=512).contains(&all), "50 a second and a burst of ten: {all}");
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

    /// Seconds until the rate has been within a fifth of `near` for the first time.
    fn until_near(rate: &mut Rate, capacity: f64, near: f64, now: &mut Instant) -> usize {
        (1..60)
            .find(|_| {
                drive(rate, capacity, 1, now);
                (near / rate.limit()).ln().abs() < 1.2f64.ln()
            })
            .expect("it comes near")
    }

    #[test]
    fn a_fall_to_a_tenth_and_the_way_back_take_seconds() {
        let mut now = Instant::now();
        let mut rate = Rate::new(Some(100.0), now);
        drive(&mut rate, 100.0, 60, &mut now);
        let down = until_near(&mut rate, 10.0, 10.0, &mut now);
        assert!(down <= 6, "{down} s down to a tenth");
        let (taken, throttled) = drive(&mut rate, 10.0, 600, &mut now);
        let taken: usize = taken.iter().sum();
        assert!(taken > 600 * 10 * 7 / 10, "{taken} taken and {throttled} throttled in ten minutes");
        let up = until_near(&mut rate, 100.0, 100.0, &mut now);
        assert!(up <= 10, "{up} s back up");
    }

    #[test]
    fn what_is_not_used_does_not_rise() {
        let mut now = Instant::now();
        let mut rate = Rate::new(None, now);
        drive(&mut rate, 20.0, 20, &mut now);
        let before = rate.limit();
        for _ in 0..60 {
            now += Duration::from_secs(1);
            rate.take(now);
            rate.taken(now);
        }
        assert!(rate.limit() < before * 1.1, "{} from {before} at one a second", rate.limit());
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
