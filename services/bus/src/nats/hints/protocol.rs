//! The part of the NATS client protocol that hints need.
//!
//! Text lines that end in CR LF; a message's line is followed by its payload. Input may be split anywhere. Headers
//! are skipped, because hints have none.

use std::fmt::Write;

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The longest is an INFO that lists the servers of a cluster; the server's own limit for other lines is 4 KiB.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The most that a server may be configured to carry (`max_payload`) without a warning of its own.
const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) const PING: &[u8] = b"PING\r\n";
pub(super) const PONG: &[u8] = b"PONG\r\n";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerOp {
    Info(Box<ServerInfo>),
    Message(Message),
    Ping,
    Pong,
    Ok,
    Err(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) subject: Bytes,
    pub(super) sid: u64,
    pub(super) payload: Bytes,
}

/// What the server says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ServerInfo {
    pub(super) server_name: String,
    pub(super) max_payload: usize,
    pub(super) tls_required: bool,
    pub(super) nonce: String,
    /// `host:port` of the other servers of the cluster.
    pub(super) connect_urls: Vec<String>,
    /// Lame duck mode: the server is about to stop.
    pub(super) ldm: bool,
}

/// What the client says about itself.
#[derive(Default, Serialize)]
pub(super) struct Connect<'a> {
    pub(super) verbose: bool,
    pub(super) pedantic: bool,
    pub(super) tls_required: bool,
    pub(super) name: &'a str,
    pub(super) lang: &'a str,
    pub(super) version: &'a str,
    /// 1: INFO may come at any time.
    pub(super) protocol: u8,
    pub(super) echo: bool,
    pub(super) headers: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sig: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auth_token: Option<&'a str>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ProtocolError {
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("a message is larger than {PAYLOAD_BYTES_MAX} bytes")]
    PayloadTooLarge,
    #[error("{0:?} is not an operation of the protocol")]
    Unknown(String),
    #[error("malformed {0}")]
    Malformed(&'static str),
    #[error("malformed INFO")]
    Info(#[source] serde_json::Error),
}

/// Takes operations off the front of a buffer.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// So many bytes at the front were looked at, and no line ends in them.
    searched: usize,
}

impl Parser {
    /// `None`: the buffer holds no complete operation yet.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<ServerOp>, ProtocolError> {
        let Some(line_end) = self.line_end(buffer)? else {
            return Ok(None);
        };
        let line = &buffer[..line_end];
        if let Some(arguments) = strip(line, "MSG ") {
            let header = MessageLine::parse(arguments, false).ok_or(ProtocolError::Malformed("MSG"))?;
            return self.message(header, line_end, buffer);
        }
        if let Some(arguments) = strip(line, "HMSG ") {
            let header = MessageLine::parse(arguments, true).ok_or(ProtocolError::Malformed("HMSG"))?;
            return self.message(header, line_end, buffer);
        }
        let op = other(line)?;
        buffer.advance(line_end + 2);
        self.searched = 0;
        Ok(Some(op))
    }

    fn line_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let found = buffer[self.searched..].windows(2).position(|pair| pair == b"\r\n");
        match found {
            Some(position) => {
                // Kept for the next call, which comes here again when the payload has not arrived yet.
                self.searched += position;
                Ok(Some(self.searched))
            }
            None if buffer.len() > LINE_BYTES_MAX => Err(ProtocolError::LineTooLong),
            None => {
                // The last byte may be the CR of an LF that comes next.
                self.searched = buffer.len().saturating_sub(1);
                Ok(None)
            }
        }
    }

    fn message(
        &mut self,
        line: MessageLine,
        line_end: usize,
        buffer: &mut BytesMut,
    ) -> Result<Option<ServerOp>, ProtocolError> {
        if line.total > PAYLOAD_BYTES_MAX {
            return Err(ProtocolError::PayloadTooLarge);
        }
        if line.headers > line.total {
            return Err(ProtocolError::Malformed("HMSG"));
        }
        let end = line_end + 2 + line.total + 2;
        if buffer.len() < end {
            buffer.reserve(end - buffer.len());
            return Ok(None);
        }
        if &buffer[end - 2..end] != b"\r\n" {
            return Err(ProtocolError::Malformed("payload"));
        }
        let mut bytes = buffer.split_to(end).freeze();
        let subject = bytes.slice(line.subject.0..line.subject.1);
        bytes.advance(line_end + 2 + line.headers);
        bytes.truncate(line.total - line.headers);
        self.searched = 0;
        Ok(Some(ServerOp::Message(Message { subject, sid: line.sid, payload: bytes })))
    }
}

/// `subject sid [reply] [header bytes] total bytes`.
struct MessageLine {
    /// From the start of the line, with the operation's name.
    subject: (usize, usize),
    sid: u64,
    headers: usize,
    total: usize,
}

impl MessageLine {
    fn parse(arguments: &[u8], has_headers: bool) -> Option<Self> {
        let text = std::str::from_utf8(arguments).ok()?;
        let name_len = if has_headers { "HMSG ".len() } else { "MSG ".len() };
        let mut words = text.split_ascii_whitespace();
        let subject = words.next()?;
        let start = name_len + text.find(subject)?;
        let sid = words.next()?.parse().ok()?;
        let mut last = words.next_back()?;
        let total = last.parse().ok()?;
        let headers = if has_headers {
            last = words.next_back()?;
            last.parse().ok()?
        } else {
            0
        };
        // What is left is the reply subject, if there is one.
        (words.count() <= 1).then_some(Self { subject: (start, start + subject.len()), sid, headers, total })
    }
}

