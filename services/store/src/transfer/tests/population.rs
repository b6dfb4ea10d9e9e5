//! A store with some of everything.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use spillway_types::{
    AccountId, Clock, DeviceId, Guid, KeyedHash, MailboxId, MessageIdGenerator, NumberMac, TestClock,
    Timestamp, random_bytes,
};

use super::super::{Section, Sections};
use crate::accounts::{Account, Device, NumberClaim, Version};
use crate::keys::{KeyUpload, OneTimePreKey, SignedPreKey};
use crate::mailboxes::{Capacity, Put, RETENTION, StoredMessage};
use crate::verifications::{ProviderTag, QueuedCode, SentCode, Transport, Verification, VerificationId};
use crate::{Cas, Store};

pub(super) const ROOMY: Capacity = Capacity { messages: u64::MAX, bytes: u64::MAX };

/// What an export must hold.
#[derive(Debug, Default)]
pub(super) struct Population {
    pub(super) accounts: Vec<Account>,
    pub(super) keys: Vec<(MailboxId, KeyUpload)>,
    pub(super) sessions: Vec<Verification>,
    pub(super) messages: Vec<(MailboxId, StoredMessage)>,
    pub(super) settled: Vec<MailboxId>,
    /// Messages and sessions that are stored and too old.
    pub(super) expired: u64,
}

impl Population {
    pub(super) async fn put(store: &Store, clock: &TestClock, accounts: usize) -> Self {
        let mut population = Self::default();
        let ids = MessageIdGenerator::new(Arc::new(clock.clone()));
        let now = clock.now();
        for index in 0..accounts {
            let account = population.put_account(store, index).await;
            for device in &account.devices {
                population.put_keys(store, device.mailbox, index).await;
                population.put_mail(store, clock, &ids, device.mailbox).await;
            }
            population.put_session(store, now, index).await;
        }
        clock.set(now);
        // As in every order that is told, by key.
        population.messages.sort_by_key(|(mailbox, message)| (*mailbox, message.id));
        population
    }

    pub(super) fn counts(&self) -> Sections<u64> {
        let mut counts = Sections::default();
        counts[Section::Accounts] = self.accounts.len() as u64;
        counts[Section::Claims] = self.accounts.len() as u64;
        counts[Section::Directory] =
            self.accounts.iter().filter(|account| account.discoverable).count() as u64;
        counts[Section::Keys] = self.keys.len() as u64;
        counts[Section::Settled] = self.settled.len() as u64;
        counts[Section::Verifications] = self.sessions.len() as u64;
        counts[Section::Messages] = self.messages.len() as u64;
        counts
    }

    async fn put_account(&mut self, store: &Store, index: usize) -> Account {
        let device = |id: u32| Device {
            id: DeviceId::try_from(id).unwrap(),
            mailbox: MailboxId::random(),
            credential: KeyedHash::from_bytes(random_bytes()),
            registration_id: 16_000 + id,
            name: some_bytes(index % 40),
            linked_at: Timestamp::from_millis(1_610_722_800_000),
        };
        let mut account = Account {
            id: AccountId::random(),
            version: Version::FIRST,
            number: number(),
            identity_key: some_bytes(33),
            discoverable: index.is_multiple_of(2),
            created_at: Timestamp::from_millis(1_610_722_800_000),
            devices: vec![device(1), device(2)],
        };
        assert_eq!(store.accounts.put(&account, None).await.unwrap(), Cas::Applied);
        for _ in 0..index % 3 {
            let expected = account.version;
            account.version = expected.next();
            assert_eq!(store.accounts.put(&account, Some(expected)).await.unwrap(), Cas::Applied);
        }
        store.accounts.claim(NumberClaim { number: account.number, account: account.id }).await.unwrap();
        if account.discoverable {
            store.directory.put(account.number, account.id).await.unwrap();
        }
        self.accounts.push(account.clone());
        account
    }

