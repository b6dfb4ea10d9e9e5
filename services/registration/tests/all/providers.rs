//! Several providers: what happens when they die, lie, or cost too much, and when somebody pumps.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use spillway_api::{Reason, v1};
use spillway_registration::provider::{
    Accepted, Carrier, Code, Costs, HttpConfig, HttpProvider, Provider, ProviderError, Terms,
};
use spillway_registration::{BudgetConfig, Config};
use spillway_store::verifications::Transport;
use spillway_types::PhoneNumber;
use tokio::sync::mpsc;

use crate::scripted::Call;
use crate::world::{Node, PATIENCE, World, config, is_queue_empty, next_call, reason, until};

/// What a provider does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Mood {
    Well,
    Fails,
    Hangs,
    /// Takes everything and delivers nothing.
    Lies,
}

/// A provider whose mood a test changes. What it delivers is told to the test, with all others' deliveries.
#[derive(Debug)]
pub(crate) struct Moody {
    mood: AtomicU8,
    taken: AtomicU64,
    asked: AtomicU64,
    delivered: mpsc::Sender<Call>,
}

impl Moody {
    pub(crate) fn new(delivered: &mpsc::Sender<Call>) -> Arc<Self> {
        Arc::new(Self {
            mood: AtomicU8::new(Mood::Well as u8),
            taken: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            delivered: delivered.clone(),
        })
    }

