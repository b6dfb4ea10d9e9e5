//! A connection that is not read for a while.
//!
//! Reading and taking apart what a caller sends is most of what a refusal costs, and at ten times the capacity it is more than there
//! is. What stays unread costs nothing: it waits in the kernel's buffer, then in the caller's, and what has waited is read and
//! answered at once, with one system call each. So a caller who does not listen is not listened to
//! ([`Deaf`](spillway_admission::Deaf) decides, [`admit`](crate::admit) asks for it).
//!
//! Not on a connection that more than two users share (two, because a device is a stranger before it has signed up): that of a
//! proxy would keep all for what one does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use spillway_admission::User;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// One connection's. Clones are handles on the same.
#[derive(Clone, Debug)]
pub(crate) struct Quiet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    /// In microseconds since `began`; 0: it was never quiet.
    until: AtomicU64,
    /// Who has called here, as far as two. 0: nobody.
    users: [AtomicU64; 2],
    /// 1 once there was a third.
    shared: AtomicU64,
}

impl Quiet {
    pub(super) fn new() -> Self {
        let inner = Inner {
            began: Instant::now(),
            until: AtomicU64::default(),
            users: Default::default(),
            shared: AtomicU64::default(),
        };
        Self(Arc::new(inner))
    }

    /// A call of this user came over the connection.
    pub(crate) fn called(&self, user: User) {
        for known in &self.0.users {
            let seen = known.load(Relaxed);
            if seen == user.0 {
                return;
            }
            // Two who race for the place: the other one finds the next, or counts as a third, which errs to his good.
            if seen == 0 && known.compare_exchange(0, user.0, Relaxed, Relaxed).is_ok() {
                return;
            }
        }
        self.0.shared.store(1, Relaxed);
    }

    /// Reads nothing for so long from now on. False, and nothing happens, where others would wait along.
    pub(crate) fn begin(&self, lasts: Duration) -> bool {
        if self.0.shared.load(Relaxed) != 0 {
            return false;
        }
        let until = u64::try_from((self.0.began.elapsed() + lasts).as_micros()).unwrap_or(u64::MAX);
        self.0.until.fetch_max(until, Relaxed);
        true
    }

    /// When to read again, if not now.
    fn until(&self) -> Option<Instant> {
        let until = self.0.until.load(Relaxed);
        if until == 0 {
            return None;
        }
        let until = self.0.began + Duration::from_micros(until);
        (until > Instant::now()).then_some(until)
    }
}

/// The connection itself.
#[derive(Debug)]
pub(super) struct Quietable<T> {
    inner: T,
    quiet: Quiet,
    /// While it is quiet.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<T> Quietable<T> {
    pub(super) const fn new(inner: T, quiet: Quiet) -> Self {
        Self { inner, quiet, sleep: None }
    }

    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(until) = self.quiet.until() {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            if sleep.deadline() != until {
                sleep.as_mut().reset(until);
            }
            ready!(sleep.as_mut().poll(cx));
        }
        self.sleep = None;
        Poll::Ready(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Quietable<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_heard(cx));
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Quietable<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, buffers)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_until_its_end_and_everything_after_it() {
        let (mut caller, server) = tokio::io::duplex(64);
        let quiet = Quiet::new();
        let mut server = Quietable::new(server, quiet.clone());
        let mut read = [0; 3];
        caller.write_all(b"one").await.unwrap();
        server.read_exact(&mut read).await.unwrap();

        let began = Instant::now();
        assert!(quiet.begin(SECOND));
        assert!(quiet.begin(SECOND / 2), "the later end counts");
        caller.write_all(b"two").await.unwrap();
        // It is written to all the while.
        server.write_all(b"yes").await.unwrap();
        caller.read_exact(&mut read).await.unwrap();
        assert_eq!((&read, began.elapsed()), (b"yes", Duration::ZERO));
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"two");
        let waited = began.elapsed();
        assert!(waited >= SECOND && waited < SECOND + Duration::from_millis(5), "{waited:?}");

        caller.write_all(b"now").await.unwrap();
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(began.elapsed(), waited);
    }

    #[tokio::test]
    async fn a_connection_that_many_share_is_always_read() {
        let quiet = Quiet::new();
        for user in [7, 8, 7, 8] {
            quiet.called(User(user));
        }
        assert!(quiet.begin(SECOND), "a stranger, and the account that he got");
        assert!(quiet.until().is_some());
        quiet.called(User(9));
        assert!(!quiet.begin(SECOND * 60));
        assert!(quiet.until().unwrap() <= Instant::now() + SECOND, "what had begun goes on");
    }
}
