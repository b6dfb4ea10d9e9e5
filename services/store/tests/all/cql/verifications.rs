//! What a crash between the writes of a queue entry and its session leaves behind.

use std::time::Duration;

use scylla::client::session::Session;
use spillway_store::cql::Config;
use spillway_store::verifications::{QueuedCode, Transport, Verification, VerificationId};
use spillway_store::{Cas, Store};
use spillway_types::{Clock, NumberMac, SystemClock, Timestamp, random_bytes};

pub(super) async fn all(config: &Config, store: &Store) {
    let queue = Queue {
        session: super::session().await,
        table: format!("{}_identity.verification_queue", config.keyspace_prefix),
    };
    a_leftover_is_not_found_and_is_cleared_away(&queue, store).await;
    an_entry_whose_session_is_on_its_way_is_kept(&queue, store).await;
    an_entry_without_a_session_is_not_found(&queue, store).await;
}

struct Queue {
    session: Session,
    table: String,
}

impl Queue {
    /// As a worker would for `version` of the session, and then die.
    async fn enter(&self, id: VerificationId, since: Timestamp, version: i64) {
        let since = i64::try_from(since.as_micros()).unwrap();
        let shard = i8::try_from(id.0[0] % 8).unwrap();
        let insert = format!(
            "INSERT INTO {} (shard, minute, since, id, version) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?",
            self.table
        );
        let values = (shard, since / 60_000_000, since, id.0.to_vec(), version, version);
        self.session.query_unpaged(insert, values).await.unwrap();
    }

    async fn entries(&self, id: VerificationId) -> usize {
        let select = format!("SELECT since FROM {} WHERE id = ? ALLOW FILTERING", self.table);
        let result = self.session.query_unpaged(select, (id.0.to_vec(),)).await.unwrap();
        result.into_rows_result().unwrap().rows_num()
    }
}

async fn queued_session(store: &Store) -> Verification {
    let now = SystemClock.now();
    let session = Verification {
        id: VerificationId(random_bytes()),
        version: 1,
        number: NumberMac::from_bytes([1; NumberMac::LEN]),
        sealed_number: vec![2; 40].into(),
        queued: Some(QueuedCode::new(Transport::Sms, now)),
        sent: None,
        failed: Vec::new(),
        sms_requested: 1,
        voice_requested: 0,
        checks: 0,
        next_sms_at: now,
        next_voice_at: now,
        next_check_at: Timestamp::ZERO,
        verified: false,
        account: None,
        created_at: now,
        expires_at: now.saturating_add(Duration::from_secs(600)),
        taken_until: Timestamp::ZERO,
    };
    assert_eq!(store.verifications.put(&session, None).await.unwrap(), Cas::Applied);
    session
}

async fn places(store: &Store, id: VerificationId) -> usize {
    let queue = store.verifications.queued(100_000).await.unwrap();
    queue.into_iter().filter(|queued| *queued == id).count()
}

async fn a_leftover_is_not_found_and_is_cleared_away(queue: &Queue, store: &Store) {
    let first = queued_session(store).await;
    let done = Verification { version: 2, queued: None, ..first.clone() };
    assert_eq!(store.verifications.put(&done, Some(1)).await.unwrap(), Cas::Applied);
    assert_eq!(queue.entries(first.id).await, 0);
    // A worker wrote this for version 2 and lost the race for it.
    queue.enter(first.id, SystemClock.now(), 2).await;
    assert_eq!(places(store, first.id).await, 0);
    assert_eq!(queue.entries(first.id).await, 0);
}

async fn an_entry_whose_session_is_on_its_way_is_kept(queue: &Queue, store: &Store) {
    let first = queued_session(store).await;
    let since = SystemClock.now();
    queue.enter(first.id, since, 2).await;
    // Found once, by the entry that the session agrees with.
    assert_eq!(places(store, first.id).await, 1);
    assert_eq!(queue.entries(first.id).await, 2);
    let again = QueuedCode::new(Transport::Voice, since);
    let second = Verification { version: 2, queued: Some(again), ..first.clone() };
    assert_eq!(store.verifications.put(&second, Some(1)).await.unwrap(), Cas::Applied);
    assert_eq!(places(store, first.id).await, 1);
    assert_eq!(queue.entries(first.id).await, 1);
}

async fn an_entry_without_a_session_is_not_found(queue: &Queue, store: &Store) {
    let id = VerificationId(random_bytes());
    queue.enter(id, SystemClock.now(), 1).await;
    assert_eq!(places(store, id).await, 0);
    // Its session may still be on its way; otherwise the entry expires.
    assert_eq!(queue.entries(id).await, 1);
}
