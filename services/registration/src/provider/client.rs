use std::sync::Arc;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use rustls::{ClientConfig, RootCertStore};

use spillway_rpc::Chain;

use super::ProviderError;

/// When a provider that throttles does not say for how long.
const THROTTLED: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// For numbers and codes, which go to the configured place and nowhere else.
pub(super) fn client(timeout: Duration, connect_timeout: Duration) -> Result<Client, ClientError> {
    Client::builder()
        .use_preconfigured_tls(tls()?)
        .redirect(Policy::none())
        .no_proxy()
        .timeout(timeout)
        .connect_timeout(connect_timeout)
        .build()
        .map_err(ClientError::Client)
}

/// The address may hold a password, so it stays out of the error. What has left may have been acted on, whatever became of the answer.
pub(super) fn failed(error: reqwest::Error) -> ProviderError {
    if error.is_connect() || error.is_builder() {
        ProviderError::Failed(Box::new(error.without_url()))
    } else {
        tracing::debug!(error = %Chain(&error.without_url()), "a provider did not answer");
        ProviderError::Unanswered
    }
}

/// Seconds only: a date would need a clock that agrees with the provider's.
pub(super) fn retry_after(response: &Response) -> Duration {
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    header.and_then(|text| text.parse().ok()).map_or(THROTTLED, Duration::from_secs)
}

/// The first `max` bytes of an answer; what is missing of it is not told apart.
pub(super) async fn body(mut response: Response, max: usize) -> Vec<u8> {
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

/// Named here, because reqwest would otherwise use whatever cryptography the process has installed globally, or panic.
pub(super) fn tls() -> Result<ClientConfig, ClientError> {
    let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(ClientError::Tls)?.with_root_certificates(roots).with_no_client_auth())
}
