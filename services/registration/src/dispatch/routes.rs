//! The router, shared by all hand-overs of the process, and the providers that it chooses among.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use spillway_rpc::Chain;
use spillway_store::verifications::{ProviderTag, Transport, VerificationId};
use spillway_types::Clock;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Config;
use crate::metrics::{CodeOutcome, GuardVerdict, Metrics, ReceiptOutcome};
use crate::provider::{Carrier, Provider, ProviderError, Receipt};
use crate::routing::{
    Ask, BreakerState, Capacity, Delivery, End, Need, Now, PlaceCount, PlaceKey, Receipted, Router,
    RouterConfig, Scope, Ticket, Verdict, Why,
};

/// What a call takes at least, so that no bound comes from calls within the process.
const CALL_MIN: Duration = Duration::from_millis(1);
/// Durations of calls that a pretended one is drawn from.
const CALLS_KEPT: usize = 64;

#[derive(Debug)]
pub(crate) struct Routes {
    router: Mutex<Router>,
    carriers: Vec<Line>,
    calls: Mutex<VecDeque<Duration>>,
    /// Calls at the same time.
    concurrency: usize,
    /// Codes in the store's queue, when it was looked at last.
    queued: AtomicUsize,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// Somebody waits for money, or will soon.
    short: Notify,
}

#[derive(Debug)]
struct Line {
    carrier: Carrier,
    /// So that an outage of a provider makes two log lines and not one for each code.
    failing: AtomicBool,
}

/// What is to be done with a code.
#[derive(Debug)]
pub(super) enum Route {
    Send(Attempt),
    /// Go on as if it had been sent.
    Pretend,
    Wait {
        pause: Duration,
        /// Nothing can be sent before that.
        everybody: bool,
    },
    /// No provider serves its country and transport.
    Nobody,
}

/// The right to send one code. Dropped without an outcome, it goes back unused.
#[derive(Debug)]
pub(super) struct Attempt {
    routes: Arc<Routes>,
    ticket: Option<Ticket>,
    provider: usize,
    tag: ProviderTag,
    country: u16,
}

impl Routes {
    pub(crate) fn new(
        config: &Config,
        carriers: Vec<Carrier>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        let router = RouterConfig {
            terms: carriers.iter().map(|carrier| carrier.terms.clone()).collect(),
            worth: config.routing.worth,
            budget: config.budget.limits(),
            guard: config.guard.limits(),
            grace_min: config.routing.grace_min,
        };
        let now = Now { at: Instant::now(), wall: clock.now() };
        let line = |carrier| Line { carrier, failing: AtomicBool::new(false) };
        Self {
            router: Mutex::new(Router::new(router, SmallRng::from_rng(&mut rand::rng()), now)),
            carriers: carriers.into_iter().map(line).collect(),
            calls: Mutex::default(),
            concurrency: config.dispatch.concurrency.get(),
            queued: AtomicUsize::new(0),
            clock,
            metrics,
            short: Notify::new(),
        }
    }

    pub(super) fn route(self: &Arc<Self>, ask: &Ask<'_>) -> Route {
        let (verdict, alarm, is_low) = {
            let (mut router, now) = self.router();
            let verdict = router.route(ask, now);
            (verdict, router.alarm(ask.country, now.wall), router.is_low(ask.country, now.wall))
        };
        if is_low {
            self.short.notify_one();
        }
        if let Some(scope) = alarm {
            self.tell_alarm(scope);
        }
        match verdict {
            Verdict::Send(ticket) => {
                self.metrics.guard(GuardVerdict::Send);
                Route::Send(Attempt {
                    routes: Arc::clone(self),
                    provider: ticket.provider,
                    tag: ticket.tag,
                    country: ask.country,
                    ticket: Some(ticket),
                })
            }
            Verdict::Pretend => Route::Pretend,
            Verdict::Nobody => Route::Nobody,
            Verdict::Wait { why, pause, everybody } => {
                if why == Why::Guard {
                    self.metrics.guard(GuardVerdict::Hold);
                }
                self.metrics.wait(why);
                Route::Wait { pause, everybody }
            }
        }
    }

    /// What the ledger of the fleet's money is to be asked. `look`: also how much there is where nothing is needed.
    pub(super) fn needs(&self, look: bool) -> Vec<Need> {
        let (mut router, now) = self.router();
        router.needs(look, now.wall)
    }

    pub(super) fn settled(&self, need: &Need, granted: u64, unlent: u64) {
        let (mut router, now) = self.router();
        router.settled(need, granted, unlent, now.wall);
    }

