//! Connects, and says nothing.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::slow_reader::first;
use super::{About, Cohort};
use crate::stats::{Operation, Outcome};
use crate::workload::World;

pub(super) const ABOUT: About = About {
    name: "connect-and-idle",
    operation: Operation("connect_and_idle_connect"),
    verb: "connect",
    summary: "opens connections, says no more than the HTTP/2 preface, and keeps them",
    does: "Each member holds four connections on which nothing follows the HTTP/2 preface: no call, nobody's name. When the service closes one \
           (after `rpc.handshake_timeout`, 10 s), it opens the next. Done means connected.",
    who: "Slowloris and its children, scanners, health checks that never hang up, and apps that connect \"to be ready\".",
    source: "",
    ceiling: "four connections of a member, 50 new ones a second of the whole cohort",
};

/// New connections, of the whole cohort.
pub(super) const PER_S_MAX: f64 = 50.0;
/// Of one member.
pub(super) const CONNECTIONS: usize = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The client's preface and an empty SETTINGS frame (RFC 9113, section 3.4): all that makes a connection of HTTP/2 one.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Holds the connections, and replaces those that are closed, until the load is over.
pub(super) async fn act(world: &Arc<World>) {
    let Some(authority) = authority(&world.address) else { return };
    let mut held = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (world, authority) = (world.clone(), authority.clone());
        held.spawn(async move {
            let hold = async {
                loop {
                    hold(&world, &authority).await;
                }
            };
            world.unless_closing(hold).await.unwrap_or(())
        });
    }
    while held.join_next().await.is_some() {}
}

/// Until it is closed.
async fn hold(world: &World, authority: &str) {
    world.crowd.turn(Cohort::ConnectAndIdle).await;
    world.crowd.tally(Cohort::ConnectAndIdle).attempt(0);
    let timer = world.stats().start(ABOUT.operation, Instant::now());
    let connected = async {
        let mut stream = TcpStream::connect(authority).await?;
        stream.write_all(PREFACE).await?;
        Ok::<_, std::io::Error>(stream)
    };
    let Ok(Ok(mut stream)) = timeout(CONNECT_TIMEOUT, connected).await else {
        timer.finish(Outcome::Failed("connect"));
        return;
    };
    timer.finish(Outcome::Ok);
    let mut nothing = [0; 1_024];
    // Settings and pings of the server are read and not answered.
    while stream.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
}

/// Host and port of the first address.
pub(super) fn authority(addresses: &str) -> Option<String> {
    let uri: Uri = first(addresses).parse().ok()?;
    let authority = uri.authority()?;
    Some(if uri.port().is_some() { authority.to_string() } else { format!("{authority}:80") })
}
