//! A provider that is any HTTP endpoint: one request for each code, its body made from a template.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use spillway_chassis::outbound::{self, ClientError, HeaderError};
use spillway_store::verifications::Transport;
use spillway_types::PhoneNumber;

use super::client::{failed, retry_after};
use super::{Accepted, Code, Provider, ProviderError};

/// An answer is read up to here, so that its connection can be used again; what it says does not matter.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How to tell a webhook about a code.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// `https://`, or `http://` inside a trusted network: the request carries the number and the code.
    pub url: String,
    pub method: String,
    /// Such as `authorization`. Values are never printed.
    #[serde(serialize_with = "outbound::hidden_values")]
    pub headers: BTreeMap<String, String>,
    /// JSON with `{number}`, `{code}` and `{transport}` (`sms` or `voice`) inside strings.
    pub body: String,
    /// For one request as a whole.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            method: "POST".to_owned(),
            headers: BTreeMap::new(),
            body: r#"{"number": "{number}", "code": "{code}", "transport": "{transport}"}"#.to_owned(),
            timeout: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(3),
        }
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&String> = self.headers.keys().collect();
        f.debug_struct("HttpConfig")
            .field("method", &self.method)
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a webhook's settings.
#[derive(Debug, thiserror::Error)]
pub enum HttpConfigError {
    #[error("url is not an http or https address")]
    Url,
    #[error("method is not an HTTP method")]
    Method,
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("body has no {0}")]
    Placeholder(&'static str),
    #[error("body is not JSON")]
    Body(#[source] serde_json::Error),
    #[error(transparent)]
    Client(#[from] ClientError),
}

#[derive(Clone)]
pub struct HttpProvider {
    client: Client,
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: String,
}

impl HttpProvider {
    /// # Errors
    ///
    /// Whatever in the settings could not work, found now and not at the first code.
    pub fn new(config: &HttpConfig) -> Result<Self, HttpConfigError> {
        let url = Url::parse(&config.url).map_err(|_| HttpConfigError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(HttpConfigError::Url);
        }
        let method = Method::from_bytes(config.method.as_bytes()).map_err(|_| HttpConfigError::Method)?;
        for placeholder in ["{number}", "{code}"] {
            if !config.body.contains(placeholder) {
                return Err(HttpConfigError::Placeholder(placeholder));
            }
        }
        let sample = fill(&config.body, "+4930123456", "000000", "sms");
        serde_json::from_str::<serde_json::Value>(&sample).map_err(HttpConfigError::Body)?;
        let client = outbound::client(config.timeout, config.connect_timeout)?;
        let headers = outbound::json_headers(&config.headers)?;
        Ok(Self { client, url, method, headers, body: config.body.clone() })
    }
}

/// One pass for each placeholder is enough: none of the values can hold another placeholder.
fn fill(template: &str, number: &str, code: &str, transport: &str) -> String {
    template
        .replace("{number}", &escape(number))
        .replace("{code}", &escape(code))
        .replace("{transport}", &escape(transport))
}

/// As inside a JSON string, without the quotes around it.
fn escape(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map_or_else(String::new, str::to_owned)
}

#[async_trait]
impl Provider for HttpProvider {
    async fn send(
        &self,
        number: &PhoneNumber,
        transport: Transport,
        code: &Code,
    ) -> Result<Accepted, ProviderError> {
        let transport = match transport {
            Transport::Sms => "sms",
            Transport::Voice => "voice",
        };
        let filled = fill(&self.body, number.as_e164(), code.expose(), transport);
        let request = self.client.request(self.method.clone(), self.url.clone());
        let response = request.headers(self.headers.clone()).body(filled).send().await.map_err(failed)?;
        let outcome = judge(&response);
        outbound::body(response, ANSWER_BYTES_MAX).await;
        outcome
    }
}

fn judge(response: &Response) -> Result<Accepted, ProviderError> {
    let status = response.status();
    match status {
        _ if status.is_success() => Ok(Accepted::default()),
        StatusCode::TOO_MANY_REQUESTS => Err(ProviderError::Throttled { retry_after: retry_after(response) }),
        _ if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            Err(ProviderError::Failed(format!("it answered {status}").into()))
        }
        _ => Err(ProviderError::Refused(format!("it answered {status}"))),
    }
}

impl fmt::Debug for HttpProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProvider").field("method", &self.method).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> HttpConfig {
        let url = "https://user:password@sms.example/send".to_owned();
        let headers = BTreeMap::from([("authorization".to_owned(), "Bearer hush".to_owned())]);
        HttpConfig { url, headers, ..HttpConfig::default() }
    }

    #[test]
    fn a_template_is_filled_and_escaped() {
        let filled =
            fill(r#"{"to": "{number}", "text": "Code {code} by {transport}"}"#, "+49", "12\"3", "sms");
        let value: serde_json::Value = serde_json::from_str(&filled).unwrap();
        assert_eq!(value, serde_json::json!({"to": "+49", "text": "Code 12\"3 by sms"}));
    }

    #[test]
    fn mistakes_are_found_when_it_is_built() {
        HttpProvider::new(&config()).unwrap();
        let wrong = |change: fn(&mut HttpConfig)| {
            let mut config = config();
            change(&mut config);
            HttpProvider::new(&config).unwrap_err().to_string()
        };
        assert!(wrong(|c| c.url = "ftp://sms.example".to_owned()).contains("url"));
        assert!(wrong(|c| c.method = "NOT A METHOD".to_owned()).contains("method"));
        assert!(wrong(|c| c.body = r#"{"n": "{number}"}"#.to_owned()).contains("{code}"));
        assert!(wrong(|c| c.body = r#"{"n": {number} {code}"#.to_owned()).contains("JSON"));
        assert!(wrong(|c| drop(c.headers.insert("a b".to_owned(), String::new()))).contains("a b"));
    }

    #[test]
    fn neither_debug_nor_the_printed_configuration_shows_a_secret() {
        let config = config();
        let provider = HttpProvider::new(&config).unwrap();
        let printed = serde_json::to_string(&config).unwrap();
        assert!(!printed.contains("hush"), "{printed}");
        let debug = format!("{config:?} {provider:?}");
        assert!(!debug.contains("hush") && !debug.contains("password"), "{debug}");
    }
}
