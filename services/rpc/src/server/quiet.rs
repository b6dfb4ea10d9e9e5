//! A connection that is not read for a while.
//!
//! Reading and taking apart what a caller sends is most of what a refusal costs, and at ten times the capacity it is more than there
//! is. What stays unread costs nothing: it waits in the kernel's buffer, [unwatched](super::socket), then in the caller's, and what has
//! waited is read and answered at once, with one system call each. So a caller who does not listen is not listened to
//! ([`Deaf`](spillway_admission::Deaf) decides, [`admit`](crate::admit) asks for it).
//!
//! He is heard again once he is [welcome](spillway_admission::Unheard::is_welcome), which is looked at every now and then, and after
//! [`MOST`] in any case. A little is read at first, a call or two. If that is refused as well, the rest stays where it is.
//!
//! Who was not heard for twice as long as he waits for an answer, and has said much, has said most of it for nothing. His connection is
//! closed instead: to begin a new one costs less than to read and refuse what lies in the old one. That counts only where no call is
//! open, such as a session.
//!
//! The rest of a call that was let in is read in any case, and along with it what comes before that.
//!
//! What he says meanwhile is offered load all the same, and is counted as that: by the bytes that lie unread, and when those are too many
//! to count by what he said when they were not. Otherwise the gate would believe that the crowd has gone, and open to it.
//!
//! Not on a connection that more than two users share (two, because a device is a stranger before it has signed up): that of a
//! proxy would keep all for what one does.

mod asked;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::task::AtomicWaker;
use spillway_admission::User;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::activity::Activity;
use super::socket::Unwatch;
use asked::{Asked, Look};

/// Of a silence, and until the next look whether its caller is welcome: less than anybody notices.
const LEAST: Duration = Duration::from_millis(250);
/// The longest silence. Somebody may have left, or ask for something else, and only what he says shows it.
const MOST: Duration = Duration::from_secs(8);
/// What is read at first after a silence: a call with a short message, or two without.
const PROBE_BYTES: usize = 1_024;
/// Of what it would be, at least: those who were told together do not come together for ever.
const SPREAD: f64 = 0.7;

/// One connection's. Clones are handles on the same.
#[derive(Clone, Debug)]
pub(crate) struct Quiet(Arc<Inner>);

/// What the gate has to do with a caller who is not heard.
pub(crate) trait Unheard: Send + Sync + 'static {
    /// He asks for so many seats a second, as far as is known.
    fn offers(&mut self, seats_per_second: f64);

    /// Whether he is to be heard.
    fn is_welcome(&self) -> bool;
}

struct Inner {
    began: Instant,
    asked: Mutex<Asked>,
    /// In microseconds since `began`; 0: it was never quiet.
    until: AtomicU64,
    /// Who has called here, as far as two. 0: nobody.
    users: [AtomicU64; 2],
    /// There was a third.
    shared: AtomicBool,
    /// Since when something may have been left unread, in microseconds since `began`, or [`DRAINED`].
    drained: AtomicU64,
    /// The last read found nothing more.
    empty: AtomicBool,
    /// A probe has been read whose calls have not been polled yet.
    probing: AtomicBool,
    given_up: AtomicBool,
    /// Calls that were let in before all of their first message was read.
    awaited: AtomicU32,
    /// The connection's task, while it does not read.
    reader: AtomicWaker,
}

/// A call of the connection was let in, and not all of its first message has been read.
#[derive(Debug)]
pub(crate) struct Awaited(Quiet);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.0.awaited.fetch_sub(1, Relaxed);
    }
}

/// Nothing has been left unread since.
const DRAINED: u64 = u64::MAX;

