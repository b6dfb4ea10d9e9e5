//! From a TCP connection to a stream that somebody is logged in on.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use quick_xml::escape::escape;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::Names;
use super::element::{Element, ElementError, Elements};
use crate::peer::PeerError;

/// As long as Spillway's client waits for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Under which it is counted when there is no such account.
pub(super) const NOT_AUTHORIZED: &str = "NOT_AUTHORIZED";

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
pub(super) const STREAM_MANAGEMENT: &str = "urn:xmpp:sm:3";

/// Both directions, before anything is done at once.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) elements: Elements<BufReader<OwnedReadHalf>>,
    pub(super) writer: OwnedWriteHalf,
}

/// A stream that was opened, and what the server offers on it.
pub(super) async fn open(names: &Names) -> Result<(Stream, Element), PeerError> {
    let connecting = TcpStream::connect((names.host.as_str(), names.port));
    let connected = timeout(CONNECT_MAX, connecting).await.map_err(|late| connection(late.into()))?;
    let socket = connected.map_err(|error| connection(error.into()))?;
    socket.set_nodelay(true).map_err(|error| connection(error.into()))?;
    let (reader, writer) = socket.into_split();
    let mut stream = Stream { elements: Elements::new(BufReader::new(reader)), writer };
    let features = stream.begin(names).await?;
    Ok((stream, features))
}

/// Logs in as person `index`, with a resource of its own.
pub(super) async fn log_in(names: &Names, index: u32) -> Result<Stream, PeerError> {
    let (mut stream, features) = open(names).await?;
    if !offers_plain(&features) {
        let why = "it does not offer SASL PLAIN without TLS: a listener for a load test has no starttls_required, and stores passwords as \
                   plain or SCRAM";
        return Err(PeerError::failed("log in", "mechanism", why));
    }
    let (user, password) = (names.user(index), names.password());
    let secret = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
    stream.write(&format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{secret}</auth>")).await?;
    let answer = stream.next().await?;
    if !answer.is("success", SASL) {
        return Err(PeerError::refused("log in", NOT_AUTHORIZED, answer.condition()));
    }
    let mut stream = Stream { elements: stream.elements.restarted(), ..stream };
    stream.begin(names).await?;
    stream
        .ask(
            "bind",
            "set",
            None,
            "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>surge</resource></bind>",
        )
        .await?;
    Ok(stream)
}

fn offers_plain(features: &Element) -> bool {
    let mechanisms =
        features.child("mechanisms").map(|mechanisms| mechanisms.children.as_slice()).unwrap_or_default();
    mechanisms.iter().any(|mechanism| mechanism.text.trim() == "PLAIN")
}

impl Stream {
    /// Opens the stream, or opens it again, and returns what is offered on it.
    async fn begin(&mut self, names: &Names) -> Result<Element, PeerError> {
        let domain = escape(names.domain.as_str());
        self.write(&format!(
            "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        ))
        .await?;
        self.elements.opening().await.map_err(ended)?;
        let features = self.next().await?;
        match features.name.as_str() {
            "features" => Ok(features),
            _ => Err(PeerError::failed("open a stream", "stream", features.condition())),
        }
    }

    pub(super) async fn write(&mut self, text: &str) -> Result<(), PeerError> {
        self.writer.write_all(text.as_bytes()).await.map_err(|error| connection(error.into()))
    }

    pub(super) async fn next(&mut self) -> Result<Element, PeerError> {
        self.elements.next().await.map_err(ended)
    }

    /// An `iq` and its answer; what comes in between is nobody's.
    pub(super) async fn ask(
        &mut self,
        id: &'static str,
        kind: &'static str,
        to: Option<&str>,
        content: &str,
    ) -> Result<Element, PeerError> {
        let to = to.map(|to| format!(" to='{}'", escape(to))).unwrap_or_default();
        self.write(&format!("<iq type='{kind}' id='{id}'{to}>{content}</iq>")).await?;
        loop {
            let answer = self.next().await?;
            if answer.name == "error" {
                return Err(PeerError::failed("ask the server", "stream", answer.condition()));
            }
            if answer.name != "iq" || answer.attribute("id") != Some(id) {
                continue;
            }
            return match answer.attribute("type") {
                Some("result") => Ok(answer),
                _ => Err(PeerError::refused(
                    "ask the server",
                    "IQ_ERROR",
                    format!("{id}: {}", answer.condition()),
                )),
            };
        }
    }
}

pub(super) fn connection(error: crate::peer::Cause) -> PeerError {
    PeerError::failed("speak with the XMPP server", "connection", error)
}

pub(super) fn ended(error: ElementError) -> PeerError {
    PeerError::failed("hear the XMPP server", "stream", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn features(text: &str) -> Element {
        Elements::new(text.as_bytes()).next().await.unwrap()
    }

    #[tokio::test]
    async fn plain_is_looked_for_among_the_mechanisms() {
        let offered = "<f><starttls/><mechanisms><mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms></f>";
        assert!(offers_plain(&features(offered).await));
        assert!(!offers_plain(&features("<f><starttls><required/></starttls></f>").await));
        assert!(!offers_plain(
            &features("<f><mechanisms><mechanism>X-PLAIN</mechanism></mechanisms></f>").await
        ));
    }
}
