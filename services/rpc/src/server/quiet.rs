//! A connection that is not read for a while.
//!
//! Reading and taking apart what a caller sends is most of what a refusal costs, and at ten times the capacity it is more than there
//! is. What stays unread costs nothing: it waits in the kernel's buffer, then in the caller's, and what has waited is read and
//! answered at once, with one system call each. So a caller who does not listen is not listened to
//! ([`Deaf`](spillway_admission::Deaf) decides, [`admit`](crate::admit) asks for it).
//!
//! The first time it is a quarter of a second, less than anybody notices. Each time that he is sent away again, without
//! a call of his having been let in, it is twice as long: near its capacity a service refuses for moments, and who was refused in one
//! of them is not kept out of the next, while at ten times it even what is read in a batch costs more than there is.
//!
//! Not on a connection that more than two users share (two, because a device is a stranger before it has signed up): that of a
//! proxy would keep all for what one does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use spillway_admission::User;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The first silence.
const LEAST: Duration = Duration::from_millis(250);
/// The longest. So long after the last overload everybody is heard.
const MOST: Duration = Duration::from_secs(8);
/// Of what it would be, at least: those who were told together do not come together for ever.
const SPREAD: f64 = 0.7;

/// One connection's. Clones are handles on the same.
#[derive(Clone, Debug)]
pub(crate) struct Quiet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    /// In microseconds since `began`; 0: it was never quiet.
    until: AtomicU64,
    /// The last silence, in microseconds.
    lasts: AtomicU64,
    /// Who has called here, as far as two. 0: nobody.
    users: [AtomicU64; 2],
    /// There was a third.
    shared: AtomicBool,
    /// Silences since the last call that was let in.
    silences: AtomicU32,
    /// How long the silence was after which the calls were read that are being polled now, in microseconds.
    unread_for: AtomicU64,
}

impl Quiet {
    pub(super) fn new() -> Self {
        let inner = Inner {
            began: Instant::now(),
            until: AtomicU64::default(),
            lasts: AtomicU64::default(),
            users: Default::default(),
            shared: AtomicBool::default(),
            silences: AtomicU32::default(),
            unread_for: AtomicU64::default(),
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
        self.0.shared.store(true, Relaxed);
    }

    /// A call was let in.
    pub(crate) fn let_in(&self) {
        if self.0.silences.load(Relaxed) != 0 {
            self.0.silences.store(0, Relaxed);
        }
    }

    /// How long ago the calls that are being polled may have been made, beside what the network took: of what was said into a silence
    /// the buffer keeps the beginning.
    pub(crate) fn unread_for(&self) -> Duration {
        Duration::from_micros(self.0.unread_for.load(Relaxed))
    }

    /// All that was read has been polled.
    pub(super) fn caught_up(&self) {
        self.0.unread_for.store(0, Relaxed);
    }

    /// Reads nothing for a while from now on, `most` at most. False, and nothing happens, where others would wait along.
    pub(crate) fn begin(&self, most: Duration) -> bool {
        if self.0.shared.load(Relaxed) {
            return false;
        }
        let now = self.0.began.elapsed();
        let until = self.0.until.load(Relaxed);
        if Duration::from_micros(until) > now {
            // Of a batch only the first counts.
            return true;
        }
        let silences = self.0.silences.fetch_add(1, Relaxed);
        let lasts = LEAST.saturating_mul(1 << silences.min(16)).min(MOST).min(most);
        let lasts = lasts.mul_f64(rand::random_range(SPREAD..=1.0));
        self.0.until.store(micros(now + lasts), Relaxed);
        self.0.lasts.store(micros(lasts), Relaxed);
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
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
        if self.sleep.take().is_some() {
            let lasted = self.quiet.0.lasts.load(Relaxed);
            self.quiet.0.unread_for.store(lasted, Relaxed);
        }
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
        assert!(quiet.begin(SECOND), "the same silence");
        caller.write_all(b"two").await.unwrap();
        // It is written to all the while.
        server.write_all(b"yes").await.unwrap();
        caller.read_exact(&mut read).await.unwrap();
        assert_eq!((&read, began.elapsed()), (b"yes", Duration::ZERO));
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"two");
        let waited = began.elapsed();
        assert!(quiet.unread_for() >= LEAST.mul_f64(SPREAD) && quiet.unread_for() <= waited);
        quiet.caught_up();
        assert_eq!(quiet.unread_for(), Duration::ZERO);
        assert!(waited >= LEAST.mul_f64(SPREAD) && waited < LEAST + Duration::from_millis(5), "{waited:?}");

        caller.write_all(b"now").await.unwrap();
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(began.elapsed(), waited);
    }

    #[tokio::test(start_paused = true)]
    async fn silences_get_longer_until_a_call_is_let_in() {
        let quiet = Quiet::new();
        let silence = async |most| {
            let began = Instant::now();
            assert!(quiet.begin(most));
            tokio::time::sleep_until(quiet.until().unwrap()).await;
            began.elapsed()
        };
        let within = |lasted: Duration, due: Duration| {
            assert!(
                lasted >= due.mul_f64(SPREAD) && lasted <= due + Duration::from_millis(5),
                "{lasted:?}, {due:?}"
            );
        };
        for due in [1, 2, 4, 8, 16, 32, 32].map(|times| LEAST * times) {
            within(silence(MOST * 2).await, due);
        }
        within(silence(SECOND).await, SECOND);
        quiet.let_in();
        within(silence(MOST).await, LEAST);
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
        assert!(quiet.until().unwrap() <= Instant::now() + LEAST, "what had begun goes on");
    }
}
