use std::sync::LazyLock;
use std::time::Duration;

use rand::seq::SliceRandom;
use spillway_types::{AccountId, Clock, SystemClock, Timestamp, random_bytes};

use super::{hash, number, race_of, some_bytes};
use crate::verifications::{ProviderTag, QueuedCode, SentCode, Transport, Verification, VerificationId};
use crate::{Cas, Store};

pub async fn all(store: &Store, racers: usize) {
    run!(store;
        a_session_comes_back_as_it_was_put,
        a_write_needs_the_stored_version,
        a_moved_session_keeps_its_version,
        the_longest_waiting_code_comes_first,
        a_new_request_replaces_the_queued_one,
        a_session_is_there_until_it_expires,
        an_expired_session_is_forgotten,
        an_id_is_taken_for_longer_than_its_session_lives,
    );
    run!(store, racers;
        of_racing_writes_one_applies,
    );
}

/// The time of the cases. Not long past, because a store may drop sessions at the real time of their expiry.
static START: LazyLock<Timestamp> = LazyLock::new(|| SystemClock.now());
const LIFETIME: Duration = Duration::from_secs(600);
/// After the second that the session lives, and what a store may add to it.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(30);

fn session(created_at: Timestamp) -> Verification {
    Verification {
        id: VerificationId(random_bytes()),
        version: 1,
        number: number(),
        sealed_number: some_bytes(56),
        queued: None,
        sent: None,
        failed: Vec::new(),
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
        taken_until: Timestamp::ZERO,
    }
}

fn queued(since: Timestamp) -> Option<QueuedCode> {
    Some(QueuedCode::new(Transport::Sms, since))
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
        queued: Some(QueuedCode {
            held_until: START.saturating_add(Duration::from_secs(25)),
            attempts: 3,
            ..QueuedCode::new(Transport::Voice, *START)
        }),
        sent: Some(SentCode {
            mac: hash(),
            handed_over_at: *START,
            expires_at: Timestamp::MAX,
            provider: Some(ProviderTag(u32::MAX)),
        }),
        failed: vec![ProviderTag(7), ProviderTag(0)],
        sms_requested: 3,
        voice_requested: 2,
        checks: 1,
        next_check_at: *START,
        verified: true,
        account: Some(AccountId::random()),
        taken_until: START.saturating_add(3 * LIFETIME),
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

async fn a_moved_session_keeps_its_version(store: &Store) {
    let moved = Verification { version: 5, queued: queued(*START), ..session(*START) };
    assert_eq!(store.verifications.put(&moved, None).await.unwrap(), Cas::Applied);
    assert_eq!(store.verifications.get(moved.id).await.unwrap().as_ref(), Some(&moved));
    let next = Verification { version: 6, queued: None, ..moved.clone() };
    assert_eq!(store.verifications.put(&next, Some(5)).await.unwrap(), Cas::Applied);
    assert_eq!(places(store, &[moved]).await, []);
}

async fn of_racing_writes_one_applies(store: &Store, racers: usize) {
    let mut first = session(*START);
    put(store, &mut first, None).await;
    let answers = race_of(racers, |number| {
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

    asks_again.queued = Some(QueuedCode::new(Transport::Voice, later(10)));
    put(store, &mut asks_again, Some(1)).await;
    assert_eq!(places(store, &both).await, [waits.id, asks_again.id]);

    // A change of something else leaves the place alone.
    asks_again.checks = 1;
    put(store, &mut asks_again, Some(2)).await;
    assert_eq!(places(store, &both).await, [waits.id, asks_again.id]);

    // Nor does a hold: it is for those who read the session.
    let held_until = later(30);
    waits.queued = waits.queued.map(|queued| QueuedCode { held_until, attempts: 1, ..queued });
    put(store, &mut waits, Some(1)).await;
    assert_eq!(places(store, &both).await, [waits.id, asks_again.id]);

    waits.queued = None;
    put(store, &mut waits, Some(2)).await;
    assert_eq!(places(store, &both).await, [asks_again.id]);
}

async fn a_session_is_there_until_it_expires(store: &Store) {
    let mut session = session(*START);
    put(store, &mut session, None).await;
    // "Before" is strict: at its last microsecond a session is there.
    store.verifications.expire(session.expires_at).await.unwrap();
    assert_eq!(store.verifications.get(session.id).await.unwrap(), Some(session));
}

/// With real time: a store may count from the clock of a database.
async fn an_expired_session_is_forgotten(store: &Store) {
    let now = SystemClock.now();
    let expires_at = now.saturating_add(Duration::from_secs(1));
    let mut first = Verification { expires_at, ..session(now) };
    put(store, &mut first, None).await;
    let mut old = Verification { queued: queued(now), ..first.clone() };
    put(store, &mut old, Some(1)).await;
    let mut extended = Verification { expires_at, queued: queued(now), ..session(now) };
    put(store, &mut extended, None).await;
    extended.expires_at = now.saturating_add(LIFETIME);
    put(store, &mut extended, Some(1)).await;

    let forgotten = async {
        while store.verifications.get(old.id).await.unwrap().is_some() {
            store.verifications.expire(SystemClock.now()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(FORGOTTEN_WITHIN, forgotten).await.expect("the session is forgotten");
    assert_eq!(store.verifications.get(extended.id).await.unwrap().as_ref(), Some(&extended));
    assert_eq!(places(store, &[old, extended.clone()]).await, [extended.id]);
    // Its id may be used again, as if it had never been.
    assert_eq!(store.verifications.put(&first, None).await.unwrap(), Cas::Applied);
}

/// With real time, and beside a session that shows that the store has forgotten by then.
async fn an_id_is_taken_for_longer_than_its_session_lives(store: &Store) {
    let now = SystemClock.now();
    let expires_at = now.saturating_add(Duration::from_secs(1));
    let taken_until = now.saturating_add(LIFETIME);
    let mut used = Verification { expires_at, taken_until, queued: queued(now), ..session(now) };
    put(store, &mut used, None).await;
    // Every later write keeps it as long.
    used.queued = None;
    put(store, &mut used, Some(1)).await;
    let mut short = Verification { taken_until: expires_at, ..session(now) };
    short.expires_at = expires_at;
    put(store, &mut short, None).await;

    let forgotten = async {
        while store.verifications.get(short.id).await.unwrap().is_some() {
            store.verifications.expire(SystemClock.now()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(FORGOTTEN_WITHIN, forgotten).await.expect("the other session is forgotten");
    store.verifications.expire(SystemClock.now()).await.unwrap();
    assert_eq!(store.verifications.get(used.id).await.unwrap().as_ref(), Some(&used));
    let another = Verification { id: used.id, ..session(now) };
    assert_eq!(store.verifications.put(&another, None).await.unwrap(), Cas::Conflict);
}

/// For stores that forget only when they are told to.
pub async fn expire_forgets_and_counts(store: &Store) {
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
