use spillway_types::{AccountId, DeviceId, MailboxId, Timestamp};

use super::{hash, number, race_of, some_bytes};
use crate::accounts::{Account, Device, NumberClaim, Version};
use crate::{Cas, Store};

pub async fn all(store: &Store, racers: usize) {
    run!(store;
        an_account_comes_back_as_it_was_put,
        a_write_needs_the_stored_version,
        a_moved_account_keeps_its_version,
        a_deleted_account_is_gone,
        a_claim_is_given_up_only_by_its_account,
    );
    run!(store, racers;
        of_racing_writes_one_applies,
        of_racing_claims_all_get_the_same_answer,
    );
}

fn account() -> Account {
    let device = |id: u32| Device {
        id: DeviceId::try_from(id).unwrap(),
        mailbox: MailboxId::random(),
        credential: hash(),
        registration_id: 16_380 + id,
        name: some_bytes(40 * (id as usize - 1)),
        linked_at: Timestamp::from_millis(1_610_722_800_000 + u64::from(id)),
    };
    Account {
        id: AccountId::random(),
        version: Version::FIRST,
        number: number(),
        identity_key: some_bytes(33),
        discoverable: true,
        created_at: Timestamp::from_millis(1_610_722_800_000),
        devices: vec![device(1), device(2), device(127)],
    }
}

async fn put_new(store: &Store) -> Account {
    let account = account();
    assert_eq!(store.accounts.put(&account, None).await.unwrap(), Cas::Applied);
    account
}

async fn an_account_comes_back_as_it_was_put(store: &Store) {
    assert_eq!(store.accounts.get(AccountId::random()).await.unwrap(), None);
    let account = put_new(store).await;
    assert_eq!(store.accounts.get(account.id).await.unwrap(), Some(account));
}

async fn a_write_needs_the_stored_version(store: &Store) {
    let first = put_new(store).await;
    assert_eq!(store.accounts.put(&first, None).await.unwrap(), Cas::Conflict);
    let second = Account { version: first.version.next(), discoverable: false, ..first.clone() };
    assert_eq!(store.accounts.put(&second, Some(first.version)).await.unwrap(), Cas::Applied);
    assert_eq!(store.accounts.put(&second, Some(first.version)).await.unwrap(), Cas::Conflict);
    assert_eq!(store.accounts.get(first.id).await.unwrap(), Some(second.clone()));

    let absent = Account { version: Version(2), ..account() };
    assert_eq!(store.accounts.put(&absent, Some(Version::FIRST)).await.unwrap(), Cas::Conflict);
    assert_eq!(store.accounts.get(absent.id).await.unwrap(), None);
}

async fn a_moved_account_keeps_its_version(store: &Store) {
    let moved = Account { version: Version(7), ..account() };
    assert_eq!(store.accounts.put(&moved, None).await.unwrap(), Cas::Applied);
    assert_eq!(store.accounts.get(moved.id).await.unwrap().as_ref(), Some(&moved));
    let next = Account { version: Version(8), discoverable: false, ..moved.clone() };
    assert_eq!(store.accounts.put(&next, Some(moved.version)).await.unwrap(), Cas::Applied);
    assert_eq!(store.accounts.get(moved.id).await.unwrap(), Some(next));
}

async fn of_racing_writes_one_applies(store: &Store, racers: usize) {
    let first = put_new(store).await;
    let answers = race_of(racers, |number| {
        let accounts = store.accounts.clone();
        let mut next = Account { version: first.version.next(), ..first.clone() };
        next.devices[0].registration_id = u32::try_from(number).unwrap();
        async move { (number, accounts.put(&next, Some(Version::FIRST)).await.unwrap()) }
    })
    .await;
    let applied: Vec<_> = answers.iter().filter(|(_, cas)| *cas == Cas::Applied).collect();
    assert_eq!(applied.len(), 1);
    let stored = store.accounts.get(first.id).await.unwrap().unwrap();
    assert_eq!(stored.devices[0].registration_id as usize, applied[0].0);
}

async fn a_deleted_account_is_gone(store: &Store) {
    let account = put_new(store).await;
    assert_eq!(store.accounts.delete(account.id, Version(7)).await.unwrap(), Cas::Conflict);
    assert_eq!(store.accounts.get(account.id).await.unwrap(), Some(account.clone()));
    assert_eq!(store.accounts.delete(account.id, account.version).await.unwrap(), Cas::Applied);
    assert_eq!(store.accounts.get(account.id).await.unwrap(), None);
    assert_eq!(store.accounts.delete(account.id, account.version).await.unwrap(), Cas::Conflict);
}

async fn of_racing_claims_all_get_the_same_answer(store: &Store, racers: usize) {
    let number = number();
    assert_eq!(store.accounts.claimed(&number).await.unwrap(), None);
    let answers = race_of(racers, |_| {
        let accounts = store.accounts.clone();
        let claim = NumberClaim { number, account: AccountId::random() };
        async move { (claim, accounts.claim(claim).await.unwrap()) }
    })
    .await;
    let standing = store.accounts.claimed(&number).await.unwrap().unwrap();
    assert!(answers.iter().all(|(_, answer)| *answer == standing));
    assert_eq!(answers.iter().filter(|(claim, answer)| claim == answer).count(), 1);
}

async fn a_claim_is_given_up_only_by_its_account(store: &Store) {
    let mine = NumberClaim { number: number(), account: AccountId::random() };
    let other = NumberClaim { account: AccountId::random(), ..mine };
    store.accounts.release(mine).await.unwrap();
    assert_eq!(store.accounts.claim(mine).await.unwrap(), mine);
    assert_eq!(store.accounts.claim(mine).await.unwrap(), mine);
    store.accounts.release(other).await.unwrap();
    assert_eq!(store.accounts.claim(other).await.unwrap(), mine);
    store.accounts.release(mine).await.unwrap();
    assert_eq!(store.accounts.claimed(&mine.number).await.unwrap(), None);
    assert_eq!(store.accounts.claim(other).await.unwrap(), other);
}
