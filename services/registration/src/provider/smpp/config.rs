use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use super::pdu::{self, Source};

/// An account at a short message centre.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmppConfig {
    /// Host and port.
    pub address: String,
    /// TLS. Without it, password and codes cross the network in the clear, as SMPP itself has it.
    pub tls: bool,
    /// PEM. The centre's certificate must come from one of these authorities, and not from a public one: many centres have one of their own. Read at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_roots: Option<PathBuf>,
    pub system_id: String,
    /// At most 8 characters. Never printed.
    #[serde(serialize_with = "hidden")]
    pub password: String,
    pub system_type: String,
    /// The sender: a number, a short code, or up to 11 letters and digits.
    pub source: String,
    /// `{code}` is filled in. 160 characters that all alphabets have in the same place, or 70 others.
    pub text: String,
    /// After which a centre that has not delivered a message drops it. Absent: its own.
    #[serde(with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub validity: Option<Duration>,
    /// Whether receipts are asked for.
    pub receipts: bool,
    /// How messages are called in answers and in receipts.
    pub message_ids: MessageIds,
    /// Messages at a time that have no answer yet.
    pub window: NonZeroUsize,
    /// How long nothing may be heard before the centre is asked whether it is there.
    #[serde(with = "humantime_serde")]
    pub enquire_after: Duration,
    /// How long an answer may take. Without one to `enquire_link` the connection is given up.
    #[serde(with = "humantime_serde")]
    pub answer_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Pause before the first new connection, doubled for each further one.
    #[serde(with = "humantime_serde")]
    pub reconnect_min: Duration,
    #[serde(with = "humantime_serde")]
    pub reconnect_max: Duration,
}

/// Some centres write the same number in hexadecimal into the answer and in decimal into the receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageIds {
    #[default]
    Same,
    HexThenDecimal,
}

impl Default for SmppConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            tls: false,
            tls_roots: None,
            system_id: String::new(),
            password: String::new(),
            system_type: String::new(),
            source: String::new(),
            text: "Your code is {code}".to_owned(),
            validity: None,
            receipts: true,
            message_ids: MessageIds::default(),
            window: NonZeroUsize::new(32).expect("not zero"),
            enquire_after: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for SmppConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmppConfig")
            .field("address", &self.address)
            .field("tls", &self.tls)
            .field("tls_roots", &self.tls_roots)
            .finish_non_exhaustive()
    }
}

fn hidden<S: Serializer>(_: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("(hidden)")
}

/// What is wrong with an account's settings.
#[derive(Debug, thiserror::Error)]
pub enum SmppConfigError {
    #[error("address is not a host and a port")]
    Address,
    #[error("{0} is empty")]
    Empty(&'static str),
    #[error("{0} is longer than {1} characters, or not ASCII")]
    TooLong(&'static str, usize),
    #[error("source is not a number, a short code, or 1 to 11 letters and digits")]
    Source,
    #[error("text has no {{code}}")]
    NoCode,
    #[error("text does not fit into one message: 160 plain characters, or 70 if there are others")]
    Text,
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    #[error("validity is longer than 99 days")]
    Validity,
    #[error("SMPP makes no calls: set transports = [\"sms\"]")]
    Voice,
    #[error("tls_roots is set, and tls is not: set tls = true")]
    RootsWithoutTls,
    #[error("TLS cannot be set up")]
    Tls(#[from] spillway_chassis::outbound::ClientError),
}

impl SmppConfig {
    /// # Errors
    ///
    /// Whatever in the settings could not work, found now and not at the first code.
    pub fn check(&self) -> Result<(), SmppConfigError> {
        self.host()?;
        if self.tls_roots.is_some() && !self.tls {
            return Err(SmppConfigError::RootsWithoutTls);
        }
        for (name, value) in [("system_id", &self.system_id), ("password", &self.password)] {
            if value.is_empty() {
                return Err(SmppConfigError::Empty(name));
            }
        }
        // With the zero at the end 16, 9 and 13 octets: SMPP 3.4, section 4.1.
        let lengths = [
            ("system_id", &self.system_id, 15),
            ("password", &self.password, 8),
            ("system_type", &self.system_type, 12),
        ];
        for (name, value, max) in lengths {
            if value.len() > max || !value.bytes().all(|byte| byte.is_ascii() && byte != 0) {
                return Err(SmppConfigError::TooLong(name, max));
            }
        }
        Source::parse(&self.source).ok_or(SmppConfigError::Source)?;
        if !self.text.contains("{code}") {
            return Err(SmppConfigError::NoCode);
        }
        pdu::body(&self.text.replace("{code}", "000000")).ok_or(SmppConfigError::Text)?;
        if self.validity.is_some_and(|validity| validity.as_secs() > 99 * 86_400) {
            return Err(SmppConfigError::Validity);
        }
        let zeros = [
            ("enquire_after", self.enquire_after),
            ("answer_timeout", self.answer_timeout),
            ("connect_timeout", self.connect_timeout),
            ("reconnect_min", self.reconnect_min),
        ];
        match zeros.into_iter().find(|(_, time)| time.is_zero()) {
            Some((name, _)) => Err(SmppConfigError::Zero(name)),
            None => Ok(()),
        }
    }

    /// The host, without its port.
    pub(super) fn host(&self) -> Result<&str, SmppConfigError> {
        let (host, port) = self.address.rsplit_once(':').ok_or(SmppConfigError::Address)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(SmppConfigError::Address);
        }
        Ok(host.trim_start_matches('[').trim_end_matches(']'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn config() -> SmppConfig {
        SmppConfig {
            address: "smsc.example:2775".to_owned(),
            system_id: "spillway".to_owned(),
            password: "hush".to_owned(),
            source: "Spillway".to_owned(),
            ..SmppConfig::default()
        }
    }

    #[test]
    fn mistakes_are_found_when_it_is_built() {
        config().check().unwrap();
        let wrong = |change: fn(&mut SmppConfig)| {
            let mut config = config();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(wrong(|c| c.address = "smsc.example".to_owned()).contains("address"));
        assert!(wrong(|c| c.tls_roots = Some("roots.pem".into())).contains("set tls = true"));
        assert!(wrong(|c| c.password.clear()).contains("password is empty"));
        assert!(wrong(|c| c.password = "longer than 8".to_owned()).contains("password is longer"));
        assert!(wrong(|c| c.source = "much too long a name".to_owned()).contains("source"));
        assert!(wrong(|c| c.text = "Hello".to_owned()).contains("{code}"));
        assert!(wrong(|c| c.text = "ä".repeat(65) + "{code}").contains("70"));
        assert!(wrong(|c| c.answer_timeout = Duration::ZERO).contains("answer_timeout"));
        config_with("ä".repeat(64) + "{code}").check().unwrap();
        config_with("a".repeat(154) + "{code}").check().unwrap();
        config_with("a".repeat(155) + "{code}").check().unwrap_err();
    }

    fn config_with(text: String) -> SmppConfig {
        SmppConfig { text, ..config() }
    }

    #[test]
    fn neither_debug_nor_the_printed_configuration_shows_the_password() {
        let printed = serde_json::to_string(&config()).unwrap();
        assert!(!printed.contains("hush") && !format!("{:?}", config()).contains("hush"), "{printed}");
    }
}
