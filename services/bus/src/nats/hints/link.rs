//! One connection to one NATS server: TCP or TLS, the handshake, and bytes in both directions.
//!
//! Nothing here blocks one direction on the other: [`Link::io`] reads while there is something to write.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use bytes::{Buf, Bytes, BytesMut};
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::identity::{self, Identity};
use super::protocol::{self, Connect, Parser, ProtocolError, ServerInfo, ServerOp};
use super::servers::{Login, Server};

/// For everything from the name look-up to the server's first PONG.
const OPEN_MAX: Duration = Duration::from_secs(5);

/// What one read may bring.
const READ_BYTES: usize = 64 * 1024;

/// What is needed to connect, apart from the server.
#[derive(Debug)]
pub(super) struct Dialer {
    /// What the server calls us in its logs.
    pub(super) name: String,
    pub(super) identity: Identity,
    pub(super) tls: Arc<ClientConfig>,
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("no answer within {} s", OPEN_MAX.as_secs())]
    Slow,
    #[error("{0:?} cannot be the name in a certificate")]
    TlsName(String, #[source] InvalidDnsNameError),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the server began with something else than INFO")]
    NoInfo,
    #[error("cannot sign the server's challenge")]
    Sign(#[source] nkeys::error::Error),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server does not speak NATS as expected")]
    Protocol(#[from] ProtocolError),
    #[error("the server says: {0}")]
    Server(String),
    #[error("the server has not answered for too long")]
    Stale,
    #[error("the server is about to stop")]
    LameDuck,
}

/// What a PONG answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ping {
    KeepAlive,
    /// Confirms what was sent before it.
    Barrier,
}

pub(super) struct Link {
    stream: Box<dyn Stream>,
    inbox: BytesMut,
    parser: Parser,
    outbox: VecDeque<Bytes>,
    outbox_bytes: usize,
    unflushed: bool,
    /// PINGs under way, oldest first.
    pings: VecDeque<Ping>,
    pub(super) info: ServerInfo,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Link {
    pub(super) async fn open(server: &Server, dialer: &Dialer) -> Result<Self, LinkError> {
        timeout(OPEN_MAX, Self::handshake(server, dialer)).await.map_err(|_elapsed| LinkError::Slow)?
    }

    async fn handshake(server: &Server, dialer: &Dialer) -> Result<Self, LinkError> {
        let tcp =
            TcpStream::connect((server.host.as_str(), server.port)).await.map_err(LinkError::Connect)?;
        tcp.set_nodelay(true).map_err(LinkError::Connect)?;
        let mut link = Self::over(Box::new(tcp));
        let ServerOp::Info(info) = link.op().await? else {
            return Err(LinkError::NoInfo);
        };
        let tls = server.tls || info.tls_required;
        if tls {
            let name = ServerName::try_from(server.tls_name.clone())
                .map_err(|error| LinkError::TlsName(server.tls_name.clone(), error))?;
            let connector = TlsConnector::from(Arc::clone(&dialer.tls));
            let stream = connector.connect(name, link.stream).await.map_err(LinkError::Tls)?;
            link = Self::over(Box::new(stream));
        }
        link.info = *info;
        link.introduce(server, dialer, tls)?;
        loop {
            match link.op().await? {
                ServerOp::Pong => return Ok(link),
                ServerOp::Err(text) => return Err(LinkError::Server(text)),
                ServerOp::Info(info) => link.info = *info,
                ServerOp::Ping => link.send(Bytes::from_static(protocol::PONG)),
                ServerOp::Ok | ServerOp::Message(_) => {}
            }
        }
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            inbox: BytesMut::new(),
            parser: Parser::default(),
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            unflushed: false,
            pings: VecDeque::new(),
            info: ServerInfo::default(),
        }
    }

    fn introduce(&mut self, server: &Server, dialer: &Dialer, tls: bool) -> Result<(), LinkError> {
        let mut connect = Connect {
            tls_required: tls,
            name: &dialer.name,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            echo: true,
            ..Connect::default()
        };
        match (&dialer.identity, &server.login) {
            (Identity::Key { jwt, pair }, _) if !self.info.nonce.is_empty() => {
                let (key, signature) = identity::answer(pair, &self.info.nonce).map_err(LinkError::Sign)?;
                connect.jwt = jwt.as_deref();
                // With a JWT the key is in there.
                connect.nkey = jwt.is_none().then_some(key);
                connect.sig = Some(signature);
            }
            // A server without a nonce knows no keys.
            (Identity::Key { .. }, _) | (Identity::Address, Login::None) => {}
            (Identity::Address, Login::Password { user, password }) => {
                (connect.user, connect.pass) = (Some(user.as_str()), Some(password.as_str()));
            }
            (Identity::Address, Login::Token(token)) => connect.auth_token = Some(token),
        }
        self.send(protocol::connect(&connect));
        self.send(Bytes::from_static(protocol::PING));
        Ok(())
    }

    /// Waits for the next operation. For the handshake.
    async fn op(&mut self) -> Result<ServerOp, LinkError> {
        loop {
            if let Some(op) = self.next_op()? {
                return Ok(op);
            }
            self.io().await?;
        }
    }

    /// Queues bytes for [`Link::io`].
    pub(super) fn send(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.outbox_bytes += bytes.len();
            self.outbox.push_back(bytes);
        }
    }

    /// Bytes that have not been written.
    pub(super) fn unsent(&self) -> usize {
        self.outbox_bytes
    }

    pub(super) fn ping(&mut self, ping: Ping) {
        self.pings.push_back(ping);
        self.send(Bytes::from_static(protocol::PING));
    }

    /// What the PONG that has arrived answers. `None`: nobody asked.
    pub(super) fn pong(&mut self) -> Option<Ping> {
        self.pings.pop_front()
    }

    pub(super) fn pings(&self) -> usize {
        self.pings.len()
    }

    /// Moves bytes until some have come in, or all have gone out. Cancel-safe.
    pub(super) async fn io(&mut self) -> Result<(), LinkError> {
        poll_fn(|cx| self.poll_io(cx)).await
    }

    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let had_to_write = !self.outbox.is_empty() || self.unflushed;
        let wrote_all = self.poll_write(cx).map_err(LinkError::Broken)?.is_ready();
        self.inbox.reserve(READ_BYTES);
        match pin!(self.stream.read_buf(&mut self.inbox)).poll(cx).map_err(LinkError::Broken)? {
            Poll::Ready(0) => Poll::Ready(Err(LinkError::Closed)),
            Poll::Ready(_) => Poll::Ready(Ok(())),
            Poll::Pending if had_to_write && wrote_all => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(front) = self.outbox.front_mut() {
            let written = match Pin::new(&mut self.stream).poll_write(cx, front)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => written,
                Poll::Pending => return Poll::Pending,
            };
            self.unflushed = true;
            self.outbox_bytes -= written;
            front.advance(written);
            if front.is_empty() {
                self.outbox.pop_front();
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx)? {
                Poll::Ready(()) => self.unflushed = false,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn next_op(&mut self) -> Result<Option<ServerOp>, ProtocolError> {
        self.parser.next(&mut self.inbox)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.info.server_name).finish_non_exhaustive()
    }
}
