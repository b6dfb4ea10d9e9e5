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
}

pub mod accounts;
pub mod directory;
pub mod keys;
pub mod mailbox_model;
pub mod mailboxes;
pub mod verifications;

use bytes::Bytes;
use rand::Rng;
use spillway_types::{KeyedHash, NumberMac, random_bytes};
use tokio::task::JoinSet;

use crate::Store;

/// Callers of a race.
const RACERS: usize = 200;

/// Runs all cases. `make` gives the store for the cases of one owner; it may give the same each time.
pub async fn run_all(make: impl AsyncFn() -> Store) {
    accounts::all(&make().await).await;
    directory::all(&make().await).await;
    keys::all(&make().await).await;
    verifications::all(&make().await).await;
    mailboxes::all(&make().await).await;
    mailbox_model::all(&make().await).await;
}

/// Runs `racer` many times at once and collects the answers.
async fn race<T, F>(racer: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut racers = JoinSet::new();
    for number in 0..RACERS {
        racers.spawn(racer(number));
    }
    racers.join_all().await
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
