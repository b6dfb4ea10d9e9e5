//! What a load has people do, whichever service they are with.

use tokio::time::Instant;

use super::{Order, World};

/// Somebody who is there before the surge. Cheap to clone.
pub trait Somebody: Clone + Send + Sync + 'static {
    fn index(&self) -> u32;

    fn is_online(&self) -> bool;

    /// Sends one planned message to `other`, with so many bytes of content when that is not as usual.
    fn send_to(
        &self,
        world: &World,
        other: &Self,
        planned: Instant,
        bytes: Option<u32>,
    ) -> impl Future<Output = ()> + Send;

    /// Looks up an address book.
    fn discover(&self, world: &World, planned: Instant) -> impl Future<Output = ()> + Send;

    /// Has something happen. Somebody who has that much before him is not reached any more.
    fn order(&self, order: Order);
}
