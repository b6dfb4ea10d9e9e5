//! Keyed GCRA limits, asked before anything else is done for a request.

pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod key;
mod store;
pub(crate) mod table;

use std::array;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::{Quota, RateLimiter};

use crate::metrics::{Outcome, QuotaMetrics};
use clock::TokioClock;
use config::{QuotaConfig, QuotaConfigError, Settings};
use key::Key;
use store::{BoundedStore, Probe};
use table::{Limit, OnFailure};

/// When a refused caller may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The exact time, without jitter: asked again after it, the same caller is admitted if nothing else drew on its
    /// bucket meanwhile.
    After(Duration),
    /// More was asked for than a full bucket holds. The request must be made smaller.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    Allowed,
    Refused {
        retry: Retry,
    },
    /// Would be refused, but the limit runs in shadow: let it through.
    Shadowed {
        retry: Retry,
    },
}

impl Decision {
    /// When to come back, for a request that must not go on.
    pub const fn refusal(self) -> Option<Retry> {
        match self {
            Self::Refused { retry } => Some(retry),
            Self::Allowed | Self::Shadowed { .. } => None,
        }
    }
}

/// All quotas of a process.
#[derive(Debug)]
pub struct Quotas<C: Clock = TokioClock> {
    /// Keyed at random for each process, so that nobody outside can find two keys that collide.
    hasher: RandomState,
    clock: C,
    metrics: QuotaMetrics,
    limits: ArcSwap<LiveLimits<C>>,
}

type LiveLimits<C> = [LiveLimit<C>; Limit::COUNT];
type Limiter<C> = RateLimiter<Probe, BoundedStore, C, NoOpMiddleware<<C as Clock>::Instant>>;

#[derive(Debug)]
struct LiveLimit<C: Clock> {
    settings: Settings,
    limiter: Arc<Limiter<C>>,
}

impl<C: Clock + Clone> Quotas<C> {
    /// # Errors
    ///
    /// When the configuration is not valid.
    pub fn new(config: &QuotaConfig, clock: C, metrics: QuotaMetrics) -> Result<Self, QuotaConfigError> {
        config.validate()?;
        let limits = array::from_fn(|i| {
            let spec = &table::LIMITS[i];
            LiveLimit::new(spec.limit, Settings::resolve(spec, config.limit(spec.limit)), &clock, &metrics)
        });
        Ok(Self { hasher: RandomState::new(), limits: ArcSwap::from_pointee(limits), clock, metrics })
    }

    /// Takes up other numbers at once for all callers. A quota whose burst, period or size changes starts with full
    /// buckets, because an arrival time counted in one period means nothing in another; all others keep their state.
    ///
    /// # Errors
    ///
    /// When the configuration is not valid; the old one stays in force.
    pub fn reload(&self, config: &QuotaConfig) -> Result<(), QuotaConfigError> {
        config.validate()?;
        let current = self.limits.load();
        let limits = array::from_fn(|i| {
            let (spec, live) = (&table::LIMITS[i], &current[i]);
            let settings = Settings::resolve(spec, config.limit(spec.limit));
            if settings.same_buckets(&live.settings) {
                LiveLimit { settings, limiter: Arc::clone(&live.limiter) }
            } else {
                LiveLimit::new(spec.limit, settings, &self.clock, &self.metrics)
            }
        });
        // Of two reloads at once one wins whole; the other's fresh buckets are the most that is lost.
        self.limits.store(Arc::new(limits));
        Ok(())
    }

    /// Draws `permits` from the key's bucket, all or none. A refusal draws nothing.
    ///
    /// The key must be of the kind that the limit's row names.
    pub fn check(&self, limit: Limit, key: &Key<'_>, permits: u32) -> Decision {
        self.decide(limit, key, permits, true)
    }

    /// What [`check`](Self::check) would decide now, without drawing. For limits that are charged only after a failure:
    /// peek before the attempt, check after it failed.
    pub fn peek(&self, limit: Limit, key: &Key<'_>, permits: u32) -> Decision {
        self.decide(limit, key, permits, false)
    }

    /// The most permits that [`check`](Self::check) would grant the key at once now. For telling a caller what is left.
    pub fn left(&self, limit: Limit, key: &Key<'_>) -> u32 {
        debug_assert_eq!(key.kind(), limit.spec().key, "{limit:?}");
        let limits = self.limits.load();
        let live = &limits[limit as usize];
        let hash = self.hasher.hash_one(key);
        let granted = |permits| {
            let permits = NonZeroU32::new(permits).filter(|_| live.settings.enabled);
            permits.is_none_or(|permits| live.ask(limit, hash, permits, false, &self.clock).1.is_none())
        };
        // Who is granted some permits is granted fewer, so halving finds the most.
        let (mut low, mut high) = (0, live.settings.burst);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if granted(middle) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }

