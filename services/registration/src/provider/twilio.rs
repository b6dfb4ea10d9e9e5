//! Twilio's REST API of 2010: `Messages.json` for an SMS, `Calls.json` for a call that says the code.
//!
//! What became of messages is asked for, of some of them ([`polls`]): `GET Messages/{sid}.json`. Its error codes are in <https://www.twilio.com/docs/api/errors>. An answer's text may repeat the number, so only its
//! code goes into errors.

mod polls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, Serialize, Serializer};
use spillway_chassis::outbound::{self, ClientError};
use spillway_store::verifications::Transport;
use spillway_types::PhoneNumber;

use super::client::{failed, retry_after};
use super::{Accepted, Code, Delivery, Provider, ProviderError, Receipt};
use polls::Polls;

/// An answer is about 1 KB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Too many requests; too many calls a second; too many segments for a campaign.
const THROTTLED: [u32; 3] = [20_429, 14_107, 30_022];
/// Failures that arrive as an error of the request: unreachable, blocked, unknown handset and so on.
const DELIVERY_FAILURES: std::ops::Range<u32> = 30_000..31_000;

/// An account at Twilio.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TwilioConfig {
    pub account_sid: String,
    /// Never printed.
    #[serde(serialize_with = "hidden")]
    pub auth_token: String,
    /// The number or sender that messages and calls come from. Calls need one.
    pub from: String,
    /// In lieu of `from` for messages: a service that chooses among senders.
    pub messaging_service_sid: String,
    /// `{code}` is filled in.
    pub text: String,
    /// Said twice, each digit by itself.
    pub voice_text: String,
    /// Whether it is asked what became of messages: of as many as it answers for in turn.
    pub receipts: bool,
    /// How long after a message it is asked for the first time; each further time, after twice as long.
    #[serde(with = "humantime_serde")]
    pub receipt_after: Duration,
    /// For what speaks as Twilio does.
    pub base_url: String,
    /// For one request as a whole.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
}

impl Default for TwilioConfig {
    fn default() -> Self {
        Self {
            account_sid: String::new(),
            auth_token: String::new(),
            from: String::new(),
            messaging_service_sid: String::new(),
            text: "Your code is {code}".to_owned(),
            voice_text: "Your code is {code}".to_owned(),
            receipts: true,
            receipt_after: Duration::from_secs(2),
            base_url: "https://api.twilio.com".to_owned(),
            timeout: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(3),
        }
    }
}

impl fmt::Debug for TwilioConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TwilioConfig").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

fn hidden<S: Serializer>(_: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("(hidden)")
}

