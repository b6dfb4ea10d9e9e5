//! Messages on a stream with stream management (XEP-0198).
//!
//! The sender asks the server after each message how many of its stanzas it has taken over, and a send is answered when the count has reached its own.
//! The receiver says after each message how many stanzas it has taken. Both count from the moment stream management was enabled.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use quick_xml::escape::escape;
use spillway_types::Guid;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Names;
use super::element::{Element, Elements};
use super::login::{STREAM_MANAGEMENT, Stream, ended};
use crate::peer::{Incoming, Mail, Outgoing, PeerError, Session};

/// What may wait to be written.
const WRITES: usize = 1_024;
/// What may wait to be taken; more stays in the kernel.
const MAIL: usize = 1_024;

#[derive(Debug)]
struct Outbox {
    shared: Arc<Shared>,
    names: Names,
    /// What has been sent is still answered when mail is not taken any more.
    _tasks: Arc<JoinSet<()>>,
}

#[derive(Debug)]
struct Inbox {
    shared: Arc<Shared>,
    mail: mpsc::Receiver<Numbered>,
    /// Handed over, and not acknowledged.
    last: Option<u32>,
    /// The connection ends with them.
    _tasks: Arc<JoinSet<()>>,
}

/// A message, and which one of the stanzas that came it was.
#[derive(Debug)]
struct Numbered(u32, Mail);

#[derive(Debug)]
struct Shared {
    writes: mpsc::Sender<String>,
    sent: Mutex<Sent>,
    /// Stanzas that were taken.
    taken: AtomicU32,
    /// Messages that came and were not taken.
    waiting: AtomicU32,
}

/// Stanzas of ours, and who waits to hear that the server has them.
#[derive(Debug, Default)]
struct Sent {
    count: u32,
    acks: VecDeque<(u32, oneshot::Sender<()>)>,
    /// Nobody will hear anything any more.
    is_over: bool,
}

/// Ends the waits when the stream ends, however it does.
struct Ending(Arc<Shared>);

/// Enables stream management, and is available from then on.
pub(super) async fn begin(mut stream: Stream, names: Names) -> Result<Session, PeerError> {
    stream.write(&format!("<enable xmlns='{STREAM_MANAGEMENT}'/>")).await?;
    loop {
        let answer = stream.next().await?;
        if answer.is("enabled", STREAM_MANAGEMENT) {
            break;
        }
        if answer.is("failed", STREAM_MANAGEMENT) || answer.name == "error" {
            let why = format!("{}; the server needs stream management (mod_stream_mgmt)", answer.condition());
            return Err(PeerError::failed("enable stream management (XEP-0198)", "stream_management", why));
        }
    }
    // The first stanza that counts.
    stream.write("<presence/>").await?;
    let (writes, to_write) = mpsc::channel(WRITES);
    let sent = Mutex::new(Sent { count: 1, ..Sent::default() });
    let shared = Arc::new(Shared { writes, sent, taken: AtomicU32::new(0), waiting: AtomicU32::new(0) });
    let (to_mail, mail) = mpsc::channel(MAIL);
    let mut tasks = JoinSet::new();
    tasks.spawn(write(stream.writer, to_write));
    tasks.spawn(read(stream.elements, shared.clone(), to_mail));
    let tasks = Arc::new(tasks);
    let outgoing = Arc::new(Outbox { shared: shared.clone(), names, _tasks: tasks.clone() });
    Ok(Session { outgoing, incoming: Box::new(Inbox { shared, mail, last: None, _tasks: tasks }) })
}

