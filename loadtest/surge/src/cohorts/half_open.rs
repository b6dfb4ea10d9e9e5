//! Goes away without a word.

use std::io;
use std::net::{TcpStream as Socket, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use spillway_client::Client;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tonic::transport::Endpoint;
use tower::service_fn;

use super::connect_and_idle::authority;
use super::slow_reader::first;
use super::{About, Cohort};
use crate::stats::Operation;
use crate::workload::{Life, Stage, World};

pub(super) const ABOUT: About = About {
    name: "half-open",
    operation: Operation("half_open_open"),
    verb: "open",
    summary: "vanishes without closing its connection, and comes back on another",
    does: "Opens its session, and after 5 s is gone: its socket stays open, nothing is read or written any more, and no FIN is sent; pings are \
           not answered. 15 s later it opens its session on another connection, while the old one stays as it is. The service must notice by \
           itself (`rpc.keepalive_interval` and `keepalive_timeout`: 140 s at most), and all mail must arrive: with the end of the load it \
           comes back for good.",
    who: "Every phone in a tunnel, behind a carrier's address translation that forgot it, or without battery.",
    source: "emqtt-bench #39, #75, #192 and #264 ask for it",
    ceiling: "16 dead connections of a member; then it stays",
};

const ALIVE: Duration = Duration::from_secs(5);
const GONE: Duration = Duration::from_secs(15);
/// From one connection to the next.
pub(super) const EVERY: Duration = Duration::from_secs(ALIVE.as_secs() + GONE.as_secs());
pub(super) const DEAD_MAX: usize = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn live(mut life: Life, world: &Arc<World>) {
    life.inbox.reading.opens_as(Cohort::HalfOpen, Duration::from_secs(1));
    // They stay open as long as these do.
    let mut dead = Vec::new();
    while dead.len() < DEAD_MAX && *world.stage.borrow() < Stage::Closing {
        let Some((client, wire)) = connect(&world.address).await else {
            tokio::select! {
                () = world.reached(Stage::Closing) => break,
                () = sleep(GONE) => continue,
            }
        };
        life.inbox.lose(client);
        tokio::select! {
            () = life.serve(world) => return,
            () = world.reached(Stage::Closing) => break,
            () = sleep(ALIVE) => {}
        }
        wire.cut.store(true, Relaxed);
        let Ok(next) = world.connect_lazily() else { break };
        life.inbox.lose(next);
        dead.push(wire);
        tokio::select! {
            () = world.reached(Stage::Closing) => break,
            () = sleep(GONE) => {}
        }
    }
    life.serve(world).await;
}

/// The end of a connection that can be cut.
struct Wire {
    cut: Arc<AtomicBool>,
    /// Keeps the socket open when the client has forgotten it: the last one who closes it would send a FIN.
    _socket: Socket,
}

async fn connect(addresses: &str) -> Option<(Client, Wire)> {
    let authority = authority(addresses)?;
    let socket = tokio::task::spawn_blocking(move || dial(&authority)).await.ok()?.ok()?;
    let kept = socket.try_clone().ok()?;
    let cut = Arc::new(AtomicBool::new(false));
    let wired = Wired { stream: TcpStream::from_std(socket).ok()?, cut: cut.clone() };
    let once = Mutex::new(Some(wired));
    let connector = service_fn(move |_| {
        let wired = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        // There is no second connection: who is gone is gone.
        std::future::ready(
            wired.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)),
        )
    });
    let endpoint = Endpoint::from_shared(first(addresses).to_owned()).ok()?;
    let channel = endpoint.connect_with_connector(connector).await.ok()?;
    Some((
        Client::with_channel(channel, spillway_client::ClientConfig::default()),
        Wire { cut, _socket: kept },
    ))
}

fn dial(authority: &str) -> io::Result<Socket> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in authority.to_socket_addrs()? {
        match Socket::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A stream on which, once it is cut, nothing happens any more: neither an error nor an end.
#[derive(Debug)]
struct Wired {
    stream: TcpStream,
    cut: Arc<AtomicBool>,
}

impl Wired {
    fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }
}

impl AsyncRead for Wired {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wired {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut() {
            // No FIN.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
