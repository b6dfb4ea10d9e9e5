use spillway_types::random_bytes;

use super::race_of;
use crate::leases::{FencingToken, HolderId, Lease};
use crate::{Cas, Store};

pub async fn all(store: &Store, racers: usize) {
    run!(store;
        a_lease_comes_back_as_it_was_put,
        a_write_needs_the_stored_lease,
        leases_do_not_touch_each_other,
    );
    run!(store, racers;
        of_racing_holders_one_gets_it,
        of_racing_takeovers_one_applies,
    );
}

fn name() -> String {
    format!("lease-{}", u64::from_be_bytes(random_bytes()))
}

fn lease(token: u64) -> Lease {
    Lease { holder: HolderId(random_bytes()), token: FencingToken(token), renewal: 0 }
}

async fn put(store: &Store, name: &str, lease: Lease, expected: Option<Lease>) -> Cas {
    store.leases.put(name, lease, expected).await.unwrap()
}

async fn a_lease_comes_back_as_it_was_put(store: &Store) {
    let name = name();
    assert_eq!(store.leases.get(&name).await.unwrap(), None);
    let largest =
        Lease { token: FencingToken(i64::MAX.unsigned_abs()), renewal: i64::MAX.unsigned_abs(), ..lease(1) };
    let mut stored = None;
    for next in [lease(1), lease(2), largest] {
        assert_eq!(put(store, &name, next, stored).await, Cas::Applied);
        stored = Some(next);
        assert_eq!(store.leases.get(&name).await.unwrap(), stored);
    }
}

async fn a_write_needs_the_stored_lease(store: &Store) {
    let name = name();
    let first = lease(1);
    let renewed = Lease { renewal: 1, ..first };
    // Expecting a lease where there is none, and none where there is one.
    assert_eq!(put(store, &name, renewed, Some(first)).await, Cas::Conflict);
    assert_eq!(store.leases.get(&name).await.unwrap(), None);
    assert_eq!(put(store, &name, first, None).await, Cas::Applied);
    assert_eq!(put(store, &name, lease(1), None).await, Cas::Conflict);
    assert_eq!(put(store, &name, renewed, Some(first)).await, Cas::Applied);

    // Each field counts.
    let others = [
        first,
        Lease { holder: lease(1).holder, ..renewed },
        Lease { token: FencingToken(2), ..renewed },
        Lease { renewal: 2, ..renewed },
    ];
    for other in others {
        assert_eq!(put(store, &name, lease(3), Some(other)).await, Cas::Conflict);
    }
    assert_eq!(store.leases.get(&name).await.unwrap(), Some(renewed));
}

async fn leases_do_not_touch_each_other(store: &Store) {
    let (one, other) = (name(), name());
    let (first, second) = (lease(1), lease(1));
    assert_eq!(put(store, &one, first, None).await, Cas::Applied);
    assert_eq!(put(store, &other, second, None).await, Cas::Applied);
    assert_eq!(store.leases.get(&one).await.unwrap(), Some(first));
    assert_eq!(store.leases.get(&other).await.unwrap(), Some(second));
}

async fn of_racing_holders_one_gets_it(store: &Store, racers: usize) {
    one_applies(store, racers, &name(), None).await;
}

async fn of_racing_takeovers_one_applies(store: &Store, racers: usize) {
    let (name, old) = (name(), lease(41));
    assert_eq!(put(store, &name, old, None).await, Cas::Applied);
    one_applies(store, racers, &name, Some(old)).await;
}

/// Lets many put a lease of their own where they all saw `expected`.
async fn one_applies(store: &Store, racers: usize, name: &str, expected: Option<Lease>) {
    let token = expected.map_or(1, |old| old.token.0 + 1);
    let answers = race_of(racers, |_| {
        let (leases, name, mine) = (store.leases.clone(), name.to_owned(), lease(token));
        async move { (mine, leases.put(&name, mine, expected).await.unwrap()) }
    })
    .await;
    let applied: Vec<_> = answers.iter().filter(|(_, cas)| *cas == Cas::Applied).collect();
    assert_eq!(applied.len(), 1);
    assert_eq!(store.leases.get(name).await.unwrap(), Some(applied[0].0));
}
