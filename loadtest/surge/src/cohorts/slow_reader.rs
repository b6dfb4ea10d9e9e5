//! Reads one message a second.

use std::sync::Arc;
use std::time::Duration;

use spillway_client::Client;
use tonic::transport::Endpoint;

use super::About;
use crate::stats::Operation;
use crate::workload::{Life, World};

pub(super) const ABOUT: About = About {
    name: "slow-reader",
    operation: Operation("slow_reader_send"),
    verb: "send",
    summary: "reads one message a second, through a narrow window",
    does: "Holds a session on a connection of its own with HTTP/2 windows of 16 KiB (a good client grants megabytes), takes one message a \
           second out of it, and acks it. What does not fit stays with the service. It writes as polite people do. What did not arrive by \
           the end of the run is withheld, and not lost.",
    who: "Phones on bad networks, and clients that do their work in the loop that reads.",
    source: "the rules of Signal (256 unacked), Tinode (128), Centrifugo (1 MiB) and NATS (64 MiB) for slow readers",
    ceiling: "one connection for each member",
};

/// From one message to the next.
const PAUSE: Duration = Duration::from_secs(1);
/// Of the stream and the connection: a few messages.
const WINDOW_BYTES: u32 = 16 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Moves to the narrow connection, and reads slowly from it.
pub(super) async fn live(mut life: Life, world: &Arc<World>) {
    // Without it the pause alone has to do.
    if let Some(client) = connect(world).await {
        life.inbox.lose(client);
    }
    life.inbox.reading.pause = PAUSE;
    life.serve(world).await;
}

/// A connection with narrow windows, to the first of the addresses. `None` when it cannot be had now.
async fn connect(world: &World) -> Option<Client> {
    let endpoint = Endpoint::from_shared(first(&world.address).to_owned()).ok()?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let channel = endpoint.connect().await.ok()?;
    Some(Client::with_channel(channel, world.client.clone()))
}

/// Of addresses with commas between them.
pub(super) fn first(addresses: &str) -> &str {
    addresses.split(',').next().unwrap_or_default().trim()
}
