//! Keeps this process from competing with itself for one record.
//!
//! Correctness rests on conditional writes alone. But when hundreds race for one number, each conditional write makes
//! all the others read again; taking turns makes that one attempt each. Between processes there are few to compete.

use std::hash::{BuildHasher, Hash, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Unrelated records share a turn with probability 1/1,024, which costs them one operation's time.
const LANES: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Turns {
    lanes: Box<[Mutex<()>]>,
    hasher: RandomState,
}

impl Turns {
    pub(crate) async fn take(&self, record: impl Hash) -> MutexGuard<'_, ()> {
        let lane = self.hasher.hash_one(record) as usize % self.lanes.len();
        self.lanes[lane].lock().await
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self { lanes: (0..LANES).map(|_| Mutex::new(())).collect(), hasher: RandomState::new() }
    }
}
