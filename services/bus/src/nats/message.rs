//! Headers, and how a request is refused without reaching its handler.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};

/// Says that nobody has handled the request, and why.
const REFUSAL: HeaderName = HeaderName::from_static("spillway-refusal");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("spillway-retry-after-ms");

/// Names and texts beside a payload. Names may repeat.
#[derive(Clone, Debug, Default)]
pub struct Headers(Option<HeaderMap>);

/// A control character, or a name that is none.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a header cannot be sent over NATS")]
pub struct InvalidHeader;

impl Headers {
    pub(crate) const fn of(headers: Option<HeaderMap>) -> Self {
        Self(headers)
    }

    pub(crate) fn into_inner(self) -> Option<HeaderMap> {
        self.0
    }

    /// As part of a message: the version, each header on a line of its own, and an empty line.
    pub(crate) fn wire_bytes(&self) -> usize {
        if self.0.is_none() {
            return 0;
        }
        let lines = self.iter().map(|(name, value)| name.len() + ": ".len() + value.len() + "\r\n".len());
        "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
    }

    /// # Errors
    ///
    /// When the name or the value would end the line it is on.
    pub fn append(&mut self, name: &str, value: &str) -> Result<(), InvalidHeader> {
        let name: HeaderName = name.parse().map_err(|_| InvalidHeader)?;
        let value: HeaderValue = value.parse().map_err(|_| InvalidHeader)?;
        self.0.get_or_insert_default().append(name, value);
        Ok(())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(HeaderMap::iter).flat_map(|(name, values)| {
            values.iter().map(move |value| (AsRef::<str>::as_ref(name), value.as_str()))
        })
    }
}

/// Why a request was answered by somebody else than its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Busy {
        retry_after: Duration,
    },
    /// The handler went away without an answer.
    Unanswered,
    /// The handler's answer does not fit into a message.
    TooLarge,
}

impl Refusal {
    pub(crate) fn into_headers(self) -> HeaderMap {
        let name = match self {
            Self::Busy { .. } => "busy",
            Self::Unanswered => "unanswered",
            Self::TooLarge => "too-large",
        };
        let mut headers = HeaderMap::new();
        headers.insert(REFUSAL, name);
        if let Self::Busy { retry_after } = self {
            headers.insert(RETRY_AFTER_MS, retry_after.as_millis().to_string());
        }
        headers
    }

    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        Some(match headers.get(REFUSAL)?.as_str() {
            "busy" => {
                let retry_after_ms = headers.get(RETRY_AFTER_MS).and_then(|ms| ms.as_str().parse().ok());
                Self::Busy { retry_after: Duration::from_millis(retry_after_ms.unwrap_or(0)) }
            }
            "too-large" => Self::TooLarge,
            _ => Self::Unanswered,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_wire() {
        for refusal in [
            Refusal::Busy { retry_after: Duration::from_millis(250) },
            Refusal::Unanswered,
            Refusal::TooLarge,
        ] {
            assert_eq!(Refusal::from_headers(&refusal.into_headers()), Some(refusal));
        }
        assert_eq!(Refusal::from_headers(&HeaderMap::new()), None);
    }

    #[test]
    fn a_header_cannot_smuggle_another() {
        let mut headers = Headers::default();
        headers.append("a", "1\r\nb: 2").unwrap_err();
        headers.append("a: 1\r\nb", "2").unwrap_err();
        headers.append("a", "1").unwrap();
        headers.append("a", "2").unwrap();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", "1"), ("a", "2")]);
    }
}
