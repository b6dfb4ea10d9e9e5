use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::config::Tls;
use crate::OpenError;

pub(super) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, OpenError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .with_root_certificates(roots(tls.roots.as_deref())?);
    let config = match (&tls.certificate, &tls.private_key) {
        (Some(certificate), Some(private_key)) => {
            let key =
                PrivateKeyDer::from_pem_file(private_key).map_err(|error| unusable(private_key, error))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key)
                .map_err(|error| unusable(certificate, error))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn roots(path: Option<&Path>) -> Result<RootCertStore, OpenError> {
    let Some(path) = path else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(path, error))?;
    if certificates.is_empty() {
        return Err(unusable(path, "it holds no certificate"));
    }
    Ok(certificates)
}

fn unusable(path: &Path, problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OpenError {
    OpenError::File { path: path.to_owned(), source: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (missing, empty) = (folder.path().join("missing.pem"), folder.path().join("empty.pem"));
        std::fs::write(&empty, "").unwrap();
        for path in [missing, empty] {
            let error = client_config(&Tls { roots: Some(path.clone()), ..Tls::default() }).unwrap_err();
            assert!(matches!(error, OpenError::File { path: named, .. } if named == path));
        }
        client_config(&Tls::default()).unwrap();
    }
}