    fn decide(&self, limit: Limit, key: &Key<'_>, permits: u32, charge: bool) -> Decision {
        debug_assert_eq!(key.kind(), limit.spec().key, "{limit:?}");
        let limits = self.limits.load();
        let live = &limits[limit as usize];
        let Some(permits) = NonZeroU32::new(permits).filter(|_| live.settings.enabled) else {
            return Decision::Allowed;
        };
        let (outcome, retry) = live.ask(limit, self.hasher.hash_one(key), permits, charge, &self.clock);
        let (outcome, decision) = match retry {
            None => (outcome, Decision::Allowed),
            Some(retry) if live.settings.shadow => (Outcome::Shadowed, Decision::Shadowed { retry }),
            Some(retry) => (outcome, Decision::Refused { retry }),
        };
        // A look that finds nothing wrong is followed by the attempt, which is not this limit's to count.
        if charge || retry.is_some() {
            self.metrics.count(limit, outcome);
        }
        decision
    }
}

impl<C: Clock + Clone> LiveLimit<C> {
    /// `settings` are valid.
    fn new(limit: Limit, settings: Settings, clock: &C, metrics: &QuotaMetrics) -> Self {
        let burst = NonZeroU32::new(settings.burst).expect("validated: burst is not zero");
        let quota =
            Quota::with_period(settings.period).expect("validated: period is not zero").allow_burst(burst);
        let store = BoundedStore::new(settings.keys_max, metrics.keys(limit));
        Self { settings, limiter: Arc::new(RateLimiter::new(quota, store, clock.clone())) }
    }