/// What is wrong with an account's settings.
#[derive(Debug, thiserror::Error)]
pub enum TwilioConfigError {
    #[error("base_url is not an http or https address")]
    BaseUrl,
    #[error("{0} is empty")]
    Empty(&'static str),
    #[error(
        "from is empty: calls need a number to come from, so set it or leave \"voice\" out of transports"
    )]
    NoCaller,
    #[error("receipt_after must be more than 0")]
    ReceiptAfter,
    #[error("{0} has no {{code}}")]
    NoCode(&'static str),
    #[error(transparent)]
    Client(#[from] ClientError),
}

#[derive(Clone)]
pub struct Twilio {
    client: Client,
    messages: Url,
    calls: Url,
    polls: Arc<Polls>,
    config: TwilioConfig,
}

impl Twilio {
    /// # Errors
    ///
    /// Whatever in the settings could not work, found now and not at the first code.
    pub fn new(config: &TwilioConfig, makes_calls: bool) -> Result<Self, TwilioConfigError> {
        for (name, value) in [("account_sid", &config.account_sid), ("auth_token", &config.auth_token)] {
            if value.is_empty() {
                return Err(TwilioConfigError::Empty(name));
            }
        }
        if config.from.is_empty() && config.messaging_service_sid.is_empty() {
            return Err(TwilioConfigError::Empty("from, and so is messaging_service_sid,"));
        }
        if config.from.is_empty() && makes_calls {
            return Err(TwilioConfigError::NoCaller);
        }
        for (name, text) in [("text", &config.text), ("voice_text", &config.voice_text)] {
            if !text.contains("{code}") {
                return Err(TwilioConfigError::NoCode(name));
            }
        }
        if config.receipt_after.is_zero() {
            return Err(TwilioConfigError::ReceiptAfter);
        }
        let url = |file: &str| {
            let mut url = Url::parse(&config.base_url).ok().filter(|url| url.scheme().starts_with("http"))?;
            let path = ["2010-04-01", "Accounts", &config.account_sid, file];
            url.path_segments_mut().ok()?.pop_if_empty().extend(path);
            Some(url)
        };
        Ok(Self {
            client: outbound::client(config.timeout, config.connect_timeout)?,
            messages: url("Messages.json").ok_or(TwilioConfigError::BaseUrl)?,
            calls: url("Calls.json").ok_or(TwilioConfigError::BaseUrl)?,
            polls: Arc::new(Polls::new(config.receipt_after)),
            config: config.clone(),
        })
    }

    fn message<'a>(&'a self, to: &'a str, text: &'a str) -> [(&'static str, &'a str); 3] {
        let sender = if self.config.messaging_service_sid.is_empty() {
            ("From", &*self.config.from)
        } else {
            ("MessagingServiceSid", &*self.config.messaging_service_sid)
        };
        [("To", to), sender, ("Body", text)]
    }
}

#[async_trait]
impl Provider for Twilio {
    async fn send(
        &self,
        number: &PhoneNumber,
        transport: Transport,
        code: &Code,
    ) -> Result<Accepted, ProviderError> {
        let to = number.as_e164();
        let request = match transport {
            Transport::Sms => {
                let text = self.config.text.replace("{code}", code.expose());
                self.client.post(self.messages.clone()).form(&self.message(to, &text))
            }
            Transport::Voice => {
                let spoken = spoken(&self.config.voice_text, code);
                let call = [("To", to), ("From", &*self.config.from), ("Twiml", &*spoken)];
                self.client.post(self.calls.clone()).form(&call)
            }
        };
        let request = request.basic_auth(&self.config.account_sid, Some(&self.config.auth_token));
        let response = request.send().await.map_err(failed)?;
        let (status, pause) = (response.status(), retry_after(&response));
        let sid = judge(status, pause, &outbound::body(response, ANSWER_BYTES_MAX).await)?;
        let is_followed = self.config.receipts && transport == Transport::Sms && self.polls.follow(&sid);
        Ok(Accepted { delivery_delay: None, message: is_followed.then_some(sid) })
    }

    async fn next_receipt(&self) -> Receipt {
        loop {
            let poll = self.polls.next().await;
            match self.ask(&poll.sid).await {
                Delivery::Unknown => self.polls.again(poll),
                delivery => return Receipt { message: poll.sid, delivery },
            }
        }
    }
}

impl Twilio {
    /// What became of a message; whatever cannot be learnt is unknown, and may be known the next time.
    async fn ask(&self, sid: &str) -> Delivery {
        let mut url = self.messages.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop().extend(["Messages", &format!("{sid}.json")]);
        }
        let request =
            self.client.get(url).basic_auth(&self.config.account_sid, Some(&self.config.auth_token));
        let Ok(response) = request.send().await else { return Delivery::Unknown };
        if !response.status().is_success() {
            return Delivery::Unknown;
        }
        let answer: Answer =
            serde_json::from_slice(&outbound::body(response, ANSWER_BYTES_MAX).await).unwrap_or_default();
        match answer.status.as_ref().and_then(|status| status.as_str()) {
            Some("delivered" | "read") => Delivery::Arrived,
            Some("undelivered" | "failed" | "canceled") => Delivery::Failed,
            _ => Delivery::Unknown,
        }
    }
}

