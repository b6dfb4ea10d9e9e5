use std::sync::LazyLock;
use std::time::Duration;

use rand::seq::SliceRandom;
use spillway_types::{AccountId, Clock, SystemClock, Timestamp, random_bytes};

use super::{hash, number, race, some_bytes};
use crate::verifications::{QueuedCode, SentCode, Transport, Verification, VerificationId};
use crate::{Cas, Store};

pub async fn all(store: &Store) {
    run!(store;
        a_session_comes_back_as_it_was_put,
        a_write_needs_the_stored_version,
        of_racing_writes_one_applies,
        the_longest_waiting_code_comes_first,
        a_new_request_replaces_the_queued_one,
        expired_sessions_are_forgotten,
    );
}

/// The time of the cases. Not long past, because a store may drop sessions at the real time of their expiry.
static START: LazyLock<Timestamp> = LazyLock::new(|| SystemClock.now());
const LIFETIME: Duration = Duration::from_secs(600);

fn session(created_at: Timestamp) -> Verification {
    Verification {
        id: VerificationId(random_bytes()),
        version: 1,
        number: number(),
        sealed_number: some_bytes(56),
        queued: None,
        sent: None,
        sms_requested: 1,
        voice_requested: 0,
        checks: 0,
        next_sms_at: created_at.saturating_add(Duration::from_secs(60)),
        next_voice_at: created_at.saturating_add(Duration::from_secs(120)),
        next_check_at: Timestamp::ZERO,
        verified: false,
        account: None,
        created_at,
        expires_at: created_at.saturating_add(LIFETIME),
    }
}

fn queued(since: Timestamp) -> Option<QueuedCode> {
    Some(QueuedCode { transport: Transport::Sms, since })
}

/// Stores the session as its next version.
async fn put(store: &Store, session: &mut Verification, expected: Option<u64>) {
    session.version = expected.map_or(1, |version| version + 1);
    assert_eq!(store.verifications.put(session, expected).await.unwrap(), Cas::Applied);
}

/// Where the sessions are in the queue, of which others may share the rest.
async fn places(store: &Store, sessions: &[Verification]) -> Vec<VerificationId> {
    let queue = store.verifications.queued(100_000).await.unwrap();
    queue.into_iter().filter(|id| sessions.iter().any(|session| session.id == *id)).collect()
}

async fn a_session_comes_back_as_it_was_put(store: &Store) {
    assert_eq!(store.verifications.get(VerificationId(random_bytes())).await.unwrap(), None);
    let mut first = session(*START);
    put(store, &mut first, None).await;
    assert_eq!(store.verifications.get(first.id).await.unwrap().as_ref(), Some(&first));
    let mut second = Verification {
        queued: Some(QueuedCode { transport: Transport::Voice, since: *START }),
        sent: Some(SentCode { mac: hash(), handed_over_at: *START, expires_at: Timestamp::MAX }),
        sms_requested: 3,
        voice_requested: 2,
        checks: 1,
        next_check_at: *START,
        verified: true,
        account: Some(AccountId::random()),
        ..first
    };
    put(store, &mut second, Some(1)).await;
    assert_eq!(store.verifications.get(second.id).await.unwrap(), Some(second));
}

async fn a_write_needs_the_stored_version(store: &Store) {
    let mut first = session(*START);
    put(store, &mut first, None).await;
    assert_eq!(store.verifications.put(&first, None).await.unwrap(), Cas::Conflict);
    let later = Verification { version: 3, queued: queued(*START), ..first.clone() };
    assert_eq!(store.verifications.put(&later, Some(2)).await.unwrap(), Cas::Conflict);
    assert_eq!(store.verifications.get(first.id).await.unwrap().as_ref(), Some(&first));
    // The queue did not follow a write that did not happen.
    assert_eq!(places(store, &[first]).await, []);
}

