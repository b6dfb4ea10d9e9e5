//! An embedded store that is moved into the cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use spillway_store::accounts::{Account, Device, NumberClaim, Version};
use spillway_store::keys::{KeyUpload, OneTimePreKey, SignedPreKey};
use spillway_store::mailboxes::{Capacity, Put, StoredMessage};
use spillway_store::transfer::{self, ExportOptions, ImportOptions, Monitor};
use spillway_store::verifications::{QueuedCode, Transport, Verification, VerificationId};
use spillway_store::{Cas, Store, embedded};
use spillway_types::{
    AccountId, Clock, DeviceId, Guid, KeyedHash, MailboxId, MessageIdGenerator, NumberMac, SystemClock,
    Timestamp, random_bytes,
};

const ACCOUNTS: usize = 12;
const MESSAGES: usize = 20;
const ONE_TIME_KEYS: u32 = 60;

pub(crate) async fn all(store: &Store) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moved");
    let accounts = fill(&folder.path().join("source")).await;
    let options = ExportOptions {
        store: config(&folder.path().join("source")),
        file: file.clone(),
        fingerprint: [0; 32],
    };
    transfer::export(&options, &SystemClock, &Monitor::default()).unwrap();

    let options = ImportOptions::new(&file, "a cluster");
    let imported = transfer::import(&options, store, &SystemClock, &Monitor::default()).await.unwrap();
    assert!(imported.is_equal(), "{imported:?}");
    for account in &accounts {
        assert_eq!(store.accounts.get(account.id).await.unwrap().as_ref(), Some(account));
    }

    // From the beginning, as if nobody knew of the first time.
    std::fs::remove_file(folder.path().join("moved.progress")).unwrap();
    let again = transfer::import(&options, store, &SystemClock, &Monitor::default()).await.unwrap();
    assert!(again.is_equal(), "{again:?}");
    assert_eq!(again.conflicts.count(), 0, "{again:?}");
}

fn config(path: &Path) -> embedded::Config {
    embedded::Config { path: path.to_owned(), reserve_bytes: 0, ..embedded::Config::default() }
}

async fn fill(path: &Path) -> Vec<Account> {
    let (store, handle) = embedded::open(&config(path), &Registry::new(), Arc::new(SystemClock)).unwrap();
    let ids = MessageIdGenerator::new(Arc::new(SystemClock));
    let mut accounts = Vec::new();
    for _ in 0..ACCOUNTS {
        accounts.push(fill_account(&store, &ids).await);
    }
    handle.close().await;
    accounts
}

async fn fill_account(store: &Store, ids: &MessageIdGenerator) -> Account {
    let (now, mailbox) = (SystemClock.now(), MailboxId::random());
    let mut number = [1; NumberMac::LEN];
    number[1..].copy_from_slice(&random_bytes::<32>());
    let number = NumberMac::from_bytes(number);
    let device = Device {
        id: DeviceId::PRIMARY,
        mailbox,
        credential: KeyedHash::from_bytes(random_bytes()),
        registration_id: 7,
        name: Bytes::from_static(b"a sealed name"),
        linked_at: now,
    };
    let mut account = Account {
        id: AccountId::random(),
        version: Version::FIRST,
        number,
        identity_key: Bytes::from_static(&[5; 33]),
        discoverable: true,
        created_at: now,
        devices: vec![device],
    };
    assert_eq!(store.accounts.put(&account, None).await.unwrap(), Cas::Applied);
    account.version = Version::FIRST.next();
    assert_eq!(store.accounts.put(&account, Some(Version::FIRST)).await.unwrap(), Cas::Applied);
    store.accounts.claim(NumberClaim { number, account: account.id }).await.unwrap();
    store.directory.put(number, account.id).await.unwrap();

    let signed = |key_id| SignedPreKey {
        key_id,
        public_key: Bytes::from_static(&[1; 33]),
        signature: Bytes::from_static(&[2; 64]),
    };
    let one_time = |key_id| OneTimePreKey { key_id, public_key: Bytes::from_static(&[3; 33]) };
    let one_time = (0..ONE_TIME_KEYS).map(|key| one_time(key * 7)).collect();
    let keys = KeyUpload { signed: Some(signed(1)), last_resort: Some(signed(2)), one_time };
    store.keys.upload(mailbox, &keys, 200).await.unwrap();

    let settled = now.saturating_sub(Duration::from_secs(60));
    store.mailboxes.raise_settled(mailbox, settled).await.unwrap();
    for length in 0..MESSAGES {
        let envelope = Bytes::from(vec![9; length * 31]);
        let message = StoredMessage { id: ids.mint(), guid: Guid::random(), envelope };
        let roomy = Capacity { messages: 1_000, bytes: 1 << 20 };
        assert!(matches!(store.mailboxes.put(mailbox, message, roomy).await.unwrap(), Put::Stored(_)));
    }
    fill_session(store, number).await;
    account
}

async fn fill_session(store: &Store, number: NumberMac) {
    let now = SystemClock.now();
    let mut session = Verification {
        id: VerificationId(random_bytes()),
        version: 1,
        number,
        sealed_number: Bytes::from_static(&[4; 56]),
        queued: None,
        sent: None,
        failed: Vec::new(),
        sms_requested: 1,
        voice_requested: 0,
        checks: 0,
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
    session.queued = Some(QueuedCode::new(Transport::Sms, now));
    assert_eq!(store.verifications.put(&session, Some(1)).await.unwrap(), Cas::Applied);
}
