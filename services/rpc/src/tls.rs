//! TLS of sockets: certificates from PEM files, read again on demand.
//!
//! A reload concerns new connections only; those that exist keep the keys they have. A file that cannot be used never
//! replaces a certificate that can.

mod expiry;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use prometheus::{Gauge, Registry};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use spillway_chassis::Tasks;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::Chain;

/// gRPC is HTTP/2 only; a client that cannot speak it learns so in the handshake.
const ALPN: &[u8] = b"h2";

/// How often the files are looked at. A renewed certificate has days to be picked up; this is for people who watch.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM, the server's certificate first, then the intermediates.
    pub certificate: PathBuf,
    /// PEM: PKCS#8, SEC1 or PKCS#1.
    pub private_key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a valid PEM file", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} holds no private key", .0.display())]
    NoPrivateKey(PathBuf),
    #[error("the private key in {} does not belong to the certificate in {}", private_key.display(), certificate.display())]
    KeyMismatch { private_key: PathBuf, certificate: PathBuf },
    #[error("{} and {} cannot be used together", private_key.display(), certificate.display())]
    Unusable { private_key: PathBuf, certificate: PathBuf, source: rustls::Error },
}

/// The server's certificate and key. Clones share them, so one reload is seen by every listener.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: TlsConfig,
    current: Arc<Current>,
    acceptor: Arc<ServerConfig>,
    /// When the certificate in use stops being valid, in Unix time.
    expires: Gauge,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ServerTls {
    /// # Errors
    ///
    /// When a file is missing or unusable; the error names it.
    pub fn load(config: TlsConfig) -> Result<Self, TlsError> {
        let key = read(&config)?;
        let expires = expiry_gauge();
        expires.set(expires_at(&key));
        let current = Arc::new(Current(ArcSwap::from_pointee(key)));
        let mut acceptor = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        acceptor.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config, current, acceptor: Arc::new(acceptor), expires })
    }

    /// Shows when the certificate in use expires.
    ///
    /// # Errors
    ///
    /// When the registry has that already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.expires.clone()))
    }

    /// Reads the files again. Reads small files on the calling thread.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::load`]; the old certificate stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let key = read(&self.config)?;
        self.expires.set(expires_at(&key));
        self.current.0.store(Arc::new(key));
        Ok(())
    }

    /// Reloads whenever a file's modification time has changed, until `tasks` is cancelled.
    pub fn watch(&self, tasks: &Tasks) {
        let (tls, cancelled) = (self.clone(), tasks.cancelled());
        let mut seen = tls.modified();
        tasks.spawn("tls certificate watch", async move {
            tokio::pin!(cancelled);
            let mut ticks = tokio::time::interval(POLL_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = &mut cancelled => return,
                    _ = ticks.tick() => {}
                }
                let modified = tls.modified();
                if modified != seen {
                    seen = modified;
                    tls.reload_and_log();
                }
            }
        });
    }

    /// [`ServerTls::reload`] for callers who can do nothing about a failure, such as a SIGHUP handler.
    pub fn reload_and_log(&self) {
        let certificate = self.config.certificate.display();
        match self.reload() {
            Ok(()) => tracing::info!(%certificate, "certificate reloaded"),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "certificate not reloaded, the old one stays in use")
            }
        }
    }

    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<server::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(Arc::clone(&self.acceptor)).accept(stream).await
    }

    /// A file that is missing for a moment, as when it is being replaced, has no time.
    fn modified(&self) -> [Option<SystemTime>; 2] {
        [&self.config.certificate, &self.config.private_key]
            .map(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
    }
}

/// Registers what is shown of the certificate, so that it can be described.
///
/// # Errors
///
/// When the registry has it already.
pub fn describe_metrics(registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(expiry_gauge()))
}

fn expiry_gauge() -> Gauge {
    let help = "When the certificate of the public port expires, in Unix time.";
    Gauge::new("spillway_tls_certificate_expiry_timestamp_seconds", help).expect("the name is valid")
}

/// Not a number, and so below and above nothing, when the certificate does not say it in a way that is understood.
fn expires_at(key: &CertifiedKey) -> f64 {
    key.cert.first().and_then(|certificate| expiry::not_after(certificate)).map_or(f64::NAN, |at| at as f64)
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Whom a client trusts.
#[derive(Clone, Debug)]
pub struct ClientTls {
    connector: Arc<ClientConfig>,
}

impl ClientTls {
    /// Trusts the certificates of this PEM file and what they signed, and nothing else.
    ///
    /// # Errors
    ///
    /// When the file is missing, or holds no certificate that can be a root; the error names it.
    pub fn trusting(path: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let (added, _ignored) = roots.add_parsable_certificates(certificates(path)?);
        if added == 0 {
            return Err(TlsError::NoCertificate(path.to_owned()));
        }
        let mut connector = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        connector.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { connector: Arc::new(connector) })
    }

    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        TlsConnector::from(Arc::clone(&self.connector)).connect(name, stream).await
    }
}

/// Named, not the process default, which nobody else need install then.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(config: &TlsConfig) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&config.certificate)?;
    let key = private_key(&config.private_key)?;
    let (private_key, certificate) = (config.private_key.clone(), config.certificate.clone());
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch { private_key, certificate },
        source => TlsError::Unusable { private_key, certificate, source },
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&contents(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&contents(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoPrivateKey(path.to_owned()),
        source => TlsError::Pem { path: path.to_owned(), source },
    })
}

fn contents(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_picked_up_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let config = renew(folder.path(), 1);
        let tls = ServerTls::load(config.clone()).unwrap();
        let tasks = Tasks::new();
        tls.watch(&tasks);
        let in_use = || tls.current.0.load().cert.clone();
        let first = in_use();

        renew(folder.path(), 2);
        tokio::time::sleep(POLL_INTERVAL + Duration::from_secs(1)).await;
        let second = in_use();
        assert_ne!(first, second);

        std::fs::write(&config.certificate, "").unwrap();
        touch(&config.certificate, 3);
        tokio::time::sleep(POLL_INTERVAL).await;
        assert_eq!(in_use(), second);
        tasks.close_and_wait(Duration::from_secs(1)).await.unwrap();
    }

    fn renew(folder: &Path, time_s: u64) -> TlsConfig {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let config = TlsConfig { certificate: folder.join("tls.crt"), private_key: folder.join("tls.key") };
        std::fs::write(&config.certificate, pair.cert.pem()).unwrap();
        std::fs::write(&config.private_key, pair.signing_key.serialize_pem()).unwrap();
        touch(&config.certificate, time_s);
        config
    }

    /// File systems differ in how fine their times are.
    fn touch(path: &Path, time_s: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time_s);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
}
