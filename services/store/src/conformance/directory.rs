use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use spillway_types::{AccountId, Clock, NumberMac, SystemClock, Timestamp};

use super::number;
use crate::Store;
use crate::directory::{PUT_LOGGED_WITHIN, PutLog, WalkPage, WalkPosition};

pub async fn all(store: &Store) {
    run!(store;
        answers_come_in_the_order_of_the_questions,
        the_last_entry_of_a_number_wins,
        an_entry_is_removed_only_by_its_account,
        a_walk_meets_every_entry_once,
        a_part_of_a_walk_may_be_asked_for_again,
        what_was_put_is_in_the_log_of_its_time,
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

const PART: NonZeroUsize = NonZeroUsize::new(40).expect("it is not zero");

async fn part(store: &Store, from: &WalkPosition) -> WalkPage {
    store.directory.walk(from, PART).await.unwrap()
}

async fn walk(store: &Store) -> Vec<NumberMac> {
    let (mut numbers, mut from) = (Vec::new(), WalkPosition::START);
    loop {
        let page = part(store, &from).await;
        assert!(page.numbers.len() <= PART.get(), "a part of {}", page.numbers.len());
        numbers.extend(page.numbers);
        match page.next {
            Some(next) => {
                assert_ne!(next, from, "a walk goes on");
                from = next;
            }
            None => return numbers,
        }
    }
}

async fn a_walk_meets_every_entry_once(store: &Store) {
    let entries: Vec<_> = (0..150).map(|_| (number(), AccountId::random())).collect();
    let (gone, kept) = entries.split_at(30);
    for (number, account) in &entries {
        store.directory.put(*number, *account).await.unwrap();
    }
    // Overwriting is not a second entry.
    store.directory.put(kept[0].0, AccountId::random()).await.unwrap();
    for (number, account) in gone {
        store.directory.remove(*number, *account).await.unwrap();
    }
    let walked = walk(store).await;
    let met: BTreeSet<_> = walked.iter().copied().collect();
    assert_eq!(met.len(), walked.len(), "no number twice");
    assert!(kept.iter().all(|(number, _)| met.contains(number)));
    assert!(!gone.iter().any(|(number, _)| met.contains(number)));
}

async fn a_part_of_a_walk_may_be_asked_for_again(store: &Store) {
    for _ in 0..2 * PART.get() {
        store.directory.put(number(), AccountId::random()).await.unwrap();
    }
    let mut from = WalkPosition::START;
    for _ in 0..3 {
        let page = part(store, &from).await;
        assert_eq!(part(store, &from).await, page);
        let Some(next) = page.next else { break };
        from = next;
    }
}

async fn what_was_put_is_in_the_log_of_its_time(store: &Store) {
    const MINUTE: Duration = Duration::from_secs(60);
    let (account, number) = (AccountId::random(), number());
    let logged = async |from: Timestamp, until: Timestamp| match store
        .directory
        .put_between(from, until)
        .await
        .unwrap()
    {
        PutLog::Numbers(numbers) => numbers.contains(&number),
        PutLog::Forgotten => panic!("that was just now"),
    };
    let mut earliest = Timestamp::ZERO;
    // Also when the entry is there already: whoever repeats a call may do so because the first was not logged.
    for _ in 0..2 {
        let before = SystemClock.now();
        store.directory.put(number, account).await.unwrap();
        let after = SystemClock.now();
        let from = before.max(after.saturating_sub(PUT_LOGGED_WITHIN));
        assert!(logged(from, after.saturating_add(Duration::from_micros(1))).await);
        assert!(
            logged(before.saturating_sub(MINUTE), after.saturating_add(MINUTE)).await,
            "over several minutes"
        );
        assert!(!logged(after.saturating_add(MINUTE), after.saturating_add(2 * MINUTE)).await);
        assert!(!logged(after, after).await, "an empty span");
        if earliest == Timestamp::ZERO {
            earliest = before;
        }
    }
    assert!(!logged(earliest.saturating_sub(MINUTE), earliest).await, "before it was put");
    // Removing is not putting, and takes nothing out of the log.
    store.directory.remove(number, account).await.unwrap();
    assert!(logged(earliest, SystemClock.now().saturating_add(MINUTE)).await);
}
