//! One arrival.

use super::Op;

/// What is to be done, and by whom where that was recorded; what was not is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub op: Op,
    pub user: Option<u64>,
    pub peer: Option<u64>,
    /// Of the content of a message.
    pub bytes: Option<u32>,
}

impl Work {
    pub const fn of(op: Op) -> Self {
        Self { op, user: None, peer: None, bytes: None }
    }
}