fn other(line: &[u8]) -> Result<ServerOp, ProtocolError> {
    if let Some(json) = strip(line, "INFO ") {
        return serde_json::from_slice(json).map(ServerOp::Info).map_err(ProtocolError::Info);
    }
    if let Some(text) = strip(line, "-ERR ") {
        let text = String::from_utf8_lossy(text);
        return Ok(ServerOp::Err(text.trim().trim_matches('\'').to_owned()));
    }
    match line {
        b"PING" => Ok(ServerOp::Ping),
        b"PONG" => Ok(ServerOp::Pong),
        b"+OK" => Ok(ServerOp::Ok),
        _ => {
            let start = &line[..line.len().min(32)];
            Err(ProtocolError::Unknown(String::from_utf8_lossy(start).into_owned()))
        }
    }
}

fn strip<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    line.strip_prefix(name.as_bytes())
}

pub(super) fn connect(connect: &Connect<'_>) -> Bytes {
    let json = serde_json::to_string(connect).expect("text and numbers are always JSON");
    format!("CONNECT {json}\r\n").into()
}

pub(super) fn sub(subject: &str, sid: u64, out: &mut BytesMut) {
    write!(out, "SUB {subject} {sid}\r\n").expect("the buffer grows");
}

pub(super) fn unsub(sid: u64, out: &mut BytesMut) {
    write!(out, "UNSUB {sid}\r\n").expect("the buffer grows");
}

pub(super) fn publish(subject: &str, payload: &[u8], out: &mut BytesMut) {
    write!(out, "PUB {subject} {}\r\n", payload.len()).expect("the buffer grows");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_in_pieces<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<ServerOp>, ProtocolError> {
        let (mut parser, mut buffer, mut ops) = (Parser::default(), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(op) = parser.next(&mut buffer)? {
                ops.push(op);
            }
        }
        Ok(ops)
    }

    fn parse(input: &[u8]) -> Result<Vec<ServerOp>, ProtocolError> {
        parse_in_pieces([input])
    }

    fn message(subject: &'static str, sid: u64, payload: &'static [u8]) -> ServerOp {
        let (subject, payload) = (subject.into(), Bytes::from_static(payload));
        ServerOp::Message(Message { subject, sid, payload })
    }

    #[test]
    fn every_operation_of_a_server() {
        let input = b"INFO {\"server_name\":\"n1\",\"max_payload\":5,\"ldm\":true,\"new\":[1]}\r\n\
            +OK\r\nPING\r\nPONG\r\n-ERR 'Stale Connection'\r\n\
            MSG d.0.ab 7 2\r\n\r\n\r\nMSG a 8 reply.to 0\r\n\r\nHMSG a 9 12 15\r\nNATS/1.0\r\n\r\nabc\r\n\
            HMSG a 9 reply 12 12\r\nNATS/1.0\r\n\r\n\r\n";
        let info =
            ServerInfo { server_name: "n1".into(), max_payload: 5, ldm: true, ..ServerInfo::default() };
        let expected = [
            ServerOp::Info(Box::new(info)),
            ServerOp::Ok,
            ServerOp::Ping,
            ServerOp::Pong,
            ServerOp::Err("Stale Connection".into()),
            message("d.0.ab", 7, b"\r\n"),
            message("a", 8, b""),
            message("a", 9, b"abc"),
            message("a", 9, b""),
        ];
        assert_eq!(parse(input).unwrap(), expected);
    }

    #[test]
    fn what_is_no_operation_is_an_error() {
        for input in [
            &b"HELLO\r\n"[..],
            b"INFO {\r\n",
            b"MSG a 1\r\n",
            b"MSG a x 1\r\n",
            b"MSG a 1 -1\r\n",
            b"MSG a 1 b c 1\r\n",
            b"MSG a 1 1\r\nabc",
            b"HMSG a 1 3 2\r\nab\r\n",
            b"MSG a 1 9999999999\r\n",
            &[b'x'; LINE_BYTES_MAX + 1],
        ] {
            parse(input).unwrap_err();
        }
    }

    #[test]
    fn what_a_client_says() {
        let mut out = BytesMut::new();
        sub("d.0.ab", 7, &mut out);
        unsub(7, &mut out);
        publish("a.b", b"x\r\ny", &mut out);
        assert_eq!(&out[..], b"SUB d.0.ab 7\r\nUNSUB 7\r\nPUB a.b 4\r\nx\r\ny\r\n");
        let secrets = Connect { user: Some("u\"\r\n"), ..Connect::default() };
        let line = connect(&secrets);
        assert_eq!(line.windows(2).position(|pair| pair == b"\r\n"), Some(line.len() - 2), "one line");
    }

    proptest! {
        #[test]
        fn where_the_input_is_split_does_not_matter(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut input = Vec::new();
            for (sid, payload) in payloads.iter().enumerate() {
                input.extend_from_slice(format!("MSG s.{sid} {sid} {}\r\n", payload.len()).as_bytes());
                input.extend_from_slice(payload);
                input.extend_from_slice(b"\r\nPING\r\n");
            }
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len())).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let ops = parse_in_pieces(cuts.windows(2).map(|pair| &input[pair[0]..pair[1]])).unwrap();
            prop_assert_eq!(ops.len(), 2 * payloads.len());
            for (sid, (pair, payload)) in ops.chunks(2).zip(&payloads).enumerate() {
                let subject = Bytes::from(format!("s.{sid}"));
                let expected = Message { subject, sid: sid as u64, payload: payload.clone().into() };
                prop_assert_eq!(&pair[0], &ServerOp::Message(expected));
                prop_assert_eq!(&pair[1], &ServerOp::Ping);
            }
        }

        #[test]
        fn no_input_panics(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut noise = b"MSG ".to_vec();
            noise.extend_from_slice(&input);
            let _outcome = (parse(&input), parse(&noise));
        }
    }
}