async fn of_racing_writes_one_applies(store: &Store) {
    let mut first = session(*START);
    put(store, &mut first, None).await;
    let answers = race(|number| {
        let verifications = store.verifications.clone();
        let since = START.saturating_add(Duration::from_secs(number as u64));
        let next = Verification { version: 2, queued: queued(since), ..first.clone() };
        async move { (since, verifications.put(&next, Some(1)).await.unwrap()) }
    })
    .await;
    let applied: Vec<_> = answers.iter().filter(|(_, cas)| *cas == Cas::Applied).collect();
    assert_eq!(applied.len(), 1);
    let stored = store.verifications.get(first.id).await.unwrap().unwrap();
    assert_eq!(stored.queued, queued(applied[0].0));
    assert_eq!(places(store, &[first]).await.len(), 1);
}

async fn the_longest_waiting_code_comes_first(store: &Store) {
    let since = |wait| START.saturating_sub(Duration::from_secs(wait));
    let mut sessions: Vec<_> =
        (0..50).map(|wait| Verification { queued: queued(since(wait)), ..session(*START) }).collect();
    let expected: Vec<_> = sessions.iter().rev().map(|session| session.id).collect();
    let mut order: Vec<_> = (0..sessions.len()).collect();
    order.shuffle(&mut rand::rng());
    for index in order {
        put(store, &mut sessions[index], None).await;
    }
    assert_eq!(places(store, &sessions).await, expected);
    assert_eq!(store.verifications.queued(3).await.unwrap().len(), 3);
    assert_eq!(store.verifications.queued(0).await.unwrap(), []);
}

async fn a_new_request_replaces_the_queued_one(store: &Store) {
    let later = |seconds| START.saturating_add(Duration::from_secs(seconds));
    let mut asks_again = Verification { queued: queued(*START), ..session(*START) };
    let mut waits = Verification { queued: queued(later(5)), ..session(*START) };
    put(store, &mut asks_again, None).await;
    put(store, &mut waits, None).await;
    let both = [asks_again.clone(), waits.clone()];
    assert_eq!(places(store, &both).await, [asks_again.id, waits.id]);

    asks_again.queued = Some(QueuedCode { transport: Transport::Voice, since: later(10) });
    put(store, &mut asks_again, Some(1)).await;
    assert_eq!(places(store, &both).await, [waits.id, asks_again.id]);

    // A change of something else leaves the place alone.
    asks_again.checks = 1;
    put(store, &mut asks_again, Some(2)).await;
    assert_eq!(places(store, &both).await, [waits.id, asks_again.id]);

    waits.queued = None;
    put(store, &mut waits, Some(1)).await;
    assert_eq!(places(store, &both).await, [asks_again.id]);
}

async fn expired_sessions_are_forgotten(store: &Store) {
    let mut old = Vec::new();
    for _ in 0..300 {
        let mut session = Verification { queued: queued(*START), ..session(*START) };
        put(store, &mut session, None).await;
        old.push(session);
    }
    let mut extended = Verification { queued: queued(*START), ..session(*START) };
    put(store, &mut extended, None).await;
    extended.expires_at = START.saturating_add(2 * LIFETIME);
    put(store, &mut extended, Some(1)).await;

    // "Before" is strict: at its last microsecond a session is there.
    store.verifications.expire(START.saturating_add(LIFETIME)).await.unwrap();
    assert!(store.verifications.get(old[0].id).await.unwrap().is_some());

    let now = START.saturating_add(LIFETIME + Duration::from_secs(1));
    assert!(store.verifications.expire(now).await.unwrap() >= old.len());
    for session in &old {
        assert_eq!(store.verifications.get(session.id).await.unwrap(), None);
    }
    assert_eq!(places(store, &old).await, []);
    assert_eq!(store.verifications.get(extended.id).await.unwrap().as_ref(), Some(&extended));
    assert_eq!(places(store, &[extended.clone()]).await, [extended.id]);
    assert_eq!(store.verifications.expire(now).await.unwrap(), 0);
}
