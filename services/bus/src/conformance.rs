//! What every implementation of [`Bus`] must do, as cases to run against a fresh or a shared bus.
//!
//! A bus may lose hints; on an undisturbed connection it must not, and that is what these cases assume. Absence is
//! shown by a later hint that arrives first, so nothing here waits for a time to pass.

pub mod work;

use std::time::Duration;

use bytes::Bytes;
use spillway_types::MailboxId;
use tokio::time::timeout;

use crate::{Bus, Event, Subject, Subscription};

/// No case needs this long; it turns a hang into a failure.
const BOUND: Duration = Duration::from_secs(10);

/// Runs all cases.
///
/// # Panics
///
/// When the bus does not conform.
pub async fn all(bus: &dyn Bus) {
    between(bus, bus).await;
}

/// Runs all cases with a publisher and a subscriber that may be in different processes of a fleet.
///
/// # Panics
///
/// When the bus does not conform.
pub async fn between(publisher: &dyn Bus, subscriber: &dyn Bus) {
    let bus = Ends { publisher, subscriber };
    what_is_published_after_subscribing_arrives(bus).await;
    publishing_without_interest_is_no_error(bus).await;
    subjects_are_apart(bus).await;
    every_subscriber_gets_every_hint(bus).await;
    a_publishers_order_is_kept(bus).await;
    loss_is_reported(bus).await;
    a_dropped_subscription_leaves_the_others_alone(bus).await;
    a_cancelled_wait_loses_nothing(bus).await;
}

/// Where hints go in, and where they come out.
#[derive(Clone, Copy)]
struct Ends<'a> {
    publisher: &'a dyn Bus,
    subscriber: &'a dyn Bus,
}

async fn what_is_published_after_subscribing_arrives(bus: Ends<'_>) {
    for subject in [fresh(), Subject::AccountChanged] {
        let mut subscription = subscribe(bus, subject).await;
        publish(bus, subject, 7).await;
        assert_eq!(next(&mut *subscription).await, hint(7));
    }
    let subject = fresh();
    let mut subscription = subscribe(bus, subject).await;
    let waiting = async {
        // Polled before the hint is published.
        tokio::join!(biased; next(&mut *subscription), publish(bus, subject, 8)).0
    };
    assert_eq!(waiting.await, hint(8), "a waiting subscriber is woken");
}

async fn publishing_without_interest_is_no_error(bus: Ends<'_>) {
    publish(bus, fresh(), 1).await;
}

async fn subjects_are_apart(bus: Ends<'_>) {
    let (here, there) = (fresh(), fresh());
    let mut subscription = subscribe(bus, here).await;
    publish(bus, there, 1).await;
    publish(bus, Subject::AccountChanged, 2).await;
    publish(bus, here, 3).await;
    assert_eq!(next(&mut *subscription).await, hint(3));
}

async fn every_subscriber_gets_every_hint(bus: Ends<'_>) {
    let subject = fresh();
    let mut first = subscribe(bus, subject).await;
    let mut second = subscribe(bus, subject).await;
    for number in 0..3 {
        publish(bus, subject, number).await;
    }
    for number in 0..3 {
        assert_eq!(next(&mut *first).await, hint(number));
        assert_eq!(next(&mut *second).await, hint(number));
    }
}

async fn a_publishers_order_is_kept(bus: Ends<'_>) {
    let subject = fresh();
    let mut subscription = subscribe(bus, subject).await;
    for number in 0..500 {
        publish(bus, subject, number).await;
        if number % 16 == 15 {
            for earlier in number - 15..=number {
                assert_eq!(next(&mut *subscription).await, hint(earlier));
            }
        }
    }
}

/// A subscriber that reads nothing while 20,000 hints are published gets each of them or is told that it did not.
async fn loss_is_reported(bus: Ends<'_>) {
    const HINTS: u32 = 20_000;
    let subject = fresh();
    let mut subscription = subscribe(bus, subject).await;
    for number in 0..HINTS {
        publish(bus, subject, number).await;
    }
    let mut expected = 0;
    let mut lagged = false;
    while expected < HINTS {
        match next(&mut *subscription).await {
            Event::Lagged => {
                lagged = true;
                break;
            }
            event => assert_eq!(event, hint(expected), "a gap before it was reported"),
        }
        expected += 1;
    }
    if !lagged {
        return;
    }
    // The subscription works on. Earlier hints may still be under way, and may make a gap again that swallows this one;
    // then the gap is reported, and the next one has a chance.
    for number in HINTS.. {
        publish(bus, subject, number).await;
        loop {
            match next(&mut *subscription).await {
                Event::Lagged => break,
                event if event == hint(number) => return,
                Event::Hint(_) => {}
            }
        }
    }
}

async fn a_dropped_subscription_leaves_the_others_alone(bus: Ends<'_>) {
    let subject = fresh();
    let dropped = subscribe(bus, subject).await;
    let mut kept = subscribe(bus, subject).await;
    drop(dropped);
    publish(bus, subject, 1).await;
    assert_eq!(next(&mut *kept).await, hint(1));
    drop(kept);
    publish(bus, subject, 2).await;
    let mut again = subscribe(bus, subject).await;
    publish(bus, subject, 3).await;
    let mut event = next(&mut *again).await;
    if event == hint(2) {
        // It was still on its way when the subscription began.
        event = next(&mut *again).await;
    }
    assert_eq!(event, hint(3));
}

/// Gives up on `next` at every stage between "nothing there" and "just arrived".
async fn a_cancelled_wait_loses_nothing(bus: Ends<'_>) {
    let subject = fresh();
    let mut subscription = subscribe(bus, subject).await;
    for number in 0..50 {
        for yields in 0..=number % 4 {
            tokio::select! {
                biased;
                event = subscription.next() => panic!("nothing was published, but there is {event:?}"),
                () = yield_times(yields) => {}
            }
        }
        publish(bus, subject, number).await;
        let mut arrived = None;
        for yields in 0.. {
            tokio::select! {
                event = subscription.next() => arrived = event,
                () = yield_times(yields % 4) => {}
            }
            if arrived.is_some() {
                break;
            }
        }
        assert_eq!(arrived, Some(hint(number)));
    }
}

async fn yield_times(count: u32) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

fn fresh() -> Subject {
    Subject::Mailbox(MailboxId::random())
}

fn hint(number: u32) -> Event {
    Event::Hint(payload(number))
}

fn payload(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

async fn publish(bus: Ends<'_>, subject: Subject, number: u32) {
    bus.publisher.publish(subject, payload(number)).await.expect("the bus is connected");
}

async fn subscribe(bus: Ends<'_>, subject: Subject) -> Box<dyn Subscription> {
    bus.subscriber.subscribe(subject).await.expect("the bus is connected")
}

async fn next(subscription: &mut dyn Subscription) -> Event {
    let event = timeout(BOUND, subscription.next()).await.expect("the bus delivers within ten seconds");
    event.expect("the bus is open")
}
