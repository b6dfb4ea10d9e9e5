//! The two questions that tell whether a server serves, over a connection of their own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A frozen process accepts connections and never answers.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// A health report is a few hundred bytes, a list of connections several hundred kilobytes.
const ANSWER_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// `GET` over a connection of its own: the status and the body.
///
/// # Errors
///
/// When nobody listens, no whole answer comes within 2 s, or it is not HTTP.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    ask("GET", address, path, "").await
}

/// `PUT`, the same way.
///
/// # Errors
///
/// As of [`get`].
pub async fn put(address: SocketAddr, path: &str, body: &str) -> io::Result<(u16, String)> {
    ask("PUT", address, path, body).await
}

async fn ask(method: &str, address: SocketAddr, path: &str, body: &str) -> io::Result<(u16, String)> {
    let request = format!(
        "{method} {path} HTTP/1.0\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = within(async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })
    .await?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
    Ok((status, body.to_owned()))
}

/// Whether a CQL server (protocol version 4) answers OPTIONS with SUPPORTED, which needs no login.
pub(crate) async fn speaks_cql(address: SocketAddr) -> io::Result<()> {
    const OPTIONS: [u8; 9] = [0x04, 0, 0, 0, 0x05, 0, 0, 0, 0];
    const SUPPORTED: [u8; 5] = [0x84, 0, 0, 0, 0x06];
    within(async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&OPTIONS).await?;
        let mut head = [0; SUPPORTED.len()];
        stream.read_exact(&mut head).await?;
        if head == SUPPORTED { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "not CQL")) }
    })
    .await
}

async fn within<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(ANSWER_MAX, exchange).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", ANSWER_MAX.as_secs()))
    })?
}
