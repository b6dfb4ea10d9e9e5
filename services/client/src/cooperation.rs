//! What a client does to spare the service: it repeats within a budget, comes back when told, and holds back what would be
//! refused.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spillway_admission::{
    Advice, CallWindow, Failure, HOLD_BACK_HEADER, HeldBack, HoldBack, InCall, RetryBudget, RetryPolicy, Tier,
};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::call::CallError;

/// When a library may repeat a call that was refused, in milliseconds; any negative number means never (gRFC A6).
const PUSHBACK_HEADER: &str = "grpc-retry-pushback-ms";

/// What one user of one service has been told. Shared by all of his calls.
#[derive(Debug)]
pub(crate) struct Cooperation {
    /// Advice has times since here.
    began: Instant,
    budget: Mutex<RetryBudget>,
    held: Mutex<HeldBack>,
    window: Mutex<CallWindow>,
    /// There is room in the window.
    room: Notify,
}

/// A call's place in the window. Dropped before its end: nobody waits for the answer any more.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub(crate) struct Place<'a> {
    cooperation: &'a Cooperation,
    began: Duration,
    ended: bool,
}

/// After what time to try again that which could not be sent because nobody answered.
const UNANSWERED_RETRY: Duration = Duration::from_secs(1);

impl Cooperation {
    pub(crate) fn new(policy: RetryPolicy, calls_max: u32) -> Self {
        Self {
            began: Instant::now(),
            budget: Mutex::new(RetryBudget::new(policy)),
            held: Mutex::new(HeldBack::default()),
            window: Mutex::new(CallWindow::new(calls_max)),
            room: Notify::new(),
        }
    }

    /// Returns when the service is expected to admit a call of this tier, and to have an ear for it.
    ///
    /// # Errors
    ///
    /// [`CallError::HeldBack`]: at once when it will not be admitted before `deadline`, so that the user can be told now; at `latest` when
    /// it has no ear. That is well before the deadline: those who wait are let in in order, and a service that is slow to answer would be
    /// asked by each of them in his last moment, and by nobody in time.
    pub(crate) async fn turn(
        &self,
        tier: Tier,
        latest: Instant,
        deadline: Instant,
    ) -> Result<Place<'_>, CallError> {
        loop {
            // Anew after each wait: whoever was before it may have been told something.
            if let Some(until) = self.asked(tier) {
                // The room that this call was told of is another's.
                self.room.notify_one();
                wait(until, deadline).await?;
            } else if lock(&self.window).begin() {
                return Ok(Place { cooperation: self, began: self.began.elapsed(), ended: false });
            } else if timeout_at(latest, self.room.notified()).await.is_err() {
                return Err(CallError::HeldBack { retry_after: UNANSWERED_RETRY });
            }
        }
    }

    /// Returns at once, or when a call of this tier is expected to be admitted again.
    ///
    /// # Errors
    ///
    /// [`CallError::HeldBack`], at once, when that is not before the deadline.
    pub(crate) async fn hold(&self, tier: Tier, deadline: Instant) -> Result<(), CallError> {
        while let Some(until) = self.asked(tier) {
            wait(until, deadline).await?;
        }
        Ok(())
    }

    /// Until when to keep a call of this tier.
    fn asked(&self, tier: Tier) -> Option<Instant> {
        match lock(&self.held).ask(self.began.elapsed(), tier, &mut rand::rng()) {
            Advice::Send => None,
            Advice::Hold { until } => Some(self.began + until),
        }
    }

    /// Takes up the advice that came with an answer of the service.
    pub(crate) fn learn(&self, metadata: &MetadataMap) {
        let advice = metadata.get(HOLD_BACK_HEADER).and_then(|value| value.to_str().ok());
        // What cannot be read is no advice: a later server may speak differently, and must not stop this client.
        let advice = advice.and_then(|text| text.parse::<HoldBack>().ok());
        lock(&self.held).told(self.began.elapsed(), advice, &mut rand::rng());
    }

    fn free(&self, how: impl FnOnce(&mut CallWindow)) {
        let room = {
            let mut window = lock(&self.window);
            how(&mut window);
            window.room()
        };
        for _ in 0..room {
            self.room.notify_one();
        }
    }

    pub(crate) fn succeeded(&self) {
        lock(&self.budget).succeeded();
    }

    /// How long to wait before the attempt after number `attempt`, from 1; `None` when there must be none.
    pub(crate) fn pause(&self, attempt: u32, failure: Failure) -> Option<Duration> {
        lock(&self.budget).failed(attempt, failure, &mut rand::rng())
    }
}

impl Place<'_> {
    pub(crate) fn answered(self) {
        self.end(CallWindow::answered);
    }

    pub(crate) fn refused(self) {
        let (began, now) = (self.began, self.cooperation.began.elapsed());
        self.end(|window| window.refused(began, now));
    }

    /// The call failed without an answer of the service.
    pub(crate) fn failed(self, code: Code) {
        let (began, now) = (self.began, self.cooperation.began.elapsed());
        match code {
            Code::DeadlineExceeded | Code::Cancelled => self.end(|window| window.unanswered(began, now)),
            // There is nobody who could be swamped, and how often to try is the retry budget's to say.
            _ => self.end(CallWindow::given_up),
        }
    }

    fn end(mut self, how: impl FnOnce(&mut CallWindow)) {
        self.ended = true;
        self.cooperation.free(how);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.cooperation.free(CallWindow::given_up);
        }
    }
}

