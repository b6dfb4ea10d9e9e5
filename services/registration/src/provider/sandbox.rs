//! A provider that delivers to this process's memory. For tests, load tools and a first look; costs and reaches nobody.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use spillway_chassis::Tasks;
use spillway_store::verifications::Transport;
use spillway_types::PhoneNumber;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::Instant;

use super::receipts::Receipts;
use super::{Accepted, Code, Delivery, Provider, ProviderError, Receipt};

/// Codes that wait for a slow watcher. A code is about 100 bytes, so 3 MB.
const WATCH_BACKLOG: usize = 32_768;
/// Codes whose delivery delay runs, each a sleeping task of about 1 KB. More are answered with "throttled".
const ON_THE_WAY_MAX: usize = 50_000;
/// How far the rate limit lets a burst go ahead of the rate.
const BURST: Duration = Duration::from_secs(1);

/// How the sandbox behaves. By default it delivers everything at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxConfig {
    /// Between taking a code and delivering it.
    pub delay: Delay,
    /// Codes taken in a second; more are answered with "throttled". Absent: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<NonZeroU32>,
    /// Share of codes that are taken and never delivered, 0 to 1.
    pub loss: f64,
    /// Share of codes for which a receipt is given, 0 to 1: at delivery, or at once for a loss.
    pub receipts: f64,
    /// Share of calls that fail, 0 to 1.
    pub failures: f64,
    /// The same, by country calling code.
    pub country_failures: BTreeMap<String, f64>,
    /// Numbers whose last code can be read; beyond that, the oldest are forgotten.
    pub codes_kept: NonZeroUsize,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            delay: Delay::default(),
            rate_per_second: None,
            loss: 0.0,
            receipts: 0.0,
            failures: 0.0,
            country_failures: BTreeMap::new(),
            codes_kept: NonZeroUsize::new(100_000).expect("not zero"),
        }
    }
}

/// `{ fixed = "2s" }`, or `{ mean = "2s" }` for an exponential distribution: many fast, a few very late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Delay {
    #[serde(with = "humantime_serde")]
    Fixed(Duration),
    #[serde(with = "humantime_serde")]
    Mean(Duration),
}

impl Default for Delay {
    fn default() -> Self {
        Self::Fixed(Duration::ZERO)
    }
}

impl Delay {
    fn sample(self) -> Duration {
        match self {
            Self::Fixed(delay) => delay,
            // Inverse of the exponential distribution. 1 - u lies in (0, 1], so the logarithm is finite.
            Self::Mean(mean) => mean.mul_f64(-(1.0 - rand::random::<f64>()).ln()),
        }
    }

    const fn average(self) -> Duration {
        let (Self::Fixed(delay) | Self::Mean(delay)) = self;
        delay
    }
}

/// A code that has reached its phone.
#[derive(Clone, Debug)]
pub struct DeliveredCode {
    pub number: PhoneNumber,
    pub code: Code,
}

/// Clones share the phones.
#[derive(Clone)]
pub struct Sandbox {
    behaviour: Behaviour,
    tasks: Tasks,
    phones: Arc<Phones>,
    receipts: Arc<Receipts>,
    messages: Arc<AtomicU64>,
    on_the_way: Arc<Semaphore>,
    /// When the rate limit is next at rest (GCRA's theoretical arrival time).
    rested_at: Arc<Mutex<Instant>>,
}

/// How one sandbox behaves at present. Clones are handles on the same.
#[derive(Clone)]
struct Behaviour(Arc<Mutex<Arc<SandboxConfig>>>);

/// What of a behaviour is to change. What is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    /// 0: any number.
    pub rate_per_second: Option<u32>,
    pub loss: Option<f64>,
    pub failures: Option<f64>,
    pub delay: Option<Duration>,
}

