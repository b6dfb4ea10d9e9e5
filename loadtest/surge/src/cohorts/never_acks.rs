//! Takes its mail and never says so.

use std::sync::Arc;

use super::About;
use crate::stats::Operation;
use crate::workload::{Life, World};

pub(super) const ABOUT: About = About {
    name: "never-acks",
    operation: Operation("never_acks_send"),
    verb: "send",
    summary: "reads its mail and never acks it",
    does: "Holds a session and reads it, and acks nothing. The service delivers up to 256 messages ahead and keeps the rest; when the session \
           is opened again, they come again. It writes as polite people do. What is acknowledged for it and not handed over is withheld, and \
           not lost.",
    who: "Clients that ack when a message is shown and are never looked at, bots that only write, and a bug that eats acks. Signal's server \
          keeps at most 256 unacknowledged messages in flight for the same reason.",
    source: "Signal-Server's WebSocket connection (256 in flight)",
    ceiling: "what the load plans",
};

/// Reads on, and acks nothing any more.
pub(super) async fn live(mut life: Life, world: &Arc<World>) {
    life.inbox.reading.acks = false;
    life.serve(world).await;
}