impl Quiet {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            began: Instant::now(),
            asked: Mutex::default(),
            until: AtomicU64::default(),
            users: Default::default(),
            shared: AtomicBool::default(),
            drained: AtomicU64::new(DRAINED),
            empty: AtomicBool::default(),
            probing: AtomicBool::default(),
            given_up: AtomicBool::default(),
            awaited: AtomicU32::default(),
            reader: AtomicWaker::new(),
        };
        Self(Arc::new(inner))
    }

    /// A call of this user came over the connection, and asks for so many seats.
    pub(crate) fn called(&self, user: User, seats: u32) {
        self.0.asked().count((!self.is_behind()).then(|| self.0.began.elapsed()), seats);
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

    /// The connection is read until what this returns is dropped.
    pub(crate) fn awaits(&self) -> Awaited {
        self.0.awaited.fetch_add(1, Relaxed);
        self.0.reader.wake();
        Awaited(self.clone())
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.0.awaited.load(Relaxed) > 0
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
        if self.0.empty.load(Relaxed) && self.0.drained.swap(DRAINED, Relaxed) != DRAINED {
            self.0.asked().begin(self.0.began.elapsed());
        }
    }

    /// Reads nothing for a moment from now on, `first` at most, and then until the caller is welcome. False, and nothing happens, where
    /// others would wait along. `patience`: for how long he waits for an answer.
    pub(crate) fn begin(&self, first: Duration, patience: Duration, caller: impl Unheard) -> bool {
        if self.0.shared.load(Relaxed) {
            return false;
        }
        let now = self.0.began.elapsed();
        let until = self.0.until.load(Relaxed);
        if Duration::from_micros(until) > now {
            // Of a batch only the first counts.
            return true;
        }
        let lasts = LEAST.min(first).mul_f64(rand::random_range(SPREAD..=1.0));
        self.0.until.store(micros(now + lasts), Relaxed);
        self.0.asked().fall_silent(now, self.is_behind(), patience, caller);
        self.0.empty.store(false, Relaxed);
        // Later silences leave what this one leaves.
        self.0.drained.fetch_min(micros(now), Relaxed);
        true
    }

    /// Looks at a silence that is over. False when he is to be heard again.
    fn goes_on(&self, unread: Option<usize>) -> bool {
        let now = self.0.began.elapsed();
        let since = self.0.drained.load(Relaxed);
        let unread = unread.filter(|_| since != DRAINED).map(|bytes| (bytes, Duration::from_micros(since)));
        match self.0.asked().look(now, unread) {
            Look::Again(next) => {
                self.0.until.store(micros(now + next), Relaxed);
                true
            }
            Look::Hear => false,
            Look::GiveUp => {
                self.0.given_up.store(true, Relaxed);
                false
            }
        }
    }

    /// What was unread was not worth reading.
    pub(super) fn is_given_up(&self) -> bool {
        self.0.given_up.load(Relaxed)
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

impl Inner {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        // Whole at any time.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("until", &self.until)
            .field("drained", &self.drained)
            .finish_non_exhaustive()
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
    activity: Arc<Activity>,
}

impl<T> Quietable<T> {
    pub(super) const fn new(inner: T, quiet: Quiet, activity: Arc<Activity>) -> Self {
        Self { inner, quiet, sleep: None, probes: false, activity }
    }
}

impl<T: Unwatch> Quietable<T> {
    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let until = self.quiet.until();
            if until.is_some() && self.quiet.is_awaited() {
                // In small pieces: what else comes is not worth reading.
                self.sleep = None;
                self.probes = true;
                break;
            }
            if let Some(until) = until {
                let sleep = self.sleep.get_or_insert_with(|| {
                    self.inner.unwatch();
                    Box::pin(tokio::time::sleep_until(until))
                });
                if sleep.deadline() != until {
                    sleep.as_mut().reset(until);
                }
                if sleep.as_mut().poll(cx).is_pending() {
                    self.quiet.0.reader.register(cx.waker());
                    // Or it was missed.
                    if !self.quiet.is_awaited() {
                        return Poll::Pending;
                    }
                }
            } else if self.sleep.is_none() || !self.quiet.goes_on(self.inner.unread()) {
                break;
            }
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

impl<T: AsyncRead + Unwatch + Unpin> AsyncRead for Quietable<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_heard(cx));
        // A call that is open, such as a session, is not given up for others that are late.
        if self.quiet.is_given_up() && self.activity.is_idle() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.quiet.0.given_up.store(false, Relaxed);
        let before = buffer.filled().len();
        let read = if self.probes {
            self.poll_probe(cx, buffer)
        } else {
            Pin::new(&mut self.inner).poll_read(cx, buffer)
        };
        self.quiet.0.empty.store(read.is_pending(), Relaxed);
        self.quiet.0.asked().read(buffer.filled().len() - before);
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::asked::{LOOK_MOST, UNREAD_MOST};
    use super::*;

    impl Unwatch for DuplexStream {
        fn unwatch(&mut self) {}

        fn unread(&self) -> Option<usize> {
            None
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// With so many bytes that were not read.
    struct Counted(DuplexStream, usize);

    impl Unwatch for Counted {
        fn unwatch(&mut self) {}

        fn unread(&self) -> Option<usize> {
            Some(self.1)
        }
    }

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    /// Keeps what he asks for, in thousandths of a seat.
    #[derive(Clone, Default)]
    struct Caller {
        offers: Arc<AtomicU32>,
        welcome_from: Option<Instant>,
    }

    impl Unheard for Caller {
        fn offers(&mut self, seats_per_second: f64) {
            self.offers.store((seats_per_second * 1_000.0) as u32, Relaxed);
        }

        fn is_welcome(&self) -> bool {
            self.welcome_from.is_none_or(|from| Instant::now() >= from)
        }
    }

    fn welcome() -> Caller {
        Caller::default()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_until_its_end_and_everything_after_it() {
        let (mut caller, server) = tokio::io::duplex(64);
        let quiet = Quiet::new();
        let mut server = Quietable::new(server, quiet.clone(), Arc::default());
        let mut read = [0; 3];
        caller.write_all(b"one").await.unwrap();
        server.read_exact(&mut read).await.unwrap();

        let began = Instant::now();
        assert!(quiet.begin(SECOND, MOST, welcome()));
        assert!(quiet.begin(SECOND, MOST, welcome()), "the same silence");
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
        let mut server = Quietable::new(server, quiet.clone(), Arc::default());
        let mut read = [0; 8 * PROBE_BYTES];
        for _ in 0..2 {
            // What the probe brought is refused as well.
            quiet.begin(SECOND, MOST, welcome());
            quiet.polled();
            caller.write_all(&[7; 2 * PROBE_BYTES]).await.unwrap();
            assert_eq!(server.read(&mut read).await.unwrap(), PROBE_BYTES);
        }
        quiet.polled();
        assert_eq!(server.read(&mut read).await.unwrap(), 2 * PROBE_BYTES, "the rest");
    }

    #[tokio::test]
    async fn a_connection_that_many_share_is_always_read() {
        let quiet = Quiet::new();
        for user in [7, 8, 7, 8] {
            quiet.called(User(user), 1);
        }
        assert!(quiet.begin(SECOND, MOST, welcome()), "a stranger, and the account that he got");
        assert!(quiet.until().is_some());
        quiet.called(User(9), 1);
        assert!(!quiet.begin(SECOND * 60, MOST, welcome()));
        assert!(quiet.until().unwrap() <= Instant::now() + LEAST, "what had begun goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_welcome_is_not_heard_until_he_is_or_for_as_long_as_may_be() {
        for (welcome_after, heard_after) in [(SECOND, SECOND), (MOST * 2, MOST)] {
            let (mut caller, server) = tokio::io::duplex(64);
            let quiet = Quiet::new();
            let mut server = Quietable::new(server, quiet.clone(), Arc::default());
            let began = Instant::now();
            quiet.called(User(7), 1);
            assert!(quiet.begin(
                MOST,
                MOST,
                Caller { welcome_from: Some(began + welcome_after), ..welcome() }
            ));
            caller.write_all(b"one").await.unwrap();
            server.read_exact(&mut [0; 3]).await.unwrap();
            let waited = began.elapsed();
            assert!(waited >= heard_after && waited <= heard_after + LOOK_MOST, "{waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_heard_is_counted_as_he_was_when_he_was_heard() {
        let quiet = Quiet::new();
        for _ in 0..20 {
            tokio::time::sleep(SECOND / 20).await;
            quiet.called(User(7), 2);
        }
        let caller = Caller::default();
        let offers = || caller.offers.load(Relaxed);
        assert!(quiet.begin(MOST, MOST, caller.clone()));
        assert!((39_000..=41_000).contains(&offers()), "{}", offers());
        // Nothing is known of what he says now.
        caller.offers.store(0, Relaxed);
        tokio::time::sleep(SECOND).await;
        assert!(quiet.begin(MOST, MOST, caller.clone()));
        assert!((39_000..=41_000).contains(&offers()), "{}", offers());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_much_that_is_too_late_is_closed_unless_a_call_is_open() {
        for (patience, unread, open, closed) in [
            (SECOND, UNREAD_MOST, false, true),
            (SECOND, UNREAD_MOST, true, false),
            (SECOND, UNREAD_MOST - 1, false, false),
            (MOST, UNREAD_MOST, false, false),
        ] {
            let (mut caller, server) = tokio::io::duplex(64);
            caller.write_all(b"one").await.unwrap();
            let (quiet, activity) = (Quiet::new(), Arc::<Activity>::default());
            let mut server = Quietable::new(Counted(server, unread), quiet.clone(), Arc::clone(&activity));
            let _call = open.then(|| activity.begin());
            let welcome_from = Some(Instant::now() + SECOND * 3);
            assert!(quiet.begin(SECOND, patience, Caller { welcome_from, ..welcome() }));
            let read = server.read_exact(&mut [0; 3]).await.map_err(|error| error.kind());
            let expected = if closed { Err(io::ErrorKind::ConnectionAborted) } else { Ok(3) };
            assert_eq!((read, quiet.is_given_up()), (expected, closed), "{patience:?} {unread} {open}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_call_that_was_let_in_is_read_and_no_more() {
        let (mut caller, server) = tokio::io::duplex(4 * PROBE_BYTES);
        let quiet = Quiet::new();
        let mut server = Quietable::new(server, quiet.clone(), Arc::default());
        caller.write_all(&[7; 3 * PROBE_BYTES]).await.unwrap();
        assert!(quiet.begin(MOST, MOST, welcome()));
        let mut read = vec![0; 4 * PROBE_BYTES];
        let began = Instant::now();
        let (first, awaited) =
            tokio::join!(server.read(&mut read), async { [quiet.awaits(), quiet.awaits()] });
        assert_eq!(first.unwrap(), PROBE_BYTES, "it is woken");
        quiet.polled();
        let [one, two] = awaited;
        drop(one);
        assert_eq!(server.read(&mut read).await.unwrap(), PROBE_BYTES);
        quiet.polled();
        drop(two);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(futures::poll!(Box::pin(server.read(&mut read))).is_pending(), "the silence goes on");
        assert_eq!(server.read(&mut read).await.unwrap(), PROBE_BYTES);
        assert!(began.elapsed() > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_heard_to_the_end_is_not_counted_besides() {
        let (_caller, server) = tokio::io::duplex(64);
        let (quiet, caller) = (Quiet::new(), Caller::default());
        let mut server = Quietable::new(server, quiet.clone(), Arc::default());
        // Over before anybody has noticed.
        assert!(quiet.begin(Duration::ZERO, MOST, caller.clone()));
        assert_eq!(Arc::strong_count(&caller.offers), 2);
        assert!(futures::poll!(Box::pin(server.read_exact(&mut [0; 1]))).is_pending());
        quiet.polled();
        assert_eq!(Arc::strong_count(&caller.offers), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_heard_is_counted_by_what_lies_unread() {
        let quiet = Quiet::new();
        let caller = Caller { welcome_from: Some(Instant::now() + MOST), ..welcome() };
        let offers = || caller.offers.load(Relaxed);
        // Two calls of 500 bytes.
        for _ in 0..2 {
            quiet.0.asked().read(500);
            quiet.called(User(7), 1);
        }
        assert!(quiet.begin(MOST, MOST, caller.clone()));
        tokio::time::sleep(SECOND).await;
        assert!(quiet.goes_on(Some(10_000)));
        assert!((19_000..=21_000).contains(&offers()), "{}", offers());
        tokio::time::sleep(SECOND).await;
        assert!(quiet.goes_on(Some(UNREAD_MOST)));
        assert!((19_000..=21_000).contains(&offers()), "the buffer is full");
    }
}