    pub(super) fn unsettled(&self, need: &Need) {
        let (mut router, now) = self.router();
        router.unsettled(need, now.wall);
    }

    /// All that was borrowed and not spent.
    pub(super) fn give_back(&self) -> Vec<Need> {
        let (mut router, now) = self.router();
        router.give_back(now.wall)
    }

    /// Until money is to be borrowed sooner than usual.
    pub(super) async fn wants_money(&self) {
        self.short.notified().await;
    }

    /// How long a call took lately: one of them, at random, so that a code which is not sent takes as long as others.
    pub(super) fn usual_call(&self) -> Duration {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let any = rand::random_range(0..calls.len().max(1));
        calls.get(any).copied().unwrap_or_default()
    }

    /// What can be sent at present.
    pub(crate) fn capacity(&self) -> Capacity {
        let calls = self.concurrency as f64 / self.mean_call().max(CALL_MIN).as_secs_f64();
        let (mut router, now) = self.router();
        router.capacity(calls, self.queued.load(Ordering::Relaxed), now)
    }

    /// Where codes of all processes go that nobody types.
    pub(crate) fn heard(&self, places: Vec<(PlaceKey, PlaceCount)>) {
        let (mut router, now) = self.router();
        router.heard(places, now.at);
    }

    /// A sign-up with a number of this country has begun.
    pub(crate) fn began(&self, country: u16) {
        let (mut router, now) = self.router();
        router.began(country, now.at);
    }

    /// So many codes are in the store's queue.
    pub(super) fn queued(&self, codes: usize) {
        self.queued.store(codes, Ordering::Relaxed);
    }

    fn mean_call(&self) -> Duration {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u32::try_from(calls.len()).expect("few are kept");
        calls.iter().sum::<Duration>().checked_div(count).unwrap_or_default()
    }

    /// A receipt of the provider in this place has come. Answers with what is new by it.
    pub(super) fn receipt(&self, provider: usize, receipt: &Receipt) -> Option<Receipted> {
        let new = {
            let (mut router, now) = self.router();
            router.receipt(provider, &receipt.message, receipt.delivery, now.at)
        };
        let outcome = match (new, receipt.delivery) {
            (Some(Receipted { arrived: true, .. }), _) => ReceiptOutcome::Arrived,
            (Some(_), _) => ReceiptOutcome::Failed,
            (None, Delivery::Unknown) => ReceiptOutcome::Unknown,
            (None, _) => ReceiptOutcome::OfNobody,
        };
        self.metrics.receipt(&self.carriers[provider].carrier.terms.name, outcome);
        new
    }

    /// The providers, in their places.
    pub(super) fn providers(&self) -> impl Iterator<Item = Arc<dyn Provider>> {
        self.carriers.iter().map(|line| Arc::clone(&line.carrier.provider))
    }

    /// Whether another provider serves a code that all these have failed.
    pub(super) fn has_other(&self, country: u16, transport: Transport, failed: &[ProviderTag]) -> bool {
        self.router().0.has_other(country, transport, failed)
    }

    /// Whether one of those could take the code at once.
    pub(super) fn has_other_ready(&self, country: u16, transport: Transport, failed: &[ProviderTag]) -> bool {
        let (mut router, now) = self.router();
        router.has_other_ready(country, transport, failed, now)
    }

    /// A session's code was typed.
    pub(super) fn proved(&self, session: VerificationId) {
        let (mut router, now) = self.router();
        router.proved(session, now.at);
    }

    /// Sessions whose outcome is to be looked up now, at most `max`.
    pub(super) fn due(&self, max: usize) -> Vec<VerificationId> {
        let (mut router, now) = self.router();
        router.due(max, now.at)
    }

    pub(super) fn seen(&self, session: VerificationId, proved: bool) {
        let (mut router, now) = self.router();
        router.seen(session, proved, now.at);
    }

    /// The outcome could not be looked up: again a little later.
    pub(super) fn unseen(&self, session: VerificationId, after: Duration) {
        let (mut router, now) = self.router();
        router.unseen(session, now.at + after);
    }

    /// Shows how the providers do.
    pub(super) fn show(&self) {
        let (mut router, now) = self.router();
        for (index, line) in self.carriers.iter().enumerate() {
            for transport in &line.carrier.terms.transports {
                let standing = router.standing(index, *transport, now.at);
                self.metrics.standing(&line.carrier.terms.name, *transport, standing);
            }
        }
        let left = router.budget_left(now.wall);
        self.metrics.budget(router.budget_sizes(), left);
    }

