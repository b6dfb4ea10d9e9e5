//! A short message centre for tests: takes binds and messages, and does with them, and with their receipts, what a test says.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use rusmpp::pdus::{BindTransceiverResp, DeliverSm, SubmitSm, SubmitSmResp};
use rusmpp::tokio_codec::CommandCodec;
use rusmpp::types::{COctetString, OctetString};
use rusmpp::values::EsmClass;
use rusmpp::{Command, CommandStatus, Pdu};
use spillway_chassis::Tasks;
use spillway_registration::provider::SmppConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::Framed;

pub(crate) const PASSWORD: &str = "hush-hsh";

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    Well,
    /// Its receipt comes after a second, which is late in these tests.
    LateReceipt,
    DoubleReceipt,
    NoReceipt,
    FailedReceipt,
    /// Its receipt comes before its answer.
    EarlyReceipt,
    /// Where a receipt should be there is something else, and then comes the receipt.
    GarbageReceipt,
    Throttles,
    Refuses,
    /// An error of its own.
    Fails,
    /// Nothing is answered any more, not even `enquire_link`.
    Hangs,
    /// The connection ends when a message comes.
    HangsUp,
    /// What is answered is not SMPP.
    Garbage,
}

const MOODS: [Mood; 13] = [
    Mood::Well,
    Mood::LateReceipt,
    Mood::DoubleReceipt,
    Mood::NoReceipt,
    Mood::FailedReceipt,
    Mood::EarlyReceipt,
    Mood::GarbageReceipt,
    Mood::Throttles,
    Mood::Refuses,
    Mood::Fails,
    Mood::Hangs,
    Mood::HangsUp,
    Mood::Garbage,
];

/// A message that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) message: SubmitSm,
    pub(crate) text: String,
}

pub(crate) struct Smsc {
    pub(crate) taken: mpsc::Receiver<Taken>,
    shared: Arc<Shared>,
    address: String,
    tasks: Tasks,
}

struct Shared {
    mood: AtomicU8,
    asked: AtomicUsize,
    binds: AtomicUsize,
    enquiries: AtomicUsize,
    goodbyes: AtomicUsize,
    strangers: AtomicUsize,
    open: AtomicUsize,
    open_max: AtomicUsize,
    answers_after: Mutex<Duration>,
    names: AtomicUsize,
    taken: mpsc::Sender<Taken>,
}

impl Smsc {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Speaks TLS alone.
    pub(crate) async fn start_tls(acceptor: TlsAcceptor) -> Self {
        Self::start_with(Some(acceptor)).await
    }

    async fn start_with(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, taken) = mpsc::channel(10_000);
        let shared = Arc::new(Shared {
            mood: AtomicU8::new(Mood::Well as u8),
            asked: AtomicUsize::new(0),
            binds: AtomicUsize::new(0),
            enquiries: AtomicUsize::new(0),
            goodbyes: AtomicUsize::new(0),
            strangers: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            open_max: AtomicUsize::new(0),
            answers_after: Mutex::default(),
            names: AtomicUsize::new(0xA0),
            taken: sender,
        });
        let tasks = Tasks::new();
        let (serving, cancelled, inner) = (Arc::clone(&shared), tasks.cancelled(), tasks.clone());
        tasks.spawn("smsc", async move {
            let accept = async {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (shared, cancelled) = (Arc::clone(&serving), inner.cancelled());
                    let acceptor = acceptor.clone();
                    inner.spawn("smsc connection", async move {
                        let serve = async {
                            match acceptor {
                                None => shared.serve(stream).await,
                                Some(acceptor) => match acceptor.accept(stream).await {
                                    Ok(stream) => shared.serve(stream).await,
                                    Err(_) => drop(shared.strangers.fetch_add(1, Ordering::SeqCst)),
                                },
                            }
                        };
                        tokio::select! { () = serve => {}, () = cancelled => {} }
                    });
                }
            };
            tokio::select! { () = accept => {}, () = cancelled => {} }
        });
        Self { taken, shared, address, tasks }
    }

    pub(crate) fn config(&self) -> SmppConfig {
        let millis = Duration::from_millis;
        SmppConfig {
            address: self.address.clone(),
            system_id: "spillway".to_owned(),
            password: PASSWORD.to_owned(),
            source: "Spillway".to_owned(),
            answer_timeout: millis(400),
            enquire_after: millis(100),
            reconnect_min: millis(20),
            reconnect_max: millis(100),
            ..SmppConfig::default()
        }
    }

    pub(crate) fn is(&self, mood: Mood) {
        self.shared.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// Each message is answered so much later.
    pub(crate) fn answers_after(&self, delay: Duration) {
        *self.shared.answers_after.lock().unwrap() = delay;
    }

    /// Messages that came, whatever became of them.
    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn binds(&self) -> usize {
        self.shared.binds.load(Ordering::SeqCst)
    }

    pub(crate) fn enquiries(&self) -> usize {
        self.shared.enquiries.load(Ordering::SeqCst)
    }

    pub(crate) fn goodbyes(&self) -> usize {
        self.shared.goodbyes.load(Ordering::SeqCst)
    }

    /// Connections with which no TLS could be agreed on.
    pub(crate) fn strangers(&self) -> usize {
        self.shared.strangers.load(Ordering::SeqCst)
    }

    /// The most messages that had no answer at a time.
    pub(crate) fn open_max(&self) -> usize {
        self.shared.open_max.load(Ordering::SeqCst)
    }

    pub(crate) async fn stop(self) {
        self.tasks.close_and_wait(crate::world::PATIENCE).await.unwrap();
    }
}

/// What leaves at a time that was set.
type Later = Vec<(Instant, Command)>;

