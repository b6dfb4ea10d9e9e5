//! HTTP calls out of the process, with what must not go anywhere else: to the configured place, without proxies or
//! redirects, within a time, and with answers of bounded size.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde::Serializer;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    #[error("{} cannot be read as PEM", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} holds a certificate that cannot be trusted", path.display())]
    Certificate { path: PathBuf, source: rustls::Error },
}

/// A header that HTTP does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {0} has a wrong name or value")]
pub struct HeaderError(String);

/// `timeout` is for one request as a whole.
///
/// # Errors
///
/// When the system's libraries do not let it.
pub fn client(timeout: Duration, connect_timeout: Duration) -> Result<Client, ClientError> {
    Client::builder()
        .use_preconfigured_tls(tls()?)
        .redirect(Policy::none())
        .no_proxy()
        .timeout(timeout)
        .connect_timeout(connect_timeout)
        .build()
        .map_err(ClientError::Client)
}

/// Headers of a request whose body is JSON. The configured values count as secrets.
///
/// # Errors
///
/// Names the first that cannot be sent.
pub fn json_headers(configured: &BTreeMap<String, String>) -> Result<HeaderMap, HeaderError> {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    for (name, value) in configured {
        let wrong = || HeaderError(name.clone());
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

/// For `serde(serialize_with)`: the names of headers, without their values.
///
/// # Errors
///
/// The serializer's.
pub fn hidden_values<S: Serializer>(
    headers: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.keys().map(|name| (name, "(hidden)")))
}

/// The first `max` bytes of an answer; what is missing of it is not told apart.
pub async fn body(mut response: Response, max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    body
}

/// The world's certificate authorities, and no client certificate. Named here, because reqwest would otherwise use whatever cryptography the process has installed globally, or panic.
///
/// # Errors
///
/// When the cryptography lacks what TLS needs.
pub fn tls() -> Result<ClientConfig, ClientError> {
    trusting(RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()))
}

/// Only the certificate authorities of a PEM file, and no client certificate. Reads a small file on the calling thread.
///
/// # Errors
///
/// When the file holds nothing that can be trusted; the error names it.
pub fn tls_of(path: &Path) -> Result<ClientConfig, ClientError> {
    let pem = |source| ClientError::Pem { path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(pem)? {
        let wrong = |source| ClientError::Certificate { path: path.to_owned(), source };
        roots.add(certificate.map_err(pem)?).map_err(wrong)?;
    }
    if roots.is_empty() {
        return Err(ClientError::NoCertificate(path.to_owned()));
    }
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(ClientError::Tls)?.with_root_certificates(roots).with_no_client_auth())
}
