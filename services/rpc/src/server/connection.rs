//! One connection, from accept to close.
//!
//! hyper is used directly, not through `tonic::transport::Server`, because that one has no bound on the handshake, on
//! idle connections or on send buffers, reads its certificate once, and spawns connections that no drain waits for.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use spillway_chassis::Tasks;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::body::Body;
use tower::Service;

use super::activity::{Activity, Begun, OpenCallBody, OpenCallFuture};
use super::first_poll::{Arrived, Driven};
use super::quiet::{Quiet, Quietable};
use super::socket::Socket;
use super::{Caller, ServerConfig, Stack, StackBody};
use crate::metrics::ConnectionMetrics;
use crate::{Chain, ServerTls};

/// For a peer without open calls to take note of GOAWAY. One that is silent must not hold up a drain.
const FAREWELL: Duration = Duration::from_secs(1);

/// What all connections of a port share.
pub(super) struct Port {
    pub(super) config: ServerConfig,
    pub(super) stack: Stack,
    pub(super) tls: Option<ServerTls>,
    pub(super) metrics: ConnectionMetrics,
    pub(super) tasks: Tasks,
}

/// A call's task is nobody's, but the connection does not end before its calls have, and somebody waits for that.
fn http2(config: &ServerConfig, arrived: Arrived) -> http2::Builder<Arrived> {
    let mut http2 = http2::Builder::new(arrived);
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.concurrent_streams_max)
        .initial_stream_window_size(config.stream_window_bytes)
        .initial_connection_window_size(config.connection_window_bytes)
        // The least that the protocol allows. It is also the size to which a connection's read buffer can grow.
        .max_frame_size(16 * 1024)
        .max_send_buf_size(config.send_buffer_bytes_max)
        .max_header_list_size(config.header_bytes_max)
        .max_pending_accept_reset_streams(config.pending_resets_max)
        .max_local_error_reset_streams(config.error_resets_max)
        .keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        // gRPC has no use for a date.
        .auto_date_header(false);
    http2
}

impl Port {
    pub(super) async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        _permit: OwnedSemaphorePermit,
    ) {
        self.metrics.open.inc();
        let handshake_end = Instant::now() + self.config.handshake_timeout;
        if let Err(error) = self.connect(stream, peer, handshake_end).await {
            // Peers come and go as they like; that concerns nobody at the default level.
            tracing::debug!(%peer, error = %Chain(&*error), "connection ended");
        }
        self.metrics.open.dec();
    }

    async fn connect(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        handshake_end: Instant,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        // Messages are small and somebody waits for each.
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_recv_buffer_size(self.config.receive_buffer_bytes)?;
        let stream = Socket::new(stream);
        let activity = Arc::new(Activity::default());
        let (arrived, quiet) = (Arrived::default(), Quiet::new());
        let calls = Calls {
            stack: self.stack.clone(),
            activity: Arc::clone(&activity),
            caller: Caller { peer, quiet: quiet.clone() },
        };
        let http2 = http2(&self.config, arrived.clone());
        // What is large is boxed at its own size: a task that holds it in its own state holds it more than once.
        let held = quiet.clone();
        let outcome = if let Some(tls) = &self.tls {
            let handshake = tokio::time::timeout_at(handshake_end, Box::pin(tls.accept(stream))).await;
            let stream = handshake
                .map_err(io::Error::from)
                .flatten()
                .inspect_err(|_| self.metrics.refused_tls.inc())?;
            let stream = TokioIo::new(Quietable::new(stream, quiet.clone(), Arc::clone(&activity)));
            let connection = Box::pin(http2.serve_connection(stream, calls));
            self.drive(Driven { connection, arrived, quiet }, &activity, handshake_end).await
        } else {
            let stream = TokioIo::new(Quietable::new(stream, quiet.clone(), Arc::clone(&activity)));
            let connection = Box::pin(http2.serve_connection(stream, calls));
            self.drive(Driven { connection, arrived, quiet }, &activity, handshake_end).await
        };
        if held.is_given_up() {
            self.metrics.refused_unread.inc();
        }
        Ok(outcome?)
    }

    async fn drive<I>(
        &self,
        mut driven: Driven<Connection<I>>,
        activity: &Activity,
        handshake_end: Instant,
    ) -> hyper::Result<()>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin,
    {
        let mut cancelled = pin!(self.tasks.cancelled());
        // The end of the handshake, then the next look for idleness.
        let mut timer = pin!(tokio::time::sleep_until(handshake_end));
        let mut last = activity.begun();
        loop {
            tokio::select! {
                outcome = &mut driven => return outcome,
                () = cancelled.as_mut() => break,
                () = timer.as_mut() => {
                    if activity.is_idle() && activity.begun() == last {
                        if last == Begun::default() {
                            self.metrics.refused_silent.inc();
                        }
                        break;
                    }
                    last = activity.begun();
                    timer.as_mut().reset(Instant::now() + self.config.idle_max);
                }
            }
        }
        // GOAWAY: no new calls, and the connection ends with the last open one.
        driven.connection.as_mut().graceful_shutdown();
        let end = Instant::now() + self.config.drain_max;
        loop {
            timer.as_mut().reset(end.min(Instant::now() + FAREWELL));
            tokio::select! {
                outcome = &mut driven => return outcome,
                // Dropping the connection ends what is left of its calls.
                () = timer.as_mut() => if activity.is_idle() || Instant::now() >= end { return Ok(()) },
            }
        }
    }
}

type Connection<I> = http2::Connection<I, Calls, Arrived>;

/// The calls of one connection.
struct Calls {
    stack: Stack,
    activity: Arc<Activity>,
    caller: Caller,
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = http::Response<OpenCallBody<StackBody>>;
    type Error = Infallible;
    type Future = OpenCallFuture<<Stack as Service<Request<Body>>>::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let call = self.activity.begin();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.caller.clone());
        // Nothing in the stack has to be waited for before a call.
        OpenCallFuture::new(self.stack.clone().call(request), call)
    }
}