impl Behaviour {
    fn new(config: SandboxConfig) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(config))))
    }

    fn now(&self) -> Arc<SandboxConfig> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: Change) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(SandboxConfig {
            rate_per_second: change.rate_per_second.map_or(now.rate_per_second, NonZeroU32::new),
            loss: change.loss.unwrap_or(now.loss),
            failures: change.failures.unwrap_or(now.failures),
            delay: change.delay.map_or(now.delay, Delay::Fixed),
            ..SandboxConfig::clone(&now)
        });
    }
}

/// What has been delivered, and who delivers.
struct Phones {
    named: Mutex<Vec<(String, Behaviour)>>,
    last: Mutex<LastCodes>,
    watchers: broadcast::Sender<DeliveredCode>,
}

struct LastCodes {
    codes: HashMap<String, Code>,
    /// The numbers in `codes`, oldest first.
    order: VecDeque<String>,
    kept: usize,
}

impl Sandbox {
    pub fn new(config: SandboxConfig, tasks: &Tasks) -> Self {
        let kept = config.codes_kept.get();
        let last = LastCodes { codes: HashMap::new(), order: VecDeque::new(), kept };
        let watchers = broadcast::Sender::new(WATCH_BACKLOG);
        let phones = Phones { named: Mutex::default(), last: Mutex::new(last), watchers };
        Self {
            behaviour: Behaviour::new(config),
            tasks: tasks.clone(),
            phones: Arc::new(phones),
            receipts: Arc::default(),
            messages: Arc::default(),
            on_the_way: Arc::new(Semaphore::new(ON_THE_WAY_MAX)),
            rested_at: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Another provider that behaves as `config` says and delivers to the same phones, which keep as many codes as
    /// before.
    pub fn beside(&self, config: SandboxConfig) -> Self {
        Self {
            behaviour: Behaviour::new(config),
            receipts: Arc::default(),
            messages: Arc::default(),
            rested_at: Arc::new(Mutex::new(Instant::now())),
            on_the_way: Arc::new(Semaphore::new(ON_THE_WAY_MAX)),
            ..self.clone()
        }
    }

    /// From now on it can be told by this name how to behave.
    pub(crate) fn named(self, name: &str) -> Self {
        let mut named = self.phones.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.push((name.to_owned(), self.behaviour.clone()));
        drop(named);
        self
    }

    /// Changes how the one of this name behaves, or all for an empty name. Says whether there is one.
    pub fn behave(&self, name: &str, change: Change) -> bool {
        let named = self.phones.named.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_known = false;
        for (_, behaviour) in named.iter().filter(|(its, _)| name.is_empty() || its == name) {
            behaviour.change(change);
            is_known = true;
        }
        is_known
    }

    /// The last code that reached a number.
    pub fn last_code(&self, number: &str) -> Option<Code> {
        self.phones.last.lock().unwrap_or_else(PoisonError::into_inner).codes.get(number).copied()
    }

    /// Codes as they are delivered from now on.
    pub fn watch(&self) -> broadcast::Receiver<DeliveredCode> {
        self.phones.watchers.subscribe()
    }

    /// Resolves when no more codes will be delivered.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.tasks.cancelled()
    }

    fn within_rate(&self, config: &SandboxConfig) -> Result<(), ProviderError> {
        let Some(rate) = config.rate_per_second else { return Ok(()) };
        let now = Instant::now();
        let mut rested_at = self.rested_at.lock().unwrap_or_else(PoisonError::into_inner);
        let rests_at = (*rested_at).max(now) + Duration::from_secs(1) / rate.get();
        match rests_at.checked_duration_since(now + BURST) {
            Some(excess) if !excess.is_zero() => Err(ProviderError::Throttled { retry_after: excess }),
            _ => {
                *rested_at = rests_at;
                Ok(())
            }
        }
    }

    fn fails(config: &SandboxConfig, number: &PhoneNumber) -> bool {
        let shares = &config.country_failures;
        let in_country = || shares.get(&number.country_code().to_string()).copied().unwrap_or(0.0);
        happens(config.failures) || (!shares.is_empty() && happens(in_country()))
    }
}

#[async_trait]
impl Provider for Sandbox {
    async fn send(&self, number: &PhoneNumber, _: Transport, code: &Code) -> Result<Accepted, ProviderError> {
        let config = self.behaviour.now();
        self.within_rate(&config)?;
        if Self::fails(&config, number) {
            return Err(ProviderError::Failed("a failure that was asked for".into()));
        }
        let message = self.messages.fetch_add(1, Ordering::Relaxed).to_string();
        let receipts = happens(config.receipts).then(|| self.receipts.sender());
        let tell = move |message: &str, delivery| {
            if let Some(receipts) = &receipts {
                // What finds no room is lost, as receipts may be.
                drop(receipts.try_send(Receipt { message: message.to_owned(), delivery }));
            }
        };
        let accepted = Accepted {
            delivery_delay: Some(config.delay.average()),
            message: (config.receipts > 0.0).then(|| message.clone()),
        };
        if happens(config.loss) {
            tell(&message, Delivery::Failed);
            return Ok(accepted);
        }
        let delivered = DeliveredCode { number: number.clone(), code: *code };
        let delay = config.delay.sample();
        if delay.is_zero() {
            self.phones.deliver(delivered);
            tell(&message, Delivery::Arrived);
            return Ok(accepted);
        }
        let Ok(permit) = Arc::clone(&self.on_the_way).try_acquire_owned() else {
            return Err(ProviderError::Throttled { retry_after: delay });
        };
        let (phones, cancelled) = (Arc::clone(&self.phones), self.tasks.cancelled());
        self.tasks.spawn("sandbox delivery", async move {
            tokio::select! {
                () = tokio::time::sleep(delay) => {
                    phones.deliver(delivered);
                    tell(&message, Delivery::Arrived);
                }
                () = cancelled => {}
            }
            drop(permit);
        });
        Ok(accepted)
    }

