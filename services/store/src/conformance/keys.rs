use std::collections::HashSet;

use spillway_types::MailboxId;

use super::{race_of, some_bytes};
use crate::Store;
use crate::keys::{KeyUpload, OneTimePreKey, SignedPreKey};

pub async fn all(store: &Store, racers: usize) {
    run!(store;
        a_device_without_a_signed_key_gives_nothing,
        an_upload_leaves_what_it_does_not_name,
        each_one_time_key_is_taken_once,
        one_time_keys_beyond_the_limit_are_dropped,
        a_one_time_key_with_a_stored_id_replaces_it,
        a_look_takes_nothing,
        the_signed_keys_alone_cost_no_one_time_key,
        cleared_keys_are_gone,
    );
    run!(store, racers;
        racing_callers_never_share_a_one_time_key,
    );
}

const ONE_TIME_MAX: usize = 1_000;

fn signed(key_id: u32) -> SignedPreKey {
    SignedPreKey { key_id, public_key: some_bytes(33), signature: some_bytes(64) }
}

fn one_time(ids: std::ops::Range<u32>) -> Vec<OneTimePreKey> {
    ids.map(|key_id| OneTimePreKey { key_id, public_key: some_bytes(33) }).collect()
}

async fn upload(store: &Store, device: MailboxId, keys: &KeyUpload) -> usize {
    store.keys.upload(device, keys, ONE_TIME_MAX).await.unwrap()
}

async fn a_device_without_a_signed_key_gives_nothing(store: &Store) {
    let device = MailboxId::random();
    assert_eq!(store.keys.take(device).await.unwrap(), None);
    let keys = KeyUpload { one_time: one_time(0..1), ..KeyUpload::default() };
    assert_eq!(upload(store, device, &keys).await, 1);
    assert_eq!(store.keys.take(device).await.unwrap(), None);
    // The one-time key was not wasted on that.
    let keys = KeyUpload { signed: Some(signed(1)), ..KeyUpload::default() };
    assert_eq!(upload(store, device, &keys).await, 1);
}

async fn the_signed_keys_alone_cost_no_one_time_key(store: &Store) {
    let device = MailboxId::random();
    assert_eq!(store.keys.signed(device).await.unwrap(), None);
    let mut keys = KeyUpload { one_time: one_time(0..1), ..KeyUpload::default() };
    upload(store, device, &keys).await;
    assert_eq!(store.keys.signed(device).await.unwrap(), None, "without a signed key there is no bundle");
    keys.signed = Some(signed(1));
    upload(store, device, &keys).await;
    let bundle = store.keys.signed(device).await.unwrap().unwrap();
    assert_eq!((Some(bundle.signed), bundle.one_time, bundle.last_resort), (keys.signed.clone(), None, None));
    keys.last_resort = Some(signed(9));
    upload(store, device, &keys).await;
    for _ in 0..3 {
        let bundle = store.keys.signed(device).await.unwrap().unwrap();
        assert_eq!((bundle.one_time, bundle.last_resort), (None, keys.last_resort.clone()));
    }
    let taken = store.keys.take(device).await.unwrap().unwrap();
    assert_eq!(taken.one_time.as_ref(), keys.one_time.first(), "it is still there");
}

async fn an_upload_leaves_what_it_does_not_name(store: &Store) {
    let device = MailboxId::random();
    let (first, second, last_resort) = (signed(1), signed(2), signed(9));
    let keys = KeyUpload {
        signed: Some(first.clone()),
        last_resort: Some(last_resort.clone()),
        ..KeyUpload::default()
    };
    upload(store, device, &keys).await;
    let bundle = store.keys.take(device).await.unwrap().unwrap();
    assert_eq!((bundle.signed, bundle.one_time), (first, None));
    assert_eq!(bundle.last_resort.as_ref(), Some(&last_resort));

    upload(store, device, &KeyUpload { signed: Some(second.clone()), ..KeyUpload::default() }).await;
    upload(store, device, &KeyUpload::default()).await;
    let bundle = store.keys.take(device).await.unwrap().unwrap();
    assert_eq!((bundle.signed, bundle.last_resort), (second, Some(last_resort)));
}

async fn each_one_time_key_is_taken_once(store: &Store) {
    let device = MailboxId::random();
    let one_time = one_time(40..50);
    let keys = KeyUpload { signed: Some(signed(1)), one_time: one_time.clone(), ..KeyUpload::default() };
    assert_eq!(upload(store, device, &keys).await, 10);
    let mut taken = Vec::new();
    for _ in 0..10 {
        taken.push(store.keys.take(device).await.unwrap().unwrap().one_time.unwrap());
    }
    taken.sort_by_key(|key| key.key_id);
    assert_eq!(taken, one_time);
    assert_eq!(store.keys.take(device).await.unwrap().unwrap().one_time, None);
    assert_eq!(upload(store, device, &KeyUpload::default()).await, 0);
}