/// What of an answer matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    /// Of the message or call that has been made.
    sid: Option<String>,
    /// Of an error.
    code: Option<u32>,
    /// Of a message that was made and cannot be delivered.
    error_code: Option<u32>,
    /// A word in a message, a number in an error.
    status: Option<serde_json::Value>,
}

/// The name of the message or call that was made.
fn judge(status: StatusCode, pause: Duration, body: &[u8]) -> Result<String, ProviderError> {
    // What is no JSON has no code, and on success no id.
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let code = answer.code.or(answer.error_code);
    let answered = || match code {
        Some(code) => format!("it answered {status} with code {code}"),
        None => format!("it answered {status}"),
    };
    if status == StatusCode::TOO_MANY_REQUESTS || code.is_some_and(|code| THROTTLED.contains(&code)) {
        return Err(ProviderError::Throttled { retry_after: pause });
    }
    if status.is_success() && code.is_none() {
        return match answer.sid {
            Some(sid) => Ok(sid),
            None => Err(ProviderError::Failed("it answered success without an id".into())),
        };
    }
    let about_account = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
    let is_failure = status.is_server_error()
        || status.is_success()
        || about_account.contains(&status)
        || code.is_none_or(|code| DELIVERY_FAILURES.contains(&code));
    if is_failure {
        Err(ProviderError::Failed(answered().into()))
    } else {
        Err(ProviderError::Refused(answered()))
    }
}

/// What a call says: TwiML, with pauses between the digits.
fn spoken(text: &str, code: &Code) -> String {
    let digits: Vec<String> = code.expose().chars().map(String::from).collect();
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let said = escaped.replace("{code}", &digits.join(". "));
    format!("<Response><Say>{said}</Say><Pause length=\"1\"/><Say>{said}</Say></Response>")
}

impl fmt::Debug for Twilio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Twilio").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TwilioConfig {
        TwilioConfig {
            account_sid: "AC0".to_owned(),
            auth_token: "hush".to_owned(),
            from: "+15005550006".to_owned(),
            ..TwilioConfig::default()
        }
    }

    #[test]
    fn mistakes_are_found_when_it_is_built() {
        let twilio = Twilio::new(&config(), true).unwrap();
        assert_eq!(twilio.calls.as_str(), "https://api.twilio.com/2010-04-01/Accounts/AC0/Calls.json");
        let wrong = |change: fn(&mut TwilioConfig)| {
            let mut config = config();
            change(&mut config);
            Twilio::new(&config, true).unwrap_err().to_string()
        };
        assert!(wrong(|c| c.base_url = "ftp://twilio.example".to_owned()).contains("base_url"));
        assert!(wrong(|c| c.account_sid.clear()).contains("account_sid"));
        assert!(wrong(|c| c.auth_token.clear()).contains("auth_token"));
        assert!(wrong(|c| c.from.clear()).contains("from"));
        assert!(wrong(|c| c.text = "Hello".to_owned()).contains("{code}"));
        let service = TwilioConfig { messaging_service_sid: "MG0".to_owned(), ..config() };
        let only_service = TwilioConfig { from: String::new(), ..service };
        assert!(matches!(Twilio::new(&only_service, true), Err(TwilioConfigError::NoCaller)));
        Twilio::new(&only_service, false).unwrap();
    }

    #[test]
    fn neither_debug_nor_the_printed_configuration_shows_the_token() {
        let printed = serde_json::to_string(&config()).unwrap();
        let debug = format!("{:?} {:?}", config(), Twilio::new(&config(), true).unwrap());
        assert!(!printed.contains("hush") && !debug.contains("hush"), "{printed} {debug}");
    }

    #[test]
    fn a_call_says_digit_by_digit() {
        let said = spoken("A & B: {code}", &Code::from_number(42));
        assert!(said.contains("<Say>A &amp; B: 0. 0. 0. 0. 4. 2</Say>"), "{said}");
    }
}
