//! What every implementation of [`Bus`] must do, as cases to run against a fresh or a shared bus.
//!
//! A bus may lose hints; on an undisturbed connection it must not, and that is what these cases assume. Absence is
//! shown by a later hint that arrives first, so nothing here waits for a time to pass.

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
    what_is_published_after_subscribing_arrives(bus).await;
    publishing_without_interest_is_no_error(bus).await;
    what_was_published_before_subscribing_does_not_arrive(bus).await;
    subjects_are_apart(bus).await;
    every_subscriber_gets_every_hint(bus).await;
    a_publishers_order_is_kept(bus).await;
    loss_is_reported(bus).await;
    a_dropped_subscription_leaves_the_others_alone(bus).await;
    a_cancelled_wait_loses_nothing(bus).await;
}

pub async fn what_is_published_after_subscribing_arrives(bus: &dyn Bus) {
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

pub async fn publishing_without_interest_is_no_error(bus: &dyn Bus) {
    publish(bus, fresh(), 1).await;
}

pub async fn what_was_published_before_subscribing_does_not_arrive(bus: &dyn Bus) {
    let subject = fresh();
    publish(bus, subject, 1).await;
    let mut subscription = subscribe(bus, subject).await;
    publish(bus, subject, 2).await;
    assert_eq!(next(&mut *subscription).await, hint(2));
}

pub async fn subjects_are_apart(bus: &dyn Bus) {
    let (here, there) = (fresh(), fresh());
    let mut subscription = subscribe(bus, here).await;
    publish(bus, there, 1).await;
    publish(bus, Subject::AccountChanged, 2).await;
    publish(bus, here, 3).await;
    assert_eq!(next(&mut *subscription).await, hint(3));
}

pub async fn every_subscriber_gets_every_hint(bus: &dyn Bus) {
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

pub async fn a_publishers_order_is_kept(bus: &dyn Bus) {
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
pub async fn loss_is_reported(bus: &dyn Bus) {
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
    // The subscription works on. A bus with buffers of its own may still have earlier hints under way.
    publish(bus, subject, HINTS).await;
    while next(&mut *subscription).await != hint(HINTS) {}
}

pub async fn a_dropped_subscription_leaves_the_others_alone(bus: &dyn Bus) {
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
    assert_eq!(next(&mut *again).await, hint(3));
}

/// Gives up on `next` at every stage between "nothing there" and "just arrived".
pub async fn a_cancelled_wait_loses_nothing(bus: &dyn Bus) {
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

async fn publish(bus: &dyn Bus, subject: Subject, number: u32) {
    bus.publish(subject, payload(number)).await.expect("the bus is connected");
}

async fn subscribe(bus: &dyn Bus, subject: Subject) -> Box<dyn Subscription> {
    bus.subscribe(subject).await.expect("the bus is connected")
}

async fn next(subscription: &mut dyn Subscription) -> Event {
    let event = timeout(BOUND, subscription.next()).await.expect("the bus delivers within ten seconds");
    event.expect("the bus is open")
}