    async fn next_receipt(&self) -> Receipt {
        self.receipts.next().await
    }
}

fn happens(share: f64) -> bool {
    share > 0.0 && rand::random::<f64>() < share
}

impl Phones {
    fn deliver(&self, delivered: DeliveredCode) {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(delivered.number.as_e164(), delivered.code);
        // An error only says that nobody watches.
        drop(self.watchers.send(delivered));
    }
}

impl LastCodes {
    fn insert(&mut self, number: &str, code: Code) {
        if let Some(last) = self.codes.get_mut(number) {
            *last = code;
            return;
        }
        if self.codes.len() == self.kept
            && let Some(oldest) = self.order.pop_front()
        {
            self.codes.remove(&oldest);
        }
        self.codes.insert(number.to_owned(), code);
        self.order.push_back(number.to_owned());
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("config", &self.behaviour.now()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [&str; 3] = ["+4930123456", "+4930123457", "+4930123458"];

    fn code() -> Code {
        Code::from_number(123_456)
    }

    fn number(text: &str) -> PhoneNumber {
        PhoneNumber::parse(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_arrives_after_its_delay() {
        let delay = Delay::Fixed(Duration::from_secs(5));
        let sandbox = Sandbox::new(SandboxConfig { delay, ..SandboxConfig::default() }, &Tasks::new());
        let mut watch = sandbox.watch();
        let started = Instant::now();
        sandbox.send(&number(NUMBERS[0]), Transport::Sms, &code()).await.unwrap();
        assert_eq!(sandbox.last_code(NUMBERS[0]), None);
        assert_eq!(watch.recv().await.unwrap().code, code());
        assert_eq!(started.elapsed(), Duration::from_secs(5));
        assert_eq!(sandbox.last_code(NUMBERS[0]), Some(code()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_and_the_pause_is_told() {
        let rate_per_second = NonZeroU32::new(2);
        let sandbox =
            Sandbox::new(SandboxConfig { rate_per_second, ..SandboxConfig::default() }, &Tasks::new());
        let started = Instant::now();
        let mut taken = 0;
        while started.elapsed() < Duration::from_secs(10) {
            match sandbox.send(&number(NUMBERS[0]), Transport::Sms, &code()).await {
                Ok(_) => taken += 1,
                Err(ProviderError::Throttled { retry_after }) => {
                    tokio::time::sleep(retry_after.max(Duration::from_millis(1))).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!((20..=23).contains(&taken), "2 a second for 10 s and a burst of 2, got {taken}");
    }

    #[tokio::test]
    async fn losses_and_failures_are_as_configured() {
        let lossy = Sandbox::new(SandboxConfig { loss: 1.0, ..SandboxConfig::default() }, &Tasks::new());
        lossy.send(&number(NUMBERS[0]), Transport::Sms, &code()).await.unwrap();
        assert_eq!(lossy.last_code(NUMBERS[0]), None);

        let country_failures = BTreeMap::from([("49".to_owned(), 1.0)]);
        let failing =
            Sandbox::new(SandboxConfig { country_failures, ..SandboxConfig::default() }, &Tasks::new());
        let german = failing.send(&number(NUMBERS[0]), Transport::Sms, &code()).await;
        assert!(german.unwrap_err().retryable());
        failing.send(&number("+14155550123"), Transport::Sms, &code()).await.unwrap();
    }

    #[tokio::test]
    async fn the_oldest_number_is_forgotten() {
        let codes_kept = NonZeroUsize::new(2).unwrap();
        let sandbox = Sandbox::new(SandboxConfig { codes_kept, ..SandboxConfig::default() }, &Tasks::new());
        for text in NUMBERS {
            sandbox.send(&number(text), Transport::Sms, &code()).await.unwrap();
        }
        let kept: Vec<bool> = NUMBERS.iter().map(|number| sandbox.last_code(number).is_some()).collect();
        assert_eq!(kept, [false, true, true]);
    }

    #[tokio::test]
    async fn a_sandbox_can_be_told_to_have_a_bad_day() {
        let first = Sandbox::new(SandboxConfig::default(), &Tasks::new()).named("first");
        let second = first.beside(SandboxConfig::default()).named("second");
        let bad = Change { failures: Some(1.0), ..Change::default() };
        assert!(first.behave("second", bad) && !first.behave("third", bad));
        first.send(&number(NUMBERS[0]), Transport::Sms, &code()).await.unwrap();
        second.send(&number(NUMBERS[0]), Transport::Sms, &code()).await.unwrap_err();
        assert!(
            first.behave("", Change { failures: Some(0.0), rate_per_second: Some(1), ..Change::default() })
        );
        second.send(&number(NUMBERS[0]), Transport::Sms, &code()).await.unwrap();
        let throttled = second.send(&number(NUMBERS[0]), Transport::Sms, &code()).await;
        assert!(matches!(throttled, Err(ProviderError::Throttled { .. })), "{throttled:?}");
    }

    #[tokio::test]
    async fn receipts_are_given_for_what_arrives_and_for_what_is_lost() {
        let receipts = |loss| SandboxConfig { receipts: 1.0, loss, ..SandboxConfig::default() };
        for (loss, delivery) in [(0.0, Delivery::Arrived), (1.0, Delivery::Failed)] {
            let sandbox = Sandbox::new(receipts(loss), &Tasks::new());
            let sent = sandbox.send(&number(NUMBERS[0]), Transport::Sms, &code()).await.unwrap();
            let message = sent.message.unwrap();
            assert_eq!(sandbox.next_receipt().await, Receipt { message, delivery });
        }
    }

    #[test]
    fn delays_are_written_by_kind() {
        let config: SandboxConfig = serde_json::from_str(r#"{"delay": {"mean": "2s"}}"#).unwrap();
        assert_eq!(config.delay, Delay::Mean(Duration::from_secs(2)));
    }
}
