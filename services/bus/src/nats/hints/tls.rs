//! TLS towards a NATS server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::nats::NatsConfig;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{} is not a readable PEM file", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} holds a certificate that cannot be a root", path.display())]
    Root { path: PathBuf, source: rustls::Error },
    #[error("`tls_certificate` and `tls_key` go together, and only one is set")]
    Half,
    #[error("the certificate in {} cannot be used with the key in {}", certificate.display(), key.display())]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
}

pub(super) fn client_config(config: &NatsConfig) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .with_root_certificates(roots(config)?);
    let client = match (&config.tls_certificate, &config.tls_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|source| TlsError::Pem { path: key.clone(), source })?;
            builder.with_client_auth_cert(chain, private).map_err(|source| TlsError::Pair {
                certificate: certificate.clone(),
                key: key.clone(),
                source,
            })?
        }
        _ => return Err(TlsError::Half),
    };
    Ok(Arc::new(client))
}

fn roots(config: &NatsConfig) -> Result<RootCertStore, TlsError> {
    let Some(path) = &config.tls_roots else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Root { path: path.clone(), source })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if certificates.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_files_are_errors_that_name_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.pem");
        let error = |config: &NatsConfig| client_config(config).unwrap_err().to_string();
        let config = NatsConfig { tls_roots: Some(path.clone()), ..NatsConfig::default() };
        assert!(error(&config).contains("some.pem is not a readable PEM file"));
        std::fs::write(&path, "hello").unwrap();
        assert!(error(&config).contains("some.pem holds no certificate"));
        let config = NatsConfig { tls_certificate: Some(path), ..NatsConfig::default() };
        assert!(error(&config).contains("only one is set"));
        client_config(&NatsConfig::default()).unwrap();
    }
}