impl Shared {
    fn mood(&self) -> Mood {
        MOODS[usize::from(self.mood.load(Ordering::SeqCst))]
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin) {
        let mut framed = Framed::new(stream, CommandCodec::new());
        let mut later: Later = Vec::new();
        let mut is_bound = false;
        loop {
            let next = later.iter().map(|(at, _)| *at).min();
            tokio::select! {
                command = framed.next() => {
                    let Some(Ok(command)) = command else { return };
                    if !self.hear(&mut framed, command, &mut is_bound, &mut later).await {
                        return;
                    }
                }
                () = async { sleep_until(next.unwrap()).await }, if next.is_some() => {
                    let now = Instant::now();
                    let (due, rest) = later.into_iter().partition(|(at, _)| *at <= now);
                    later = rest;
                    let due: Later = due;
                    for (_, command) in due {
                        if matches!(command.pdu(), Some(Pdu::SubmitSmResp(_))) {
                            self.open.fetch_sub(1, Ordering::SeqCst);
                        }
                        if framed.send(&command).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// `false`: the connection ends.
    async fn hear<S: AsyncRead + AsyncWrite + Send + Unpin>(
        &self,
        framed: &mut Framed<S, CommandCodec>,
        command: Command,
        is_bound: &mut bool,
        later: &mut Later,
    ) -> bool {
        let (sequence, mood) = (command.sequence_number(), self.mood());
        if mood == Mood::Hangs {
            return true;
        }
        let answer = |status, pdu: Pdu| Command::new(status, sequence, pdu);
        match command.pdu() {
            Some(Pdu::BindTransceiver(bind)) => {
                let is_right = bind.password.as_str() == PASSWORD && bind.system_id.as_str() == "spillway";
                let status = if is_right { CommandStatus::EsmeRok } else { CommandStatus::EsmeRinvpaswd };
                *is_bound = is_right;
                self.binds.fetch_add(usize::from(is_right), Ordering::SeqCst);
                framed.send(&answer(status, BindTransceiverResp::builder().build().into())).await.is_ok()
            }
            Some(Pdu::EnquireLink) => {
                self.enquiries.fetch_add(1, Ordering::SeqCst);
                framed.send(&answer(CommandStatus::EsmeRok, Pdu::EnquireLinkResp)).await.is_ok()
            }
            Some(Pdu::Unbind) => {
                self.goodbyes.fetch_add(1, Ordering::SeqCst);
                drop(framed.send(&answer(CommandStatus::EsmeRok, Pdu::UnbindResp)).await);
                false
            }
            Some(Pdu::SubmitSm(message)) => {
                assert!(*is_bound, "a message before the bind");
                self.asked.fetch_add(1, Ordering::SeqCst);
                if mood == Mood::Garbage {
                    drop(framed.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
                    return true;
                }
                if mood == Mood::HangsUp {
                    return false;
                }
                self.take(sequence, message.clone(), mood, later);
                true
            }
            _ => true,
        }
    }

    fn take(&self, sequence: u32, message: SubmitSm, mood: Mood, later: &mut Later) {
        let refused = match mood {
            Mood::Throttles => Some(CommandStatus::EsmeRthrottled),
            Mood::Refuses => Some(CommandStatus::EsmeRinvdstadr),
            Mood::Fails => Some(CommandStatus::EsmeRsyserr),
            _ => None,
        };
        let now = Instant::now();
        let name = format!("{:08X}", self.names.fetch_add(1, Ordering::SeqCst));
        let named = COctetString::from_string(name.clone()).unwrap();
        let status = refused.unwrap_or(CommandStatus::EsmeRok);
        let resp = SubmitSmResp::builder().message_id(named).build();
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.open_max.fetch_max(open, Ordering::SeqCst);
        let answered_at = now + *self.answers_after.lock().unwrap() + Duration::from_millis(1);
        later.push((answered_at, Command::new(status, sequence, resp)));
        if refused.is_some() {
            return;
        }
        // The receipt has the number in decimal, as at centres of old.
        let number = u64::from_str_radix(&name, 16).unwrap();
        let receipt = |stat: &str| {
            let text = format!(
                "id:{number:010} sub:001 dlvrd:001 submit date:2101150930 done date:2101150931 stat:{stat} err:000 text:"
            );
            deliver(0b0000_0100, &text)
        };
        let soon = answered_at + Duration::from_millis(5);
        match mood {
            Mood::LateReceipt => later.push((soon + Duration::from_secs(1), receipt("DELIVRD"))),
            Mood::DoubleReceipt => {
                later.push((soon, receipt("DELIVRD")));
                later.push((soon, receipt("DELIVRD")));
                later.push((soon + Duration::from_millis(20), receipt("UNDELIV")));
            }
            Mood::NoReceipt => {}
            Mood::FailedReceipt => later.push((soon, receipt("UNDELIV"))),
            Mood::EarlyReceipt => later.push((now, receipt("DELIVRD"))),
            Mood::GarbageReceipt => {
                later.push((soon, deliver(0b0000_0100, "\u{1}\u{2} id stat: id:")));
                later.push((soon, deliver(0, "A message from somebody: id:1 stat:DELIVRD")));
                later.push((soon + Duration::from_millis(5), receipt("DELIVRD")));
            }
            _ => later.push((soon, receipt("DELIVRD"))),
        }
        let text = String::from_utf8(message.short_message().as_ref().to_vec()).unwrap();
        drop(self.taken.try_send(Taken { message, text }));
    }
}

fn deliver(esm_class: u8, text: &str) -> Command {
    let delivered = DeliverSm::builder()
        .esm_class(EsmClass::from(esm_class))
        .short_message(OctetString::from_slice(text.as_bytes()).unwrap())
        .build();
    Command::new(CommandStatus::EsmeRok, 1, delivered)
}
