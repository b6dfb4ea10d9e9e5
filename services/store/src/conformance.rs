//! What every implementation of the traits must do: a case for each promise in their docs.
//!
//! Cases make ids of their own and do not assume that the store is empty, so that they can share a database. A failed
//! case panics; its name was printed before.

#![allow(clippy::unwrap_used, reason = "a case that fails panics, as a test does")]

/// Runs cases one after the other and prints their names.
macro_rules! run {
    ($store:expr; $($case:ident),+ $(,)?) => {
        $(
            println!("{}::{}", module_path!(), stringify!($case));
            $case($store).await;
        )+
    };
    ($store:expr, $racers:expr; $($case:ident),+ $(,)?) => {
        $(
            println!("{}::{}", module_path!(), stringify!($case));
            $case($store, $racers).await;
        )+
    };
}

pub mod accounts;
pub mod directory;
pub mod keys;
pub mod leases;
pub mod mailbox_model;
pub mod mailboxes;
pub mod verifications;
pub mod writes;

use std::ops::Deref;

use bytes::Bytes;
use rand::Rng;
use spillway_types::{KeyedHash, NumberMac, random_bytes};
use tokio::task::JoinSet;

use crate::Store;
use crate::mailboxes::Usage;

/// How a store knows what a mailbox holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// What `put` answers is right, whoever else writes, and no mailbox ever exceeds its capacity.
    Exact,
    /// For one process it is as above, except that the answer may be too high: after a repetition or a deletion, and
    /// until the store counts again. "Full" is never a mistake. A purged mailbox is not used again.
    Estimated,
}

/// The store with what it promises.
#[derive(Clone, Debug)]
struct Subject {
    store: Store,
    counting: Counting,
}

impl Deref for Subject {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Subject {
    #[track_caller]
    fn expect_usage(&self, answered: Usage, expected: Usage) {
        match self.counting {
            Counting::Exact => assert_eq!(answered, expected),
            Counting::Estimated => assert!(
                answered.messages >= expected.messages && answered.bytes >= expected.bytes,
                "{answered:?} is below {expected:?}"
            ),
        }
    }
}

/// Callers of a race for a plain write.
const RACERS: usize = 200;

/// Runs all cases. `make` gives the store for the cases of one owner; it may give the same each time.
/// `racers` is how many race for a conditional write: for a small cluster of databases, 200 would be a test of its speed.
pub async fn run_all(make: impl AsyncFn() -> Store, counting: Counting, racers: usize) {
    accounts::all(&make().await, racers).await;
    directory::all(&make().await).await;
    keys::all(&make().await, racers).await;
    leases::all(&make().await, racers).await;
    verifications::all(&make().await, racers).await;
    writes::all(&make().await).await;
    mailboxes::all(make().await, counting).await;
    mailbox_model::all(make().await, counting).await;
}

/// Runs `racer` many times at once and collects the answers.
async fn race<T, F>(racer: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    race_of(RACERS, racer).await
}

/// Runs `racer` as many times at once as there are `racers`.
async fn race_of<T, F>(racers: usize, racer: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut running = JoinSet::new();
    for number in 0..racers {
        running.spawn(racer(number));
    }
    running.join_all().await
}

fn number() -> NumberMac {
    let mut bytes = [1; NumberMac::LEN];
    bytes[1..].copy_from_slice(&random_bytes::<32>());
    NumberMac::from_bytes(bytes)
}

fn hash() -> KeyedHash {
    KeyedHash::from_bytes(random_bytes())
}

fn some_bytes(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    rand::rng().fill(bytes.as_mut_slice());
    bytes.into()
}