    fn is(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Provider for Moody {
    async fn send(
        &self,
        number: &PhoneNumber,
        transport: Transport,
        code: &Code,
    ) -> Result<Accepted, ProviderError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = self.mood.load(Ordering::SeqCst);
        if mood == Mood::Fails as u8 {
            return Err(ProviderError::Failed("moody".into()));
        }
        if mood == Mood::Hangs as u8 {
            std::future::pending::<()>().await;
        }
        self.taken.fetch_add(1, Ordering::SeqCst);
        if mood == Mood::Well as u8 {
            let number = number.as_e164().to_owned();
            let call = Call { number, transport, code: code.expose().to_owned() };
            self.delivered.try_send(call).expect("the test reads its calls");
        }
        Ok(Accepted::default())
    }
}

fn carrier(name: &str, provider: &Arc<Moody>) -> Carrier {
    Carrier { terms: Terms::free(name), provider: provider.clone() }
}

/// At a cost, and therefore guarded.
pub(crate) fn paid(name: &str, provider: &Arc<Moody>, cost: u64) -> Carrier {
    let sms = Costs { default: cost, countries: HashMap::new() };
    let terms = Terms { sms, guarded: true, ..Terms::free(name) };
    Carrier { terms, provider: provider.clone() }
}

/// Codes that are typed are typed within a fraction of a second here.
pub(crate) fn quick() -> Config {
    let mut config = config();
    config.routing.grace_min = Duration::from_millis(100);
    config
}

/// A number of a prefix of its own, so that the guard has nothing to say.
pub(crate) fn lonely(n: usize) -> String {
    format!("+4930{n:04}1234")
}

pub(crate) fn metric(node: &Node, line: &str) -> u64 {
    let metrics = prometheus::TextEncoder::new().encode_to_string(&node.registry.gather()).unwrap();
    let value = metrics.lines().find_map(|metric| metric.strip_prefix(line)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Signs up, one after the other, and types what arrives within a moment.
async fn sign_up(node: &Node, delivered: &mut mpsc::Receiver<Call>, number: &str) {
    let session = node.start(number).await;
    let call = next_call(delivered).await;
    assert_eq!(call.number, number);
    assert!(node.check(&session, &call.code).await.unwrap().verified);
}

#[tokio::test]
async fn the_best_of_three_dies_and_comes_back() {
    let world = World::new();
    let (sender, mut delivered) = mpsc::channel(10_000);
    let [a, b, c] = [(); 3].map(|()| Moody::new(&sender));
    let node = world.node_of(quick(), vec![carrier("a", &a), carrier("b", &b), carrier("c", &c)]);
    world.run_clock(&node.tasks);
    for n in 0..30 {
        sign_up(&node, &mut delivered, &lonely(n)).await;
    }
    a.is(Mood::Fails);
    // Nobody notices: each code that fails goes to another provider at once.
    for n in 30..90 {
        sign_up(&node, &mut delivered, &lonely(n)).await;
    }
    assert!(a.asked() - a.taken() <= 20, "it is left alone soon: {} failures", a.asked() - a.taken());
    assert_eq!(metric(&node, r#"spillway_provider_breaker_state{provider="b",transport="sms"}"#), 0);

    a.is(Mood::Well);
    let before = a.taken();
    let coming_back = async {
        let mut n = 90;
        while a.taken() < before + 5 {
            sign_up(&node, &mut delivered, &lonely(n)).await;
            n += 1;
        }
    };
    tokio::time::timeout(PATIENCE, coming_back).await.expect("it is used again");
    node.stop().await;
}

/// All providers are out for a while: codes wait, none is given up, and all arrive afterwards.
#[tokio::test]
async fn an_outage_of_all_providers_delays_codes_and_loses_none() {
    let world = World::new();
    let (sender, mut delivered) = mpsc::channel(10_000);
    let (a, b) = (Moody::new(&sender), Moody::new(&sender));
    let mut patient = quick();
    patient.dispatch.backoff_min = Duration::from_millis(200);
    patient.dispatch.backoff_max = Duration::from_secs(2);
    let node = world.node_of(patient, vec![carrier("a", &a), carrier("b", &b)]);
    world.run_clock(&node.tasks);
    [&a, &b].into_iter().for_each(|provider| provider.is(Mood::Fails));
    for n in 0..40 {
        node.start(&lonely(n)).await;
    }
    until("both are left alone", || async {
        ["a", "b"].iter().all(|name| {
            metric(&node, &format!(r#"spillway_provider_breaker_state{{provider="{name}",transport="sms"}}"#))
                > 0
        })
    })
    .await;
    let asked = a.asked() + b.asked();
    assert!(asked < 40 * 4, "{asked} calls for 40 codes");
    [&a, &b].into_iter().for_each(|provider| provider.is(Mood::Well));
    until("all are sent", || is_queue_empty(&world)).await;
    let arrived: std::collections::HashSet<String> =
        std::iter::from_fn(|| delivered.try_recv().ok()).map(|call| call.number).collect();
    assert_eq!(arrived.len(), 40);
    node.stop().await;
}

/// The one that hangs costs its time-out, and the code still arrives, by the other.
#[tokio::test]
async fn hanging_providers_and_garbage_cost_time_and_no_code() {
    let world = World::new();
    let (sender, mut delivered) = mpsc::channel(100);
    let (hanging, well) = (Moody::new(&sender), Moody::new(&sender));
    hanging.is(Mood::Hangs);
    // Nobody listens there any more.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let gone = Arc::new(HttpProvider::new(&HttpConfig { url, ..HttpConfig::default() }).unwrap());
    let mut impatient = quick();
    impatient.dispatch.provider_timeout = Duration::from_millis(50);
    let gone = Carrier { terms: Terms::free("gone"), provider: gone };
    let node = world.node_of(impatient, vec![carrier("hanging", &hanging), gone, carrier("well", &well)]);
    world.run_clock(&node.tasks);
    for n in 0..10 {
        sign_up(&node, &mut delivered, &lonely(n)).await;
    }
    assert_eq!(well.taken(), 10);
    node.stop().await;
}

/// Nobody reports a failure, and still the one that delivers nothing gets less than the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_everything_and_delivers_nothing_is_found_out() {
    let world = World::new();
    let (sender, mut delivered) = mpsc::channel(10_000);
    let (honest, lying) = (Moody::new(&sender), Moody::new(&sender));
    lying.is(Mood::Lies);
    let mut config = quick();
    config.routing.grace_min = Duration::from_millis(500);
    let node = world.node_of(config, vec![carrier("lying", &lying), carrier("honest", &honest)]);
    let mut round = async |numbers: std::ops::Range<usize>| {
        let before = (lying.taken(), honest.taken());
        for n in numbers {
            let session = node.start(&lonely(n)).await;
            until("it is taken", || async { lying.taken() + honest.taken() > n as u64 }).await;
            if let Ok(call) = delivered.try_recv() {
                assert!(node.check(&session, &call.code).await.unwrap().verified);
            }
        }
        (lying.taken() - before.0, honest.taken() - before.1)
    };
    round(0..60).await;
    // Until the time for typing these codes is over.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (lies, honest_ones) = round(60..260).await;
    println!("of 200 codes the lying one got {lies}");
    assert!(lies * 5 < honest_ones, "{lies} to the one that lies, {honest_ones} to the other");
    assert_eq!(metric(&node, r#"spillway_provider_conversion_ratio{provider="lying",transport="sms"}"#), 0);
    node.stop().await;
}

/// Money is spent to the limit and not a millionth beyond, however many codes want it at the same time; they wait, are
/// no attempts, and go out when the next day begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_never_exceeded_and_codes_wait_for_the_next_one() {
    let world = World::new();
    let (sender, mut delivered) = mpsc::channel(10_000);
    let provider = Moody::new(&sender);
    let mut limited = quick();
    limited.guard.enabled = false;
    limited.dispatch.attempts_max = 1.try_into().unwrap();
    limited.verification.lifetime_max = Duration::from_secs(86_400);
    limited.verification.idle_lifetime = Duration::from_secs(86_400);
    // The clock of the tests starts at 15:00 UTC, so 9 of 24 parts of the day are left.
    limited.budget = BudgetConfig { day: Some(24_000), ..BudgetConfig::default() };
    let node = world.node_of(limited, vec![paid("paid", &provider, 300)]);
    let starts = futures::stream::iter(0..60).map(|n| {
        let node = &node;
        async move { node.start(&lonely(n)).await }
    });
    let _sessions: Vec<_> = starts.buffer_unordered(32).collect().await;
    until("the budget is used up", || async { provider.taken() == 30 }).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(provider.taken(), 30, "9,000 at 300 each");
    assert_eq!(metric(&node, r#"spillway_provider_spent_micros_total{provider="paid"}"#), 9_000);
    assert!(metric(&node, r#"spillway_verification_waits_total{reason="budget_day"}"#) > 0);
    assert!(!is_queue_empty(&world).await);

    world.clock.advance(Duration::from_secs(9 * 3_600));
    until("the others are sent on the next day", || is_queue_empty(&world)).await;
    assert_eq!(provider.taken(), 60);
    while delivered.try_recv().is_ok() {}
    node.stop().await;
}

/// What nobody waits for any more does not wait for money either.
#[tokio::test]
async fn stale_codes_do_not_wait_for_a_budget() {
    let world = World::new();
    let (sender, _delivered) = mpsc::channel(10);
    let provider = Moody::new(&sender);
    let mut limited = quick();
    limited.budget = BudgetConfig { day: Some(0), ..BudgetConfig::default() };
    let node = world.node_of(limited, vec![paid("paid", &provider, 300)]);
    node.start(&lonely(1)).await;
    until("it waits", || async {
        metric(&node, r#"spillway_verification_waits_total{reason="budget_day"}"#) > 0
    })
    .await;
    world.clock.advance(Duration::from_secs(3_600));
    until("it is dropped", || is_queue_empty(&world)).await;
    assert_eq!(provider.asked(), 0);
    node.stop().await;
}

/// A country that nobody serves gets no code, and its session ends as one whose code was refused.
#[tokio::test]
async fn a_country_that_nobody_serves_is_refused() {
    let world = World::new();
    let (sender, _delivered) = mpsc::channel(10);
    let provider = Moody::new(&sender);
    let terms = Terms { countries: vec![1], ..Terms::free("american") };
    let node = world.node_of(quick(), vec![Carrier { terms, provider: provider.clone() }]);
    node.start(&lonely(1)).await;
    until("it is dropped", || is_queue_empty(&world)).await;
    assert_eq!(provider.asked(), 0);
    node.stop().await;
}

/// Somebody pumps one prefix. After some codes nothing is sent to it any more, and what he sees is what everybody sees.
#[tokio::test]
async fn a_pumped_session_looks_like_any_other() {
    let world = World::new();
    let (sender, mut delivered) = mpsc::channel(10_000);
    let provider = Moody::new(&sender);
    let mut guarded = quick();
    guarded.budget = BudgetConfig { day: Some(1_000_000_000), ..BudgetConfig::default() };
    let node = world.node_of(guarded, vec![paid("paid", &provider, 300)]);
    let pretended = || metric(&node, r#"spillway_verification_guard_total{verdict="pretend"}"#);
    let pumped = |n: u32| format!("+493012{n:04}");
    let mut last = node.start(&pumped(0)).await;
    let first = last.clone();
    let pumping = async {
        let mut n = 1;
        while pretended() < 20 {
            last = node.start(&pumped(n)).await;
            n += 1;
            until("it has left the queue", || is_queue_empty(&world)).await;
        }
    };
    tokio::time::timeout(PATIENCE, pumping).await.expect("the prefix is cut off");
    let sent = provider.taken();
    println!("{sent} codes were sent to the pumped prefix");
    assert!((30..60).contains(&sent), "{sent}");
    let spent = metric(&node, r#"spillway_provider_spent_micros_total{provider="paid"}"#);
    assert_eq!(spent, sent * 300);

    // The last one is pretended; somebody of another prefix is not.
    while delivered.try_recv().is_ok() {}
    let honest = node.start(&lonely(7)).await;
    let call = next_call(&mut delivered).await;
    until("it is recorded", || is_queue_empty(&world)).await;
    let look = |session: &v1::VerificationSession| {
        let mut session = session.clone();
        session.session_id.clear();
        // That of all codes at the moment of the call, whoever asks.
        session.delivery_estimate = None;
        session
    };
    assert_eq!(look(&last), look(&first));
    let wrong = if call.code == "000000" { "000001" } else { "000000" };
    let (pretended_try, honest_try) =
        (node.check(&last, wrong).await.unwrap(), node.check(&honest, wrong).await.unwrap());
    assert_eq!(look(&pretended_try), look(&honest_try));
    world.clock.advance(Duration::from_secs(60));
    let again = |session| node.resend(session, v1::Transport::Sms);
    assert_eq!(look(&again(&last).await.unwrap()), look(&again(&honest).await.unwrap()));
    let early = (again(&last).await.unwrap_err(), again(&honest).await.unwrap_err());
    assert_eq!((reason(&early.0), reason(&early.1)), (Reason::Quota, Reason::Quota));
    assert_eq!(early.0.message(), early.1.message());
    until("both have left the queue", || is_queue_empty(&world)).await;
    node.stop().await;
    assert_eq!(provider.taken(), sent + 2, "the honest one's two codes and no other");
}

/// Somebody pumps from one network, with numbers of as many prefixes as he likes. Others are not touched.
#[tokio::test]
async fn a_network_that_pumps_is_cut_whatever_its_numbers() {
    let world = World::new();
    let (sender, mut delivered) = mpsc::channel(10_000);
    let provider = Moody::new(&sender);
    let mut guarded = quick();
    guarded.budget = BudgetConfig { day: Some(1_000_000_000), ..BudgetConfig::default() };
    let node = world.node_of(guarded, vec![paid("paid", &provider, 300)]);
    let pretended = || metric(&node, r#"spillway_verification_guard_total{verdict="pretend"}"#);
    let (pumping, honest) = ([7; 8], [8; 8]);
    let mut numbers = 0..;
    let pumping = async {
        while pretended() < 20 {
            node.start_from(&lonely(numbers.next().unwrap()), pumping).await;
            until("it has left the queue", || is_queue_empty(&world)).await;
        }
    };
    tokio::time::timeout(PATIENCE, pumping).await.expect("the network is cut off");
    let sent = provider.taken();
    println!("{sent} codes were sent for the network that pumps");
    assert!((60..120).contains(&sent), "{sent}");
    while delivered.try_recv().is_ok() {}
    let number = lonely(9_000);
    let session = node.start_from(&number, honest).await;
    let call = next_call(&mut delivered).await;
    assert_eq!(call.number, number);
    assert!(node.check(&session, &call.code).await.unwrap().verified);
    node.stop().await;
}
