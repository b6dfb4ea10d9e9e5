//! Makes answers late, on the way between the service and its clients: a proxy in this process that holds back what comes from
//! the service.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::load::Slow;

/// Pieces of answers that are held back for one connection; more wait in the kernel, as they would on a slow line.
const HELD_MAX: usize = 1_024;
const PIECE_BYTES: usize = 16 * 1024;

/// How late answers are, as a whole. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Lateness(Arc<AtomicU64>);

impl Lateness {
    pub(super) fn set(&self, by: Duration) {
        self.0.store(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Relaxed))
    }

    /// Is late in these times from `started`, and in time otherwise.
    pub(super) async fn follow(self, mut slow: Vec<Slow>, started: Instant) {
        slow.sort_by_key(|slow| slow.from);
        for slow in slow {
            sleep_until(started + slow.from).await;
            self.set(slow.by);
            sleep_until(started + slow.to).await;
            self.set(Duration::ZERO);
        }
    }
}

/// Puts itself in front of each of the addresses, which have commas between them; returns its own. The tasks end with `tasks`.
pub(super) async fn put_in_front(
    addresses: &str,
    lateness: &Lateness,
    tasks: &mut JoinSet<()>,
) -> io::Result<String> {
    let mut own = Vec::new();
    for address in addresses.split(',') {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        own.push(format!("http://{}", listener.local_addr()?));
        tasks.spawn(serve(listener, authority(address)?, lateness.clone()));
    }
    Ok(own.join(","))
}

fn authority(address: &str) -> io::Result<String> {
    let uri: Uri = address.trim().parse().map_err(io::Error::other)?;
    let authority = uri.authority().ok_or_else(|| io::Error::other("an address without a host"))?;
    Ok(match uri.port() {
        Some(_) => authority.to_string(),
        None => format!("{authority}:80"),
    })
}

async fn serve(listener: TcpListener, to: String, lateness: Lateness) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(connections.spawn(carry(client, to.clone(), lateness.clone()))),
                Err(error) => {
                    // Out of descriptors, for a while.
                    tracing::warn!(%error, "a connection was not carried on");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn carry(client: TcpStream, to: String, lateness: Lateness) {
    let carried: io::Result<()> = async {
        let service = TcpStream::connect(&to).await?;
        client.set_nodelay(true)?;
        service.set_nodelay(true)?;
        let (mut from_client, to_client) = client.into_split();
        let (from_service, mut to_service) = service.into_split();
        let (held, hold) = mpsc::channel(HELD_MAX);
        tokio::select! {
            up = tokio::io::copy(&mut from_client, &mut to_service) => up.map(|_| ()),
            down = async { tokio::try_join!(read(from_service, held, lateness), write(hold, to_client)) } => {
                down.map(|_| ())
            }
        }
    }
    .await;
    if let Err(error) = carried {
        tracing::debug!(%error, "a carried connection ended");
    }
}

async fn read(
    mut from: OwnedReadHalf,
    held: mpsc::Sender<(Instant, Vec<u8>)>,
    lateness: Lateness,
) -> io::Result<()> {
    let mut last = Instant::now();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        // What came first goes first, also when the lateness has just ended.
        last = last.max(Instant::now() + lateness.get());
        let piece = buffer.get(..length).unwrap_or_default().to_vec();
        if held.send((last, piece)).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(mut hold: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) -> io::Result<()> {
    while let Some((at, piece)) = hold.recv().await {
        sleep_until(at).await;
        to.write_all(&piece).await?;
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_late_while_they_are_to_be_and_whole() {
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = service.local_addr().unwrap();
        let (lateness, mut tasks) = (Lateness::default(), JoinSet::new());
        tasks.spawn(async move {
            let (mut client, _) = service.accept().await.unwrap();
            let mut word = [0; 4];
            while client.read_exact(&mut word).await.is_ok() {
                client.write_all(&word).await.unwrap();
            }
        });
        let own = put_in_front(&format!("http://{address}"), &lateness, &mut tasks).await.unwrap();
        let mut client = TcpStream::connect(own.trim_start_matches("http://")).await.unwrap();
        let mut asked = async |word: &[u8; 4]| {
            let asked = Instant::now();
            client.write_all(word).await.unwrap();
            let mut answer = [0; 4];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, word);
            asked.elapsed()
        };
        asked(b"soon").await;
        lateness.set(Duration::from_millis(150));
        assert!(asked(b"late").await >= Duration::from_millis(150));
        lateness.set(Duration::ZERO);
        asked(b"soon").await;
    }
}
