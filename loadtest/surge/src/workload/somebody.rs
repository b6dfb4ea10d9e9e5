//! What a load has people do, whichever service they are with.

use std::fmt::Debug;

use spillway_types::AccountId;
use tokio::time::Instant;

use super::{Order, World};

/// Somebody who can be written to, wherever they live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact<A = AccountId> {
    pub index: u32,
    pub account: A,
}

/// Somebody who is there before the surge. Cheap to clone.
pub trait Somebody: Clone + Debug + Send + Sync + 'static {
    /// What mail is addressed with, beside the number.
    type Account: Debug + Send + Sync + 'static;

    fn index(&self) -> u32;

    fn contact(&self) -> Contact<Self::Account>;

    fn is_online(&self) -> bool;

    /// Sends one planned message to `other`, with so many bytes of content when that is not as usual.
    fn send_to(
        &self,
        world: &World,
        other: &Contact<Self::Account>,
        planned: Instant,
        bytes: Option<u32>,
    ) -> impl Future<Output = ()> + Send;

    /// Looks up an address book.
    fn discover(&self, world: &World, planned: Instant) -> impl Future<Output = ()> + Send;

    /// Has something happen. Somebody who has that much before him is not reached any more.
    fn order(&self, order: Order);
}