#[async_trait]
impl Outgoing for Outbox {
    async fn send(&self, to: u32, id: Guid, content: Vec<u8>) -> Result<(), PeerError> {
        let closed = || PeerError::failed("send", "closed", "the stream has ended");
        let message = format!(
            "<message to='{}' id='{id}' type='chat'><body>{}</body></message><r xmlns='{STREAM_MANAGEMENT}'/>",
            escape(self.names.address(to)),
            BASE64_STANDARD.encode(content)
        );
        let place = self.shared.writes.reserve().await.map_err(|_| closed())?;
        let acked = {
            // Numbers and what is written are in the same order.
            let mut sent = self.shared.sent();
            if sent.is_over {
                return Err(closed());
            }
            sent.count = sent.count.wrapping_add(1);
            let (sender, acked) = oneshot::channel();
            let number = sent.count;
            sent.acks.push_back((number, sender));
            place.send(message);
            acked
        };
        acked.await.map_err(|_| closed())
    }
}

#[async_trait]
impl Incoming for Inbox {
    async fn next(&mut self) -> Result<Mail, PeerError> {
        let next = self.mail.recv().await;
        let Numbered(number, mail) =
            next.ok_or_else(|| PeerError::failed("receive", "closed", "the stream has ended"))?;
        self.last = Some(number);
        Ok(mail)
    }

    async fn ack(&mut self) -> Result<(), PeerError> {
        let Some(number) = self.last.take() else { return Ok(()) };
        self.shared.taken.store(number, Relaxed);
        self.shared.waiting.fetch_sub(1, Relaxed);
        let count = self.shared.count_of_taken();
        let written = self.shared.writes.send(count).await;
        written.map_err(|_| PeerError::failed("acknowledge", "closed", "the stream has ended"))
    }
}

impl Shared {
    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_of_taken(&self) -> String {
        format!("<a xmlns='{STREAM_MANAGEMENT}' h='{}'/>", self.taken.load(Relaxed))
    }