async fn wait(until: Instant, deadline: Instant) -> Result<(), CallError> {
    if until >= deadline {
        let retry_after = until.saturating_duration_since(Instant::now());
        return Err(CallError::HeldBack { retry_after });
    }
    tokio::time::sleep_until(until).await;
    Ok(())
}

/// What the service says about repeating the call within its deadline; `None` when it says nothing.
pub(crate) fn pushback(status: &Status) -> Option<InCall> {
    let text = status.metadata().get(PUSHBACK_HEADER)?.to_str().ok()?;
    let millis = text.parse::<i64>().ok()?;
    Some(u64::try_from(millis).map_or(InCall::DoNotRetry, |ms| InCall::RetryAfter(Duration::from_millis(ms))))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can leave them half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(advice: &str) -> Cooperation {
        let cooperation = Cooperation::new(RetryPolicy::default(), 2);
        let mut metadata = MetadataMap::new();
        metadata.insert(HOLD_BACK_HEADER, advice.parse().unwrap());
        cooperation.learn(&metadata);
        cooperation
    }

    /// How many of 100 calls are not sent at once. One in a hundred of the held goes out all the same, as a probe.
    async fn held(cooperation: &Cooperation, tier: Tier) -> usize {
        let mut held = 0;
        for _ in 0..100 {
            let outcome = cooperation.hold(tier, Instant::now()).await;
            held += usize::from(matches!(outcome, Err(CallError::HeldBack { .. })));
        }
        held
    }

    #[tokio::test(start_paused = true)]
    async fn what_would_be_refused_is_not_sent() {
        let cooperation = told("open=3;ttl=2000");
        assert_eq!(held(&cooperation, Tier::Send).await, 0);
        assert!(held(&cooperation, Tier::Lookup).await > 80);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(
            held(&cooperation, Tier::Lookup).await,
            0,
            "advice is told for at most three seconds here"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_with_time_waits_instead() {
        let cooperation = told("open=3;ttl=2000");
        let began = Instant::now();
        let deadline = began + Duration::from_secs(30);
        let mut waits = Vec::new();
        for _ in 0..20 {
            cooperation.hold(Tier::Lookup, deadline).await.unwrap();
            waits.push(began.elapsed());
        }
        let longest = waits.iter().max().unwrap();
        assert!((2_000..=3_000).contains(&longest.as_millis()), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_advice_opens_all() {
        let cooperation = told("open=0;ttl=60000");
        assert!(held(&cooperation, Tier::Ack).await > 80);
        cooperation.learn(&MetadataMap::new());
        assert_eq!(held(&cooperation, Tier::Background).await, 0);
        assert_eq!(held(&told("closed until further notice"), Tier::Background).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_answered_calls_one_after_another() {
        let cooperation = Cooperation::new(RetryPolicy::default(), 2);
        let turn = || {
            let now = Instant::now();
            cooperation.turn(Tier::Send, now + Duration::from_secs(1), now + Duration::from_secs(2))
        };
        let (one, two) = (turn().await.unwrap(), turn().await.unwrap());
        let began = Instant::now();
        assert!(matches!(turn().await, Err(CallError::HeldBack { .. })));
        assert_eq!(began.elapsed(), Duration::from_secs(1), "others wait for their turn as long as they can");
        // Whoever waits is told when a place is free.
        let (third, ()) = tokio::join!(turn(), async { drop(one) });
        third.unwrap().failed(Code::DeadlineExceeded);
        drop(two);
        let _one = turn().await.unwrap();
        assert!(turn().await.is_err(), "the window is halved");
    }

    /// They do not follow one another into the same refusal.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_hears_what_those_before_were_told() {
        let cooperation = Cooperation::new(RetryPolicy::default(), 1);
        let turn = |tier| {
            let now = Instant::now();
            cooperation.turn(tier, now + Duration::from_secs(1), now + Duration::from_secs(2))
        };
        let first = turn(Tier::Send).await.unwrap();
        let mut metadata = MetadataMap::new();
        metadata.insert(HOLD_BACK_HEADER, "open=1;ttl=5000".parse().unwrap());
        let began = Instant::now();
        let (second, third, ack, ()) =
            tokio::join!(turn(Tier::Send), turn(Tier::Send), turn(Tier::Ack), async {
                tokio::task::yield_now().await;
                cooperation.learn(&metadata);
                first.refused();
            });
        for held in [second, third] {
            assert!(
                matches!(held, Err(CallError::HeldBack { retry_after }) if retry_after >= Duration::from_secs(5))
            );
        }
        ack.unwrap().answered();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[test]
    fn pushback_is_read_as_the_rfc_has_it() {
        let told = |text: &str| {
            let mut status = Status::unavailable("");
            status.metadata_mut().insert(PUSHBACK_HEADER, text.parse().unwrap());
            pushback(&status)
        };
        assert_eq!(told("1234"), Some(InCall::RetryAfter(Duration::from_millis(1_234))));
        assert_eq!(told("-1"), Some(InCall::DoNotRetry));
        assert_eq!(told("soon"), None);
        assert_eq!(pushback(&Status::unavailable("")), None);
    }
}
