//! One connection to a centre, from its bind to its end.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use rusmpp::pdus::{DeliverSm, DeliverSmResp, SubmitSm};
use rusmpp::tokio_codec::{CommandCodec, DecodeError, EncodeError};
use rusmpp::types::COctetString;
use rusmpp::{Command, CommandStatus, Pdu};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::codec::Framed;

use super::super::{ProviderError, Receipt};
use super::config::SmppConfig;
use super::pdu;
use super::receipt::{of_answer, receipt};

/// How often answers and silence are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The longest that is read: a receipt has some hundred bytes.
const PDU_BYTES_MAX: usize = 8_192;
/// Numbers of commands are from 1 to this: SMPP 3.4, section 3.2.
const SEQUENCE_MAX: u32 = 0x7FFF_FFFF;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A message, and who waits for what the centre says to it: what it calls the message.
#[derive(Debug)]
pub(super) struct Submit {
    pub(super) message: SubmitSm,
    pub(super) answer: oneshot::Sender<Result<String, ProviderError>>,
}

/// Why a connection is over. The texts hold no password, number or code.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("it cannot be reached")]
    Connect(#[source] io::Error),
    #[error("it did not answer in time")]
    Silent,
    #[error("it did not take the bind: {0}")]
    Bind(String),
    #[error("it closed the connection")]
    Closed,
    #[error("it said something that is not SMPP")]
    Decode(#[source] DecodeError),
    #[error("nothing can be sent to it")]
    Send(#[from] EncodeError),
}

pub(super) struct Link<'a> {
    config: &'a SmppConfig,
    framed: Framed<Box<dyn Stream>, CommandCodec>,
    sequence: u32,
    /// Messages without an answer, and until when one is waited for.
    window: HashMap<u32, (oneshot::Sender<Result<String, ProviderError>>, Instant)>,
    heard_at: Instant,
    enquired_at: Option<Instant>,
    receipts: mpsc::Sender<Receipt>,
}

impl<'a> Link<'a> {
    pub(super) async fn bind(
        config: &'a SmppConfig,
        stream: Box<dyn Stream>,
        receipts: mpsc::Sender<Receipt>,
    ) -> Result<Self, LinkError> {
        let codec = CommandCodec::new().with_max_length(PDU_BYTES_MAX);
        let mut link = Self {
            config,
            framed: Framed::new(stream, codec),
            sequence: 0,
            window: HashMap::new(),
            heard_at: Instant::now(),
            enquired_at: None,
            receipts,
        };
        let sequence = link.send(pdu::bind(config)).await?;
        loop {
            let answer = timeout(config.answer_timeout, link.framed.next());
            let command = heard(answer.await.map_err(|_| LinkError::Silent)?)?;
            if command.sequence_number() != sequence {
                continue;
            }
            return match command.status() {
                CommandStatus::EsmeRok => Ok(link),
                status => Err(LinkError::Bind(pdu::answered(status))),
            };
        }
    }

    /// Until the connection ends, or it is `cancelled`, which is no error. Whoever waits for an answer then does not learn it.
    pub(super) async fn serve(
        mut self,
        submits: &mut mpsc::Receiver<Submit>,
        mut cancelled: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), LinkError> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let served = loop {
            let has_room = self.window.len() < self.config.window.get();
            let step = tokio::select! {
                () = &mut cancelled => break Ok(()),
                command = self.framed.next() => match heard(command) {
                    Ok(command) => self.on_command(command).await,
                    Err(error) => Err(error),
                },
                submit = submits.recv(), if has_room => match submit {
                    Some(submit) => self.submit(submit).await,
                    None => break Ok(()),
                },
                _ = looks.tick() => self.look().await,
            };
            if let Err(error) = step {
                break Err(error);
            }
        };
        if served.is_ok() {
            self.leave().await;
        }
        for (_, (answer, _)) in self.window.drain() {
            drop(answer.send(Err(ProviderError::Unanswered)));
        }
        served
    }

    async fn submit(&mut self, submit: Submit) -> Result<(), LinkError> {
        // Whoever has given up waiting does not want it sent any more.
        if submit.answer.is_closed() {
            return Ok(());
        }
        let sequence = self.send(submit.message).await?;
        self.window.insert(sequence, (submit.answer, Instant::now() + self.config.answer_timeout));
        Ok(())
    }

    async fn on_command(&mut self, command: Command) -> Result<(), LinkError> {
        self.heard_at = Instant::now();
        self.enquired_at = None;
        let (sequence, status) = (command.sequence_number(), command.status());
        match command.pdu() {
            Some(Pdu::DeliverSm(delivered)) => {
                self.on_delivered(delivered);
                let answer = DeliverSmResp::builder().message_id(COctetString::null()).build();
                self.answer(sequence, answer).await
            }
            Some(Pdu::EnquireLink) => self.answer(sequence, Pdu::EnquireLinkResp).await,
            Some(Pdu::Unbind) => {
                self.answer(sequence, Pdu::UnbindResp).await?;
                Err(LinkError::Closed)
            }
            Some(Pdu::SubmitSmResp(answer)) if status == CommandStatus::EsmeRok => {
                let name = of_answer(answer.message_id().as_str(), self.config.message_ids);
                self.answered(sequence, Ok(name));
                Ok(())
            }
            // Also an answer without a body, which is how refusals come, and `generic_nack`.
            _ if status != CommandStatus::EsmeRok => {
                self.answered(sequence, Err(pdu::refusal(status)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_delivered(&self, delivered: &DeliverSm) {
        if let Some(receipt) = receipt(delivered, self.config.message_ids) {
            // What finds no room is lost, as receipts may be.
            drop(self.receipts.try_send(receipt));
        }
    }

    /// An answer to nothing that waits, or a second one, changes nothing.
    fn answered(&mut self, sequence: u32, outcome: Result<String, ProviderError>) {
        if let Some((answer, _)) = self.window.remove(&sequence) {
            drop(answer.send(outcome));
        }
    }

    async fn look(&mut self) -> Result<(), LinkError> {
        let now = Instant::now();
        let late: Vec<u32> = self
            .window
            .iter()
            .filter(|(_, (_, until))| *until <= now)
            .map(|(sequence, _)| *sequence)
            .collect();
        late.into_iter().for_each(|sequence| self.answered(sequence, Err(ProviderError::Unanswered)));
        match self.enquired_at {
            Some(at) if now.duration_since(at) >= self.config.answer_timeout => Err(LinkError::Silent),
            None if now.duration_since(self.heard_at) >= self.config.enquire_after => {
                self.enquired_at = Some(now);
                self.send(Pdu::EnquireLink).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Says good-bye, and hears what is still answered.
    async fn leave(&mut self) {
        let until = Instant::now() + self.config.answer_timeout;
        while !self.window.is_empty()
            && let Ok(Some(Ok(command))) = tokio::time::timeout_at(until, self.framed.next()).await
        {
            if self.on_command(command).await.is_err() {
                return;
            }
        }
        drop(self.send(Pdu::Unbind).await);
    }

    async fn send(&mut self, pdu: impl Into<Pdu>) -> Result<u32, LinkError> {
        self.sequence = self.sequence % SEQUENCE_MAX + 1;
        self.write(self.sequence, pdu).await?;
        Ok(self.sequence)
    }

    async fn answer(&mut self, sequence: u32, pdu: impl Into<Pdu>) -> Result<(), LinkError> {
        self.write(sequence, pdu).await
    }

    /// A centre that does not read is one that does not answer.
    async fn write(&mut self, sequence: u32, pdu: impl Into<Pdu>) -> Result<(), LinkError> {
        let command = Command::new(CommandStatus::EsmeRok, sequence, pdu);
        match timeout(self.config.answer_timeout, self.framed.send(&command)).await {
            Ok(sent) => Ok(sent?),
            Err(_elapsed) => Err(LinkError::Silent),
        }
    }
}

fn heard(command: Option<Result<Command, DecodeError>>) -> Result<Command, LinkError> {
    command.ok_or(LinkError::Closed)?.map_err(LinkError::Decode)
}
