//! A connection that is not read for a while.
//!
//! Reading and taking apart what a caller sends is most of what a refusal costs, and at ten times the capacity it is more than there
//! is. What stays unread costs nothing: it waits in the kernel's buffer, then in the caller's, and what has waited is read and
//! answered at once, with one system call each. So a caller who does not listen is not listened to
//! ([`Deaf`](spillway_admission::Deaf) decides, [`admit`](crate::admit) asks for it).
//!
//! The first time it is a quarter of a second, less than anybody notices. Each time that he is sent away again, before he has been
//! served for as long as he was not heard, it is twice as long: near its capacity a service refuses for moments, and who was refused in one
//! of them is not kept out of the next, while at ten times it even what is read in a batch costs more than there is.
//!
//! When it is over, a little is read at first, a call or two. If that is refused as well, the rest stays where it is; a whole batch
//! would cost ten times as much to learn the same.
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
/// What is read at first after a silence: a call with a short message, or two without.
const PROBE_BYTES: usize = 1_024;
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
    /// Silences since the caller was last served for a while.
    silences: AtomicU32,
    /// Since when something may have been left unread, in microseconds since `began`, or [`DRAINED`].
    drained: AtomicU64,
    /// The last read found nothing more.
    empty: AtomicBool,
    /// A probe has been read whose calls have not been polled yet.
    probing: AtomicBool,
}

/// Nothing has been left unread since.
const DRAINED: u64 = u64::MAX;

impl Quiet {
    pub(super) fn new() -> Self {
        let inner = Inner {
            began: Instant::now(),
            until: AtomicU64::default(),
            lasts: AtomicU64::default(),
            users: Default::default(),
            shared: AtomicBool::default(),
            silences: AtomicU32::default(),
            drained: AtomicU64::new(DRAINED),
            empty: AtomicBool::default(),
            probing: AtomicBool::default(),
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

    /// A call was let in. That ends the streak of silences only after as long a time in which nobody was sent away as the last one
    /// took: a service that is quiet because hardly anybody is heard lets some of the next ones in, and they would all be back at
    /// once.
    pub(crate) fn let_in(&self) {
        if self.0.silences.load(Relaxed) == 0 {
            return;
        }
        let good_for = micros(self.0.began.elapsed()).saturating_sub(self.0.until.load(Relaxed));
        if good_for >= self.0.lasts.load(Relaxed) {
            self.0.silences.store(0, Relaxed);
        }
    }

    /// How long ago the calls that are being polled may have been made, beside what the network took: of what was said into silences
    /// the buffer keeps the beginning.
    pub(crate) fn unread_for(&self) -> Duration {
        match self.0.drained.load(Relaxed) {
            DRAINED => Duration::ZERO,
            since => self.0.began.elapsed().saturating_sub(Duration::from_micros(since)),
        }
    }

    /// Whether calls that are read now may have waited for longer than the network took.
    pub(crate) fn is_behind(&self) -> bool {
        self.0.drained.load(Relaxed) != DRAINED
    }

    /// All calls that were read have been polled.
    pub(super) fn polled(&self) {
        self.0.probing.store(false, Relaxed);
        if self.0.empty.load(Relaxed) {
            self.0.drained.store(DRAINED, Relaxed);
        }
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
        self.0.empty.store(false, Relaxed);
        // Later silences leave what this one leaves.
        self.0.drained.fetch_min(micros(now), Relaxed);
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
    /// Nothing has been read since it was.
    probes: bool,
}

impl<T> Quietable<T> {
    pub(super) const fn new(inner: T, quiet: Quiet) -> Self {
        Self { inner, quiet, sleep: None, probes: false }
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
            self.probes = true;
        }
        if self.quiet.0.probing.load(Relaxed) {
            // The connection's task polls what it has read before it asks again.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl<T: AsyncRead + Unpin> Quietable<T> {
    fn poll_probe(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut probe = [0; PROBE_BYTES];
        let most = buffer.remaining().min(PROBE_BYTES);
        let mut read = ReadBuf::new(&mut probe[..most]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut read))?;
        buffer.put_slice(read.filled());
        self.probes = false;
        self.quiet.0.probing.store(true, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Quietable<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_heard(cx));
        let read = if self.probes {
            self.poll_probe(cx, buffer)
        } else {
            Pin::new(&mut self.inner).poll_read(cx, buffer)
        };
        self.quiet.0.empty.store(read.is_pending(), Relaxed);
        read
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
        assert_eq!(quiet.unread_for(), waited);
        assert!(waited >= LEAST.mul_f64(SPREAD) && waited < LEAST + Duration::from_millis(5), "{waited:?}");

        caller.write_all(b"now").await.unwrap();
        assert!(
            futures::poll!(Box::pin(server.read_exact(&mut read))).is_pending(),
            "not before it is polled"
        );
        quiet.polled();
        assert_eq!(quiet.unread_for(), waited, "there may be more");
        server.read_exact(&mut read).await.unwrap();
        assert!(futures::poll!(Box::pin(server.read_exact(&mut read))).is_pending());
        quiet.polled();
        assert_eq!((began.elapsed(), quiet.unread_for()), (waited, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn little_is_read_after_a_silence_and_everything_once_that_was_let_in() {
        let (mut caller, server) = tokio::io::duplex(16 * PROBE_BYTES);
        let quiet = Quiet::new();
        let mut server = Quietable::new(server, quiet.clone());
        let mut read = [0; 8 * PROBE_BYTES];
        for _ in 0..2 {
            // What the probe brought is refused as well.
            quiet.begin(SECOND);
            quiet.polled();
            caller.write_all(&[7; 2 * PROBE_BYTES]).await.unwrap();
            assert_eq!(server.read(&mut read).await.unwrap(), PROBE_BYTES);
        }
        quiet.polled();
        assert_eq!(server.read(&mut read).await.unwrap(), 2 * PROBE_BYTES, "the rest");
    }

    #[tokio::test(start_paused = true)]
    async fn silences_get_longer_until_calls_are_let_in_for_as_long() {
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
        within(silence(SECOND).await, SECOND);
        tokio::time::sleep(SECOND).await;
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