    /// The server has taken over so many of our stanzas.
    fn acked(&self, count: u32) {
        let mut sent = self.sent();
        while let Some((number, _)) = sent.acks.front()
            // Counts begin again at 2^32.
            && count.wrapping_sub(*number) < u32::MAX / 2
        {
            let Some((_, waits)) = sent.acks.pop_front() else { break };
            // Who gave up waiting does not mind.
            waits.send(()).ok();
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut sent = self.0.sent();
        sent.is_over = true;
        sent.acks.clear();
    }
}

async fn write(mut writer: OwnedWriteHalf, mut to_write: mpsc::Receiver<String>) {
    while let Some(text) = to_write.recv().await {
        if let Err(error) = writer.write_all(text.as_bytes()).await {
            tracing::debug!(%error, "a stream is not written any more");
            return;
        }
    }
}

async fn read(
    mut elements: Elements<BufReader<OwnedReadHalf>>,
    shared: Arc<Shared>,
    to_mail: mpsc::Sender<Numbered>,
) {
    let ending = Ending(shared);
    let shared = &ending.0;
    let mut came: u32 = 0;
    loop {
        let element = match elements.next().await.map_err(ended) {
            Ok(element) => element,
            Err(error) => {
                tracing::debug!(?error, "a stream has ended");
                return;
            }
        };
        if element.is("a", STREAM_MANAGEMENT) {
            if let Some(count) = element.attribute("h").and_then(|count| count.parse().ok()) {
                shared.acked(count);
            }
            continue;
        }
        if element.is("r", STREAM_MANAGEMENT) {
            shared.writes.send(shared.count_of_taken()).await.ok();
            continue;
        }
        if element.name == "error" {
            tracing::warn!(condition = element.condition(), "the server ends a stream");
            return;
        }
        came = came.wrapping_add(1);
        match mail_of(&element) {
            Some(mail) => {
                shared.waiting.fetch_add(1, Relaxed);
                // Where nobody takes mail any more it is not counted, and comes again elsewhere.
                to_mail.send(Numbered(came, mail)).await.ok();
            }
            // Not counted while a message before it has not been taken.
            None if shared.waiting.load(Relaxed) == 0 => shared.taken.store(came, Relaxed),
            None => {}
        }
        if let Some(answer) = answer(&element) {
            let Ok(place) = shared.writes.reserve().await else { return };
            let mut sent = shared.sent();
            sent.count = sent.count.wrapping_add(1);
            place.send(answer);
        }
    }
}

/// `None`: it is no message from one person to another.
fn mail_of(element: &Element) -> Option<Mail> {
    if element.name != "message" {
        return None;
    }
    if element.attribute("type") == Some("error") {
        tracing::warn!(condition = element.condition(), "the server could not keep a message");
        return None;
    }
    let content = BASE64_STANDARD.decode(element.child("body")?.text.trim()).unwrap_or_default();
    Some(Mail { id: element.attribute("id").and_then(|id| id.parse().ok()), content: content.into() })
}

/// What a client must say when it is asked something, which is that it does not know.
fn answer(element: &Element) -> Option<String> {
    let asks = element.name == "iq" && matches!(element.attribute("type"), Some("get" | "set"));
    let (id, from) = (element.attribute("id")?, element.attribute("from").unwrap_or_default());
    let condition = "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>";
    let to = if from.is_empty() { String::new() } else { format!(" to='{}'", escape(from)) };
    asks.then(|| {
        format!("<iq type='error' id='{}'{to}><error type='cancel'>{condition}</error></iq>", escape(id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> (Arc<Shared>, mpsc::Receiver<String>) {
        let (writes, written) = mpsc::channel(WRITES);
        let sent = Mutex::new(Sent { count: u32::MAX - 1, ..Sent::default() });
        (Arc::new(Shared { writes, sent, taken: AtomicU32::new(0), waiting: AtomicU32::new(0) }), written)
    }

    fn outbox(shared: &Arc<Shared>) -> Outbox {
        let names = Names { host: "h".to_owned(), port: 1, domain: "d".to_owned(), run: 1 };
        Outbox { shared: shared.clone(), names, _tasks: Arc::default() }
    }

    #[tokio::test]
    async fn a_send_is_answered_when_the_count_has_reached_it_also_around_zero() {
        let (shared, mut written) = shared();
        let outbox = outbox(&shared);
        let send = |n: u8| outbox.send(7, Guid::random(), vec![n]);
        let (mut first, mut second, mut third) = (send(1), send(2), send(3));
        for pending in [&mut first, &mut second, &mut third] {
            assert!(futures_pending(pending).await);
        }
        let text = written.recv().await.unwrap();
        assert!(
            text.contains("to='surge-0000000000000001-7@d'") && text.ends_with("<r xmlns='urn:xmpp:sm:3'/>"),
            "{text}"
        );
        // Numbers are 2^32 − 1, 0 and 1.
        shared.acked(u32::MAX - 1);
        assert!(futures_pending(&mut first).await, "not yet");
        shared.acked(0);
        first.await.unwrap();
        second.await.unwrap();
        assert!(futures_pending(&mut third).await);
        drop(Ending(shared.clone()));
        assert!(third.await.is_err(), "nobody will answer");
        assert!(send(4).await.is_err());
    }

    async fn futures_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, future).await.is_err()
    }

    #[tokio::test]
    async fn messages_are_mail_and_errors_and_questions_are_not() {
        let id = Guid::random();
        let text = format!(
            "<message id='{id}'><body>{}</body></message><message type='error' id='{id}'><body>eA==</body></message>\
             <message><composing/></message><iq type='get' id='p' from='d'><ping/></iq><iq type='result' id='p'/>",
            BASE64_STANDARD.encode([0, 255, 60])
        );
        let mut elements = Elements::new(text.as_bytes());
        let mail = mail_of(&elements.next().await.unwrap()).unwrap();
        assert_eq!((mail.id, &mail.content[..]), (Some(id), &[0, 255, 60][..]));
        assert!(mail_of(&elements.next().await.unwrap()).is_none());
        assert!(mail_of(&elements.next().await.unwrap()).is_none());
        let question = elements.next().await.unwrap();
        assert!(answer(&question).unwrap().contains("id='p' to='d'"));
        assert!(answer(&elements.next().await.unwrap()).is_none());
    }
}
