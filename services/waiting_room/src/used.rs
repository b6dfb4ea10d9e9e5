//! Which passes have been used: one bit each, because passes are named by numbers that lie close together.
//!
//! For one process. In a fleet the store decides who used a pass first, by its id; this saves it the repetitions.

use spillway_types::Timestamp;
use std::collections::BTreeMap;

use crate::pass::{Pass, PassId};
use crate::ticket::Room;

/// Remembers each used pass until no pass with its id can be good any more ([`Pass::place_shown_until`]).
///
/// 160 bytes or so for 1,024 numbers of which one was used. With 50 admitted a second, one after the other, that is some 20 kB.
#[derive(Debug)]
pub struct Used {
    pages: BTreeMap<(Room, u64), Page>,
    pages_max: usize,
}

/// Why a pass must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UseError {
    #[error("the pass has been used")]
    Again,
    /// Nothing can be remembered, so nothing is let in: it would be let in twice.
    #[error("too many passes have been used lately")]
    Full,
}

#[derive(Debug)]
struct Page {
    bits: [u64; 16],
    until: Timestamp,
}

const PAGE_BITS: u64 = 1_024;

impl Used {
    /// Bounded by the pages of 1,024 numbers that are kept at a time; 100,000 are 16 MB.
    pub fn new(pages_max: usize) -> Self {
        Self { pages: BTreeMap::new(), pages_max }
    }

    /// Uses up a pass that was good at `now`.
    ///
    /// # Errors
    ///
    /// [`UseError`].
    pub fn use_up(&mut self, pass: &Pass, now: Timestamp) -> Result<(), UseError> {
        let PassId { room, seq } = pass.id;
        let key = (room, seq / PAGE_BITS);
        if !self.pages.contains_key(&key) && self.pages.len() >= self.pages_max {
            self.forget(now);
            if self.pages.len() >= self.pages_max {
                return Err(UseError::Full);
            }
        }
        let page = self.pages.entry(key).or_insert(Page { bits: [0; 16], until: Timestamp::ZERO });
        page.until = page.until.max(pass.place_shown_until());
        let (word, bit) = ((seq % PAGE_BITS / 64) as usize, 1 << (seq % 64));
        if page.bits[word] & bit != 0 {
            return Err(UseError::Again);
        }
        page.bits[word] |= bit;
        Ok(())
    }

    /// Whether a pass of this name has been used, as far as is remembered.
    pub fn holds(&self, id: PassId) -> bool {
        let page = self.pages.get(&(id.room, id.seq / PAGE_BITS));
        page.is_some_and(|page| page.bits[(id.seq % PAGE_BITS / 64) as usize] & (1 << (id.seq % 64)) != 0)
    }

    /// Forgets what has lost its meaning. To be called now and then; a full set does it by itself.
    pub fn forget(&mut self, now: Timestamp) {
        self.pages.retain(|_, page| page.until > now);
    }

    /// Pages of 1,024 numbers.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }
}
