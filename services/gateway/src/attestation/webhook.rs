//! Judges by a webhook: one POST for each claim.
//!
//! ```json
//! {"statement": "base64", "challenge": "base64", "device_key": "base64"}
//! ```
//!
//! It answers 200 with `{"verdict": "genuine"}` or `{"verdict": "counterfeit"}`. Whatever else it answers is no verdict.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, Serialize};
use spillway_chassis::outbound::{self, ClientError, HeaderError};

use super::{Attestation, AttestationError, Evidence, Verdict};

/// Where devices are judged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// `https://`, or `http://` inside a trusted network.
    pub url: String,
    /// Such as `authorization`. Values are never printed.
    #[serde(serialize_with = "outbound::hidden_values")]
    pub headers: BTreeMap<String, String>,
    /// For one request as a whole.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
        }
    }
}

impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&String> = self.headers.keys().collect();
        f.debug_struct("WebhookConfig")
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a webhook's settings.
#[derive(Debug, thiserror::Error)]
pub enum WebhookConfigError {
    #[error("url is not an http or https address")]
    Url,
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// See the module.
pub struct WebhookAttestation {
    client: Client,
    url: Url,
    headers: HeaderMap,
}

#[derive(Debug, thiserror::Error)]
enum NoVerdict {
    // Without the address, which may hold a password.
    #[error("the webhook cannot be asked")]
    Call(#[source] reqwest::Error),
    #[error("the webhook answered {0}")]
    Status(StatusCode),
    #[error("the webhook's answer holds no verdict")]
    Answer(#[source] serde_json::Error),
}

#[derive(Serialize)]
struct Question {
    statement: String,
    challenge: String,
    device_key: String,
}

#[derive(Deserialize)]
struct Answer {
    verdict: Verdict,
}

const ANSWER_BYTES_MAX: usize = 16 * 1024;

impl WebhookAttestation {
    /// # Errors
    ///
    /// Whatever in the settings could not work.
    pub fn new(config: &WebhookConfig) -> Result<Self, WebhookConfigError> {
        let url = Url::parse(&config.url).map_err(|_| WebhookConfigError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(WebhookConfigError::Url);
        }
        let headers = outbound::json_headers(&config.headers)?;
        Ok(Self { client: outbound::client(config.timeout, config.connect_timeout)?, url, headers })
    }

    async fn ask(&self, question: &Question) -> Result<Verdict, NoVerdict> {
        let body = serde_json::to_vec(question).map_err(NoVerdict::Answer)?;
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        let response = request.send().await.map_err(|error| NoVerdict::Call(error.without_url()))?;
        let status = response.status();
        let body = outbound::body(response, ANSWER_BYTES_MAX).await;
        if status != StatusCode::OK {
            return Err(NoVerdict::Status(status));
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(NoVerdict::Answer)?;
        Ok(answer.verdict)
    }
}

#[async_trait]
impl Attestation for WebhookAttestation {
    async fn judge(&self, evidence: &Evidence<'_>) -> Result<Verdict, AttestationError> {
        let question = Question {
            statement: STANDARD.encode(evidence.statement),
            challenge: STANDARD.encode(evidence.challenge),
            device_key: STANDARD.encode(evidence.device_key),
        };
        self.ask(&question).await.map_err(|error| AttestationError(error.into()))
    }
}

impl fmt::Debug for WebhookAttestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookAttestation").finish_non_exhaustive()
    }
}