    fn router(&self) -> (MutexGuard<'_, Router>, Now) {
        let router = self.router.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that time does not run backwards for the router.
        (router, Now { at: Instant::now(), wall: self.clock.now() })
    }

    fn tell_alarm(&self, scope: Scope) {
        match scope {
            Scope::Hour => tracing::warn!("half of this hour's budget for codes is spent"),
            Scope::Day => tracing::warn!("half of today's budget for codes is spent"),
            Scope::Country(country) => {
                tracing::warn!(country, "half of today's budget for codes of one country is spent");
            }
        }
    }
}

impl Attempt {
    pub(super) fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.line().carrier.provider)
    }

    pub(super) fn tag(&self) -> ProviderTag {
        self.tag
    }

    pub(super) fn country(&self) -> u16 {
        self.country
    }

    /// Whether a receipt will tell when the message has arrived. Nobody counts on that who has given none lately.
    pub(super) fn gives_receipts(&self) -> bool {
        let (router, now) = self.routes.router();
        self.ticket.as_ref().is_some_and(|ticket| router.gives_receipts(ticket, now.at))
    }

    /// The provider will call the message `name`, which was asked for `waited` before. Answers with what it has said of it already.
    pub(super) fn awaits_receipt(
        &self,
        name: &str,
        session: VerificationId,
        waited: Duration,
    ) -> Option<Receipted> {
        let told = {
            let (mut router, now) = self.routes.router();
            let ticket = self.ticket.as_ref()?;
            router.awaits_receipt(ticket, name, session, waited, now.at)
        }?;
        let outcome = if told.arrived { ReceiptOutcome::Arrived } else { ReceiptOutcome::Failed };
        self.routes.metrics.receipt(self.name(), outcome);
        Some(told)
    }

    /// The provider took the code, `call` after it was asked. `delay`: until it has reached the phone, if that is known.
    pub(super) fn accepted(
        mut self,
        session: VerificationId,
        call: Duration,
        delay: Option<Duration>,
        estimate: Duration,
    ) {
        let name = self.name();
        self.routes.metrics.code(name, CodeOutcome::Accepted);
        self.routes.metrics.call(name, call);
        if let Some(ticket) = &self.ticket {
            self.routes.metrics.spent(name, ticket.cost());
        }
        if self.line().failing.swap(false, Ordering::Relaxed) {
            tracing::info!(provider = name, "the provider takes codes again");
        }
        let mut calls = self.routes.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() == CALLS_KEPT {
            calls.pop_front();
        }
        calls.push_back(call);
        drop(calls);
        self.end(End::Accepted { session, delay, estimate });
    }

    pub(super) fn failed(mut self, error: &ProviderError) {
        let (outcome, end) = match error {
            ProviderError::Throttled { retry_after } => {
                (CodeOutcome::Throttled, End::Throttled { pause: *retry_after })
            }
            ProviderError::Failed(_) => (CodeOutcome::Failed, End::Failed),
            ProviderError::Unanswered => (CodeOutcome::TimedOut, End::TimedOut),
            ProviderError::Refused(_) => (CodeOutcome::Refused, End::Refused),
        };
        self.routes.metrics.code(self.name(), outcome);
        if outcome != CodeOutcome::Throttled {
            self.log(error);
        }
        self.end(end);
    }

    pub(super) fn timed_out(mut self) {
        self.routes.metrics.code(self.name(), CodeOutcome::TimedOut);
        if let Some(ticket) = &self.ticket {
            self.routes.metrics.spent(self.name(), ticket.cost());
        }
        self.log(&ProviderError::Unanswered);
        self.end(End::TimedOut);
    }

    fn line(&self) -> &Line {
        &self.routes.carriers[self.provider]
    }

    fn name(&self) -> &str {
        &self.line().carrier.terms.name
    }

    fn log(&self, error: &ProviderError) {
        let provider = self.name();
        if self.line().failing.swap(true, Ordering::Relaxed) {
            tracing::debug!(provider, error = %Chain(error), "a code was not handed over");
        } else {
            tracing::warn!(provider, error = %Chain(error), "the provider has begun to fail");
        }
    }

    fn end(&mut self, end: End) {
        let Some(ticket) = self.ticket.take() else { return };
        let changed = {
            let (mut router, now) = self.routes.router();
            router.end(ticket, end, now)
        };
        let provider = self.name();
        match changed {
            Some(BreakerState::Open) => tracing::warn!(provider, "the provider is left alone for a while"),
            Some(BreakerState::Closed) => tracing::info!(provider, "the provider is used again"),
            Some(BreakerState::HalfOpen) | None => {}
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.end(End::NotSent);
    }
}