async fn racing_callers_never_share_a_one_time_key(store: &Store, racers: usize) {
    let device = MailboxId::random();
    let fewer = racers * 3 / 4;
    let one_time = one_time(0..u32::try_from(fewer).unwrap());
    upload(store, device, &KeyUpload { signed: Some(signed(1)), one_time, ..KeyUpload::default() }).await;
    let bundles = race_of(racers, |_| {
        let keys = store.keys.clone();
        async move { keys.take(device).await.unwrap().unwrap() }
    })
    .await;
    let taken: Vec<_> = bundles.iter().filter_map(|bundle| bundle.one_time.as_ref()).collect();
    let distinct: HashSet<_> = taken.iter().map(|key| key.key_id).collect();
    assert_eq!((taken.len(), distinct.len()), (fewer, fewer));
}

async fn one_time_keys_beyond_the_limit_are_dropped(store: &Store) {
    let device = MailboxId::random();
    let put = |ids| KeyUpload { signed: Some(signed(1)), one_time: one_time(ids), ..KeyUpload::default() };
    assert_eq!(store.keys.upload(device, &put(0..8), 10).await.unwrap(), 8);
    assert_eq!(store.keys.upload(device, &put(8..20), 10).await.unwrap(), 10);
    assert_eq!(store.keys.upload(device, &put(20..21), 10).await.unwrap(), 10);
    // A limit that was lowered takes nothing away.
    assert_eq!(store.keys.upload(device, &put(21..22), 5).await.unwrap(), 10);
    let mut ids = HashSet::new();
    for _ in 0..10 {
        ids.insert(store.keys.take(device).await.unwrap().unwrap().one_time.unwrap().key_id);
    }
    assert_eq!(ids, (0..10).collect());
    assert_eq!(store.keys.upload(device, &put(30..31), 10).await.unwrap(), 1);
}

async fn a_one_time_key_with_a_stored_id_replaces_it(store: &Store) {
    let device = MailboxId::random();
    let keys = KeyUpload { signed: Some(signed(1)), one_time: one_time(5..6), ..KeyUpload::default() };
    upload(store, device, &keys).await;
    let mut again = one_time(5..6);
    again.extend(one_time(5..6));
    let keys = KeyUpload { one_time: again.clone(), ..KeyUpload::default() };
    assert_eq!(store.keys.upload(device, &keys, 1).await.unwrap(), 1);
    let taken = store.keys.take(device).await.unwrap().unwrap().one_time.unwrap();
    assert!(again.contains(&taken));
    assert_eq!(store.keys.take(device).await.unwrap().unwrap().one_time, None);
}

async fn a_look_takes_nothing(store: &Store) {
    let device = MailboxId::random();
    assert_eq!(store.keys.stored(device).await.unwrap(), KeyUpload::default());
    let mut keys =
        KeyUpload { signed: Some(signed(1)), last_resort: Some(signed(2)), one_time: one_time(250..260) };
    upload(store, device, &keys).await;
    for _ in 0..2 {
        assert_eq!(store.keys.stored(device).await.unwrap(), keys);
    }
    let taken = store.keys.take(device).await.unwrap().unwrap().one_time.unwrap();
    keys.one_time.retain(|key| *key != taken);
    assert_eq!(keys.one_time.len(), 9);
    assert_eq!(store.keys.stored(device).await.unwrap(), keys);
    store.keys.clear(device).await.unwrap();
    assert_eq!(store.keys.stored(device).await.unwrap(), KeyUpload::default());
}

async fn cleared_keys_are_gone(store: &Store) {
    let (device, other) = (MailboxId::random(), MailboxId::random());
    for device in [device, other] {
        let keys =
            KeyUpload { signed: Some(signed(1)), last_resort: Some(signed(2)), one_time: one_time(0..3) };
        upload(store, device, &keys).await;
    }
    for _ in 0..2 {
        store.keys.clear(device).await.unwrap();
        assert_eq!(store.keys.take(device).await.unwrap(), None);
    }
    assert!(store.keys.take(other).await.unwrap().unwrap().one_time.is_some());
    // A device set up anew counts from zero.
    let keys = KeyUpload { signed: Some(signed(1)), one_time: one_time(0..1), ..KeyUpload::default() };
    assert_eq!(upload(store, device, &keys).await, 1);
}