    async fn put_keys(&mut self, store: &Store, device: MailboxId, index: usize) {
        let signed = |key_id| SignedPreKey { key_id, public_key: some_bytes(33), signature: some_bytes(64) };
        let one_time = |key_id| OneTimePreKey { key_id, public_key: some_bytes(33) };
        let keys = KeyUpload {
            signed: Some(signed(1)),
            last_resort: (index.is_multiple_of(2)).then(|| signed(2)),
            one_time: (0..5).map(one_time).collect(),
        };
        store.keys.upload(device, &keys, 100).await.unwrap();
        self.keys.push((device, keys));
    }

    /// One message that is too old, one that is deleted, and some that stay.
    async fn put_mail(
        &mut self,
        store: &Store,
        clock: &TestClock,
        ids: &MessageIdGenerator,
        mailbox: MailboxId,
    ) {
        let now = clock.now();
        let message = || StoredMessage {
            id: ids.mint(),
            guid: Guid::random(),
            envelope: some_bytes(rand::rng().random_range(0..600)),
        };
        clock.set(now.saturating_sub(RETENTION + Duration::from_secs(60)));
        put_message(store, mailbox, &message()).await;
        self.expired += 1;
        clock.set(now.saturating_sub(Duration::from_secs(3_600)));
        for _ in 0..4 {
            let message = message();
            put_message(store, mailbox, &message).await;
            self.messages.push((mailbox, message));
        }
        let deleted = message();
        put_message(store, mailbox, &deleted).await;
        store.mailboxes.delete(mailbox, &[deleted.id], clock.now()).await.unwrap();
        // Below it, nothing is left to deliver.
        let settled = now.saturating_sub(Duration::from_secs(7_200));
        store.mailboxes.raise_settled(mailbox, settled).await.unwrap();
        self.settled.push(mailbox);
        clock.set(now);
    }

    async fn put_session(&mut self, store: &Store, now: Timestamp, index: usize) {
        let mut session = Verification {
            id: VerificationId(random_bytes()),
            version: 1,
            number: number(),
            sealed_number: some_bytes(56),
            queued: (index.is_multiple_of(2)).then(|| QueuedCode::new(Transport::Voice, now)),
            sent: (!index.is_multiple_of(2)).then(|| SentCode {
                mac: KeyedHash::from_bytes(random_bytes()),
                handed_over_at: now,
                expires_at: now.saturating_add(Duration::from_secs(600)),
                provider: Some(ProviderTag(index as u32)),
            }),
            failed: vec![ProviderTag(u32::MAX)],
            sms_requested: 1,
            voice_requested: 0,
            checks: 2,
            next_sms_at: now,
            next_voice_at: now,
            next_check_at: now,
            verified: false,
            account: None,
            created_at: now,
            expires_at: now.saturating_add(Duration::from_secs(600)),
            taken_until: Timestamp::ZERO,
        };
        assert_eq!(store.verifications.put(&session, None).await.unwrap(), Cas::Applied);
        session.version = 2;
        assert_eq!(store.verifications.put(&session, Some(1)).await.unwrap(), Cas::Applied);
        let expires_at = now.saturating_sub(Duration::from_secs(1));
        let old =
            Verification { id: VerificationId(random_bytes()), version: 1, expires_at, ..session.clone() };
        assert_eq!(store.verifications.put(&old, None).await.unwrap(), Cas::Applied);
        // Over, but the place that opened it must not open another one elsewhere.
        let taken_until = session.expires_at;
        let used = Verification { id: VerificationId(random_bytes()), taken_until, ..old };
        assert_eq!(store.verifications.put(&used, None).await.unwrap(), Cas::Applied);
        self.sessions.extend([session, used]);
        self.expired += 1;
    }
}

async fn put_message(store: &Store, mailbox: MailboxId, message: &StoredMessage) {
    let put = store.mailboxes.put(mailbox, message.clone(), ROOMY).await.unwrap();
    assert!(matches!(put, Put::Stored(_)));
}

fn number() -> NumberMac {
    let mut bytes = [1; NumberMac::LEN];
    bytes[1..].copy_from_slice(&random_bytes::<32>());
    NumberMac::from_bytes(bytes)
}

fn some_bytes(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    rand::rng().fill(bytes.as_mut_slice());
    bytes.into()
}
