//! SMPP 3.4, as a transceiver: one connection over which messages go out and their receipts come in.
//!
//! The connection is kept by a task of its own and made again when it ends. A message is in one of three states then: not sent, which is a
//! failure; answered; or sent and not answered, of which nobody knows whether it will be delivered and paid for.
//!
//! The library speaks the protocol; its own client is not used, because it queues without a bound and traces the password.

mod config;
mod link;
mod pdu;
mod receipt;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::pki_types::ServerName;
use spillway_chassis::Tasks;
use spillway_chassis::outbound::{tls, tls_of};
use spillway_rpc::Chain;
use spillway_store::verifications::Transport;
use spillway_types::PhoneNumber;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::receipts::Receipts;
use super::{Accepted, Code, Provider, ProviderError, Receipt};
pub use config::{MessageIds, SmppConfig, SmppConfigError};
use link::{Link, LinkError, Stream, Submit};
use pdu::Source;

/// How long a code waits for a connection that is being made.
const BIND_WAIT: Duration = Duration::from_secs(3);
/// A connection that has lasted so long did not fail for the reason that the one before did.
const SETTLED: Duration = Duration::from_secs(10);

pub struct Smpp {
    config: Arc<SmppConfig>,
    source: Source,
    submits: mpsc::Sender<Submit>,
    is_bound: watch::Receiver<bool>,
    receipts: Receipts,
}

impl Smpp {
    /// Connects, and stays connected until `tasks` are cancelled.
    ///
    /// # Errors
    ///
    /// Whatever in the settings could not work, found now and not at the first code.
    pub fn new(config: &SmppConfig, tasks: &Tasks) -> Result<Self, SmppConfigError> {
        config.check()?;
        let source = Source::parse(&config.source).ok_or(SmppConfigError::Source)?;
        let connector = match config.tls {
            true => {
                let host = config.host()?.to_owned();
                let name = ServerName::try_from(host).map_err(|_| SmppConfigError::Address)?;
                let trusted = config.tls_roots.as_deref().map_or_else(tls, tls_of)?;
                Some((TlsConnector::from(Arc::new(trusted)), name))
            }
            false => None,
        };
        let config = Arc::new(config.clone());
        // As many wait for room in the window as are in it.
        let (submits, submitted) = mpsc::channel(config.window.get());
        let (bound, is_bound) = watch::channel(false);
        let receipts = Receipts::default();
        let line = Line { config: Arc::clone(&config), connector, bound, receipts: receipts.sender() };
        tasks.spawn_critical("smpp connection", line.run(submitted, tasks.clone()));
        Ok(Self { config, source, submits, is_bound, receipts })
    }
}

#[async_trait]
impl Provider for Smpp {
    async fn send(&self, number: &PhoneNumber, _: Transport, code: &Code) -> Result<Accepted, ProviderError> {
        let unbound = || ProviderError::Failed("there is no connection to it".into());
        let mut is_bound = self.is_bound.clone();
        let bound = timeout(BIND_WAIT, is_bound.wait_for(|bound| *bound)).await;
        bound.map_err(|_| unbound())?.map_err(|_| unbound())?;
        let (answer, answered) = oneshot::channel();
        let message = pdu::submit(&self.config, &self.source, number, code);
        self.submits.send(Submit { message, answer }).await.map_err(|_| unbound())?;
        // Dropped without an answer, it never left.
        let name = answered.await.map_err(|_| unbound())??;
        let message = (self.config.receipts && !name.is_empty()).then_some(name);
        Ok(Accepted { delivery_delay: None, message })
    }

    async fn next_receipt(&self) -> Receipt {
        self.receipts.next().await
    }
}

impl fmt::Debug for Smpp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smpp").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What connections are made of.
struct Line {
    config: Arc<SmppConfig>,
    connector: Option<(TlsConnector, ServerName<'static>)>,
    bound: watch::Sender<bool>,
    receipts: mpsc::Sender<Receipt>,
}

impl Line {
    async fn run(self, mut submits: mpsc::Receiver<Submit>, tasks: Tasks) {
        let mut cancelled = std::pin::pin!(tasks.cancelled());
        let mut pause = self.config.reconnect_min;
        let mut is_failing = false;
        loop {
            let began = Instant::now();
            let outcome = self.once(&mut submits, &mut is_failing, cancelled.as_mut()).await;
            self.bound.send_replace(false);
            // What has not been sent goes to somebody else.
            while submits.try_recv().is_ok() {}
            let Err(error) = outcome else { return };
            if is_failing {
                tracing::debug!(error = %Chain(&error), "still no SMPP connection");
            } else {
                tracing::warn!(address = %self.config.address, error = %Chain(&error), "an SMPP connection has ended");
            }
            is_failing = true;
            if began.elapsed() >= SETTLED {
                pause = self.config.reconnect_min;
            }
            tokio::select! {
                () = &mut cancelled => return,
                () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))) => {}
            }
            pause = (pause * 2).min(self.config.reconnect_max);
        }
    }

    /// One connection, from beginning to end; or to the process's, which is no error.
    async fn once(
        &self,
        submits: &mut mpsc::Receiver<Submit>,
        is_failing: &mut bool,
        mut cancelled: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), LinkError> {
        let link = tokio::select! {
            () = &mut cancelled => return Ok(()),
            link = self.bind() => link?,
        };
        tracing::info!(address = %self.config.address, "an SMPP connection is bound");
        *is_failing = false;
        self.bound.send_replace(true);
        link.serve(submits, cancelled).await
    }

    async fn bind(&self) -> Result<Link<'_>, LinkError> {
        let stream = timeout(self.config.connect_timeout, self.connect()).await;
        let stream = stream.map_err(|_| LinkError::Silent)?.map_err(LinkError::Connect)?;
        Link::bind(&self.config, stream, self.receipts.clone()).await
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(&self.config.address).await?;
        // Small messages that somebody waits for.
        stream.set_nodelay(true)?;
        match &self.connector {
            None => Ok(Box::new(stream)),
            Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), stream).await?)),
        }
    }
}
