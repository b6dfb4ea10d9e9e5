//! A TCP connection that the event loop need not watch.
//!
//! What arrives on a socket that is watched wakes a thread, whether anybody wants to read it or not. Under a flood from callers who are
//! not heard that is most of what they cost. So while nobody reads, the socket is taken out of the event loop: the kernel keeps what
//! fits into its buffer, and says nothing. Writing goes on meanwhile.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What need not be watched while nobody reads.
pub(super) trait Unwatch {
    /// Until a read has to wait. What arrives, and that the other side has gone, is noticed then.
    fn unwatch(&mut self);

    /// Bytes that have come and were not read, if that is known.
    fn unread(&self) -> Option<usize>;
}

/// Watched again by the first read or write that has to wait.
#[derive(Debug)]
pub(super) struct Socket(State);

#[derive(Debug)]
enum State {
    Watched(TcpStream),
    Unwatched(std::net::TcpStream),
    /// The event loop did not take it in or give it back.
    Lost,
}

impl Socket {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self(State::Watched(stream))
    }

    fn watched(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if matches!(self.0, State::Unwatched(_))
            && let State::Unwatched(stream) = std::mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Watched(TcpStream::from_std(stream)?);
        }
        match &mut self.0 {
            State::Watched(stream) => Ok(Pin::new(stream)),
            State::Unwatched(_) | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// What an operation on the socket says, if it is not watched and does not have to wait.
    fn at_once(
        &mut self,
        operation: impl FnOnce(&mut std::net::TcpStream) -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let State::Unwatched(stream) = &mut self.0 else { return None };
        match operation(stream) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                None
            }
            outcome => Some(outcome),
        }
    }
}

impl Unwatch for Socket {
    fn unwatch(&mut self) {
        if matches!(self.0, State::Watched(_))
            && let State::Watched(stream) = std::mem::replace(&mut self.0, State::Lost)
            && let Ok(stream) = stream.into_std()
        {
            self.0 = State::Unwatched(stream);
        }
    }

    fn unread(&self) -> Option<usize> {
        let State::Unwatched(stream) = &self.0 else { return None };
        rustix::io::ioctl_fionread(stream).ok()?.try_into().ok()
    }
}

impl<S: Unwatch> Unwatch for TlsStream<S> {
    fn unwatch(&mut self) {
        self.get_mut().0.unwatch();
    }

    fn unread(&self) -> Option<usize> {
        self.get_ref().0.unread()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // An event loop that has just taken it in says that there is nothing, until it knows better.
        match self.at_once(|stream| stream.read(buffer.initialize_unfilled())) {
            Some(read) => {
                buffer.advance(read?);
                Poll::Ready(Ok(()))
            }
            None => self.watched()?.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.at_once(|stream| stream.write(bytes)) {
            Some(outcome) => Poll::Ready(outcome),
            None => self.watched()?.poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.at_once(|stream| stream.write_vectored(buffers)) {
            Some(outcome) => Poll::Ready(outcome),
            None => self.watched()?.poll_write_vectored(cx, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is kept here.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (caller, Socket::new(listener.accept().await.unwrap().0))
    }

    const fn is_watched(socket: &Socket) -> bool {
        matches!(socket.0, State::Watched(_))
    }

    #[tokio::test]
    async fn what_came_while_nobody_watched_is_read_afterwards() {
        let (mut caller, mut socket) = pair().await;
        assert_eq!(socket.unread(), None, "it is not kept from anybody");
        let mut read = [0; 3];
        for _ in 0..3 {
            assert!(futures::poll!(Box::pin(socket.read_exact(&mut read))).is_pending());
            socket.unwatch();
            assert_eq!(socket.unread(), Some(0));
            caller.write_all(b"one").await.unwrap();
            assert_eq!((socket.unread(), is_watched(&socket)), (Some(3), false));
            socket.read_exact(&mut read).await.unwrap();
            assert_eq!((&read, is_watched(&socket)), (b"one", false));
            assert!(futures::poll!(Box::pin(socket.read_exact(&mut read))).is_pending());
            caller.write_all(b"two").await.unwrap();
            socket.read_exact(&mut read).await.unwrap();
            assert_eq!((&read, is_watched(&socket)), (b"two", true));
        }
        socket.unwatch();
        drop(caller);
        assert_eq!(socket.read(&mut read).await.unwrap(), 0, "the caller has gone");
    }

    #[tokio::test]
    async fn it_is_written_to_unwatched_as_far_as_there_is_room() {
        let (mut caller, mut socket) = pair().await;
        socket.unwatch();
        socket.write_all(b"yes").await.unwrap();
        assert!(!is_watched(&socket));
        let much = vec![7; 32 * 1024 * 1024];
        let (written, read) = tokio::join!(
            async {
                socket.write_all(&much).await.unwrap();
                socket.shutdown().await.unwrap();
            },
            async {
                let mut read = Vec::new();
                caller.read_to_end(&mut read).await.unwrap();
                read
            }
        );
        assert_eq!((written, read.len()), ((), 3 + much.len()));
        assert!(is_watched(&socket), "it had to wait");
    }
}