    /// How to count the answer, and when to come back if it is a refusal.
    fn ask(
        &self,
        limit: Limit,
        hash: u64,
        permits: NonZeroU32,
        charge: bool,
        clock: &C,
    ) -> (Outcome, Option<Retry>) {
        if permits.get() > self.settings.burst {
            return (Outcome::Refused, Some(Retry::Never));
        }
        // Cannot overflow: `permits` is at most the burst, and a burst of periods is at most ten years.
        let weight_ns = self.settings.period.as_nanos() as u64 * u64::from(permits.get());
        let probe = Probe::new(hash, weight_ns, charge);
        let answer = self.limiter.check_key_n(&probe, permits).expect("permits fit into the burst");
        match (probe.no_room(), answer) {
            (Some(wait), _) => match limit.spec().on_failure {
                OnFailure::Open => (Outcome::OverflowOpen, None),
                OnFailure::Closed => (Outcome::OverflowClosed, Some(Retry::After(wait))),
            },
            (None, Ok(())) => (Outcome::Allowed, None),
            (None, Err(until)) => (Outcome::Refused, Some(Retry::After(until.wait_time_from(clock.now())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use governor::clock::FakeRelativeClock;
    use prometheus::Registry;
    use proptest::prelude::*;
    use spillway_types::{AccountId, PhoneNumber};

    use super::config::LimitOverride;
    use super::key::Network;
    use super::*;

    struct Bench {
        clock: FakeRelativeClock,
        registry: Registry,
        quotas: Quotas<FakeRelativeClock>,
    }

    impl Bench {
        fn new(config: &str) -> Self {
            let (clock, registry) = (FakeRelativeClock::default(), Registry::new());
            let metrics = QuotaMetrics::register(&registry).unwrap();
            let quotas = Quotas::new(&parse(config), clock.clone(), metrics).unwrap();
            Self { clock, registry, quotas }
        }

        fn check(&self, limit: Limit, user: u128, permits: u32) -> Decision {
            self.quotas.check(limit, &Self::user(user), permits)
        }

        fn user(user: u128) -> Key<'static> {
            Key::User(AccountId::from_bytes(user.to_be_bytes()))
        }

        fn metric(&self, name: &str, limit: &str, outcome: Option<&str>) -> f64 {
            let families = self.registry.gather();
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let has = |metric: &&prometheus::proto::Metric, label: &str, value: &str| {
                metric.get_label().iter().any(|pair| pair.name() == label && pair.value() == value)
            };
            let metric = family.get_metric().iter();
            let mut metric = metric.filter(|m| has(m, "limit", limit));
            let metric = metric.find(|m| outcome.is_none_or(|outcome| has(m, "outcome", outcome))).unwrap();
            metric.get_counter().get_value() + metric.get_gauge().get_value()
        }

        fn counted(&self, limit: Limit, outcome: &str) -> f64 {
            self.metric("spillway_quota_decisions_total", limit.name(), Some(outcome))
        }

        fn keys(&self, limit: Limit) -> f64 {
            self.metric("spillway_quota_keys", limit.name(), None)
        }
    }

    fn parse(config: &str) -> QuotaConfig {
        toml::from_str(config).unwrap()
    }

    fn refused(after: Duration) -> Decision {
        Decision::Refused { retry: Retry::After(after) }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_one_permit_each_period_and_users_apart() {
        let bench = Bench::new("");
        for _ in 0..60 {
            assert_eq!(bench.check(Limit::Messages, 1, 1), Decision::Allowed);
        }
        assert_eq!(bench.check(Limit::Messages, 1, 1), refused(SECOND));
        assert_eq!(bench.check(Limit::Messages, 1, 5), refused(5 * SECOND));
        assert_eq!(bench.check(Limit::Messages, 2, 60), Decision::Allowed);
        assert_eq!(bench.check(Limit::SessionOpen, 1, 1), Decision::Allowed, "limits are apart");
        bench.clock.advance(SECOND / 4);
        assert_eq!(bench.check(Limit::Messages, 1, 1), refused(SECOND * 3 / 4));
        bench.clock.advance(SECOND * 3 / 4);
        assert_eq!(bench.check(Limit::Messages, 1, 1), Decision::Allowed);
        assert_eq!(bench.counted(Limit::Messages, "allowed"), 62.0);
        assert_eq!(bench.counted(Limit::Messages, "refused"), 3.0);
        assert_eq!(bench.keys(Limit::Messages), 2.0);
    }

    #[test]
    fn more_than_the_burst_never_fits_and_draws_nothing() {
        let bench = Bench::new("");
        assert_eq!(bench.check(Limit::Discover, 1, 50_001), Decision::Refused { retry: Retry::Never });
        assert_eq!(bench.check(Limit::Discover, 1, 50_000), Decision::Allowed);
        assert_eq!(bench.check(Limit::Discover, 1, 0), Decision::Allowed);
        assert_eq!(bench.check(Limit::MessageBytes, 1, u32::MAX), Decision::Refused { retry: Retry::Never });
    }

    #[test]
    fn numbers_networks_and_pairs_are_counted_by_what_they_are() {
        let bench =
            Bench::new("[verification_start]\nburst = 1\n[authenticate]\nburst = 1\n[keys_fetch]\nburst = 1");
        let allowed = |limit, key: &Key<'_>| bench.quotas.check(limit, key, 1).refusal().is_none();
        for number in ["+4930123456", "+14155550123"] {
            let number = PhoneNumber::parse(number).unwrap();
            assert!(allowed(Limit::VerificationStart, &Key::Number(&number)));
            assert!(!allowed(Limit::VerificationStart, &Key::Number(&number.clone())));
        }
        let network = |address: &str| Key::Network(Network::from(address.parse::<IpAddr>().unwrap()));
        assert!(allowed(Limit::Authenticate, &network("203.0.113.7")));
        assert!(!allowed(Limit::Authenticate, &network("::ffff:203.0.113.8")));
        assert!(allowed(Limit::Authenticate, &network("2001:db8:1:2::3")));
        assert!(!allowed(Limit::Authenticate, &network("2001:db8:1:9::3")));
        assert!(allowed(Limit::Authenticate, &network("2001:db8:2::3")));
        let (anna, ben) = (AccountId::random(), AccountId::random());
        assert!(allowed(Limit::KeysFetch, &Key::UserPair { asking: anna, about: ben }));
        assert!(!allowed(Limit::KeysFetch, &Key::UserPair { asking: anna, about: ben }));
        assert!(allowed(Limit::KeysFetch, &Key::UserPair { asking: ben, about: anna }));
    }

    #[test]
    fn a_peek_tells_and_draws_nothing() {
        let bench = Bench::new("[messages]\nburst = 1");
        for _ in 0..3 {
            assert_eq!(bench.quotas.peek(Limit::Messages, &Bench::user(1), 1), Decision::Allowed);
        }
        assert_eq!(bench.check(Limit::Messages, 1, 1), Decision::Allowed);
        assert_eq!(bench.quotas.peek(Limit::Messages, &Bench::user(1), 1), refused(SECOND));
        bench.clock.advance(SECOND);
        assert_eq!(bench.quotas.peek(Limit::Messages, &Bench::user(1), 1), Decision::Allowed);
        assert_eq!(
            bench.check(Limit::Messages, 1, 1),
            Decision::Allowed,
            "peeks after the first check drew nothing"
        );
        assert_eq!(bench.keys(Limit::Messages), 1.0);
    }

    #[test]
    fn shadow_refuses_nothing_and_counts_what_it_would() {
        let bench = Bench::new("[messages]\nburst = 1\nshadow = true\n[discover]\nenabled = false");
        assert_eq!(bench.check(Limit::Messages, 1, 1), Decision::Allowed);
        let shadowed = bench.check(Limit::Messages, 1, 1);
        assert_eq!(shadowed, Decision::Shadowed { retry: Retry::After(SECOND) });
        assert_eq!(shadowed.refusal(), None);
        assert_eq!(bench.counted(Limit::Messages, "shadowed"), 1.0);
        assert_eq!(bench.counted(Limit::Messages, "refused"), 0.0);
        assert_eq!(bench.check(Limit::Discover, 1, u32::MAX), Decision::Allowed);
        assert_eq!(bench.counted(Limit::Discover, "allowed"), 0.0);
    }

    #[test]
    fn a_reload_keeps_the_state_of_limits_whose_numbers_stay() {
        let bench = Bench::new("");
        assert_eq!(bench.check(Limit::Messages, 1, 60), Decision::Allowed);
        assert_eq!(bench.check(Limit::SessionOpen, 1, 10), Decision::Allowed);

        bench.quotas.reload(&parse("[session_open]\nburst = 3\n[messages]\nshadow = true")).unwrap();
        assert_eq!(bench.check(Limit::Messages, 1, 1), Decision::Shadowed { retry: Retry::After(SECOND) });
        assert_eq!(bench.keys(Limit::SessionOpen), 0.0);
        assert_eq!(bench.check(Limit::SessionOpen, 1, 3), Decision::Allowed, "new numbers, new buckets");
        assert_eq!(bench.check(Limit::SessionOpen, 1, 4), Decision::Refused { retry: Retry::Never });

        assert!(bench.quotas.reload(&parse("[messages]\nburst = 0")).is_err());
        assert_eq!(
            bench.check(Limit::SessionOpen, 1, 1),
            refused(6 * SECOND),
            "a refused reload changes nothing"
        );
        bench.quotas.reload(&QuotaConfig::default()).unwrap();
        assert_eq!(bench.check(Limit::Messages, 1, 1), refused(SECOND));
    }

    #[test]
    fn a_full_open_limit_lets_strangers_through_and_goes_on_counting_the_known() {
        let bench = Bench::new("[messages]\nburst = 2\nkeys_max = 2");
        assert_eq!(bench.check(Limit::Messages, 1, 2), Decision::Allowed);
        assert_eq!(bench.check(Limit::Messages, 2, 1), Decision::Allowed);
        for _ in 0..5 {
            assert_eq!(bench.check(Limit::Messages, 3, 1), Decision::Allowed);
        }
        assert_eq!(bench.counted(Limit::Messages, "overflow_open"), 5.0);
        assert_eq!(bench.check(Limit::Messages, 1, 1), refused(SECOND));

        // User 2 is at rest now, so that user 3 takes its place and is counted.
        bench.clock.advance(SECOND);
        assert_eq!(bench.check(Limit::Messages, 3, 2), Decision::Allowed);
        assert_eq!(bench.check(Limit::Messages, 3, 1), refused(SECOND));
        assert_eq!(bench.counted(Limit::Messages, "overflow_open"), 5.0);
        assert_eq!(bench.keys(Limit::Messages), 2.0);
    }

    #[test]
    fn a_full_closed_limit_refuses_strangers_until_there_is_room() {
        let bench = Bench::new("[device_link]\nkeys_max = 2\nperiod = \"10s\"");
        assert_eq!(bench.check(Limit::DeviceLink, 1, 2), Decision::Allowed);
        assert_eq!(bench.check(Limit::DeviceLink, 2, 3), Decision::Allowed);
        bench.clock.advance(SECOND);
        assert_eq!(bench.check(Limit::DeviceLink, 3, 6), refused(19 * SECOND));
        assert_eq!(bench.quotas.peek(Limit::DeviceLink, &Bench::user(3), 1), refused(19 * SECOND));
        assert_eq!(bench.counted(Limit::DeviceLink, "overflow_closed"), 2.0);
        bench.clock.advance(19 * SECOND);
        assert_eq!(bench.check(Limit::DeviceLink, 3, 6), Decision::Allowed);

        bench.quotas.reload(&parse("[device_link]\nkeys_max = 2\nperiod = \"10s\"\nshadow = true")).unwrap();
        let shadowed = bench.check(Limit::DeviceLink, 4, 1);
        assert_eq!(shadowed, Decision::Shadowed { retry: Retry::After(10 * SECOND) });
    }

    /// Every limit is asked about ten times as many keys as it holds. The tables are a 64th of the defaults, whose
    /// sum is bounded where they are defined.
    #[test]
    fn a_flood_of_keys_takes_the_stated_memory_and_no_more() {
        let mut config = QuotaConfig::default();
        for spec in &table::LIMITS {
            let keys_max = Some(spec.keys_max / 64);
            config.set(spec.limit, LimitOverride { keys_max, ..LimitOverride::default() });
        }
        let bench = Bench::new(&toml::to_string(&config).unwrap());
        let hasher = bench.quotas.hasher.clone();
        let keys_gauges = table::LIMITS.each_ref().map(|spec| bench.quotas.metrics.keys(spec.limit));
        let limits = Arc::into_inner(bench.quotas.limits.into_inner()).unwrap();
        for ((spec, live), keys_gauge) in table::LIMITS.iter().zip(limits).zip(keys_gauges) {
            let keys_max = spec.keys_max as usize / 64;
            let mut turned_away = 0;
            for key in 0..keys_max * 10 {
                let (outcome, _) =
                    live.ask(spec.limit, hasher.hash_one(key), NonZeroU32::MIN, true, &bench.clock);
                turned_away +=
                    usize::from(matches!(outcome, Outcome::OverflowOpen | Outcome::OverflowClosed));
            }
            assert_eq!(turned_away, keys_max * 9, "{}", spec.name);
            assert_eq!(keys_gauge.get(), keys_max as i64, "{}", spec.name);
            let store = Arc::into_inner(live.limiter).unwrap().into_state_store();
            assert!(store.allocated_bytes() <= keys_max * (store::ENTRY_BYTES + 1), "{}", spec.name);
        }
    }

    #[test]
    fn threads_that_race_for_one_bucket_get_its_burst_between_them() {
        let bench = Bench::new("[messages]\nburst = 1000");
        let admitted: u32 = std::thread::scope(|scope| {
            let ask = || {
                (0..1000)
                    .map(|_| u32::from(bench.check(Limit::Messages, 1, 1) == Decision::Allowed))
                    .sum::<u32>()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1000);
    }

    proptest! {
        /// The definition of the limit, whatever the arrivals; keys that push each other out do not change it.
        #[test]
        fn no_window_admits_more_than_burst_and_refill(
            burst in 1u32..40,
            period_ms in 1u64..2_000,
            arrivals in prop::collection::vec((0u64..3_000, 1u32..12, 0u128..3), 1..150),
        ) {
            let bench = Bench::new(&format!("[device_link]\nburst = {burst}\nperiod = \"{period_ms}ms\"\nkeys_max = 2"));
            let (mut now_ms, mut admitted) = (0, Vec::new());
            for (gap_ms, permits, user) in arrivals {
                bench.clock.advance(Duration::from_millis(gap_ms));
                now_ms += gap_ms;
                if bench.check(Limit::DeviceLink, user, permits) == Decision::Allowed && user == 0 {
                    admitted.push((now_ms, u64::from(permits)));
                }
            }
            for first in 0..admitted.len() {
                let mut total = 0;
                for &(at_ms, permits) in &admitted[first..] {
                    total += permits;
                    let window_ms = at_ms - admitted[first].0;
                    prop_assert!(total <= u64::from(burst) + window_ms / period_ms, "{total} in {window_ms} ms");
                }
            }
        }

        /// The retry time is exact: enough, and not a nanosecond more than enough.
        #[test]
        fn whoever_waits_the_retry_time_is_admitted(
            burst in 1u32..40,
            period_us in 1u64..5_000_000,
            arrivals in prop::collection::vec((0u64..3_000_000, 1u32..12), 1..60),
        ) {
            let bench = Bench::new(&format!("[messages]\nburst = {burst}\nperiod = \"{period_us}us\""));
            for (gap_us, permits) in arrivals {
                bench.clock.advance(Duration::from_micros(gap_us));
                match bench.check(Limit::Messages, 1, permits) {
                    Decision::Refused { retry: Retry::After(wait) } => {
                        bench.clock.advance(wait - Duration::from_nanos(1));
                        prop_assert_eq!(bench.check(Limit::Messages, 1, permits), refused(Duration::from_nanos(1)));
                        bench.clock.advance(Duration::from_nanos(1));
                        prop_assert_eq!(bench.check(Limit::Messages, 1, permits), Decision::Allowed);
                    }
                    Decision::Refused { retry: Retry::Never } => prop_assert!(permits > burst),
                    decision => prop_assert_eq!(decision, Decision::Allowed),
                }
            }
        }
    }
}
