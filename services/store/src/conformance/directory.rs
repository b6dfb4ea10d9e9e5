use spillway_types::{AccountId, NumberMac};

use super::number;
use crate::Store;

pub async fn all(store: &Store) {
    run!(store;
        answers_come_in_the_order_of_the_questions,
        the_last_entry_of_a_number_wins,
        an_entry_is_removed_only_by_its_account,
    );
}

async fn lookup(store: &Store, number: NumberMac) -> Option<AccountId> {
    store.directory.lookup(&[number]).await.unwrap()[0]
}

async fn answers_come_in_the_order_of_the_questions(store: &Store) {
    assert_eq!(store.directory.lookup(&[]).await.unwrap(), []);
    let entries: Vec<_> = (0..150).map(|_| (number(), AccountId::random())).collect();
    for (number, account) in entries.iter().step_by(2) {
        store.directory.put(*number, *account).await.unwrap();
    }
    for length in [1, 7, 150] {
        let asked: Vec<_> = entries[..length].iter().rev().map(|(number, _)| *number).collect();
        let known = |(index, (_, account)): (usize, &(_, AccountId))| (index % 2 == 0).then_some(*account);
        let expected: Vec<_> = entries[..length].iter().enumerate().rev().map(known).collect();
        assert_eq!(store.directory.lookup(&asked).await.unwrap(), expected);
    }
    // The same number twice is answered twice.
    let twice = [entries[0].0, entries[0].0];
    assert_eq!(store.directory.lookup(&twice).await.unwrap(), [Some(entries[0].1); 2]);
}

async fn the_last_entry_of_a_number_wins(store: &Store) {
    let number = number();
    let (first, second) = (AccountId::random(), AccountId::random());
    for account in [first, first, second] {
        store.directory.put(number, account).await.unwrap();
        assert_eq!(lookup(store, number).await, Some(account));
    }
}

async fn an_entry_is_removed_only_by_its_account(store: &Store) {
    let (number, account) = (number(), AccountId::random());
    store.directory.put(number, account).await.unwrap();
    store.directory.remove(number, AccountId::random()).await.unwrap();
    assert_eq!(lookup(store, number).await, Some(account));
    for _ in 0..2 {
        store.directory.remove(number, account).await.unwrap();
        assert_eq!(lookup(store, number).await, None);
    }
}
