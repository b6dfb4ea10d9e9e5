//! What workers say.

use async_nats::Message;
use tokio::time::Instant;
use tokio_stream::StreamExt;

use super::{SUBJECTS, Staff, Subject, Worker};
use crate::recording::{Interval, parse_lines};
use crate::timeline::Row;
use crate::workers::Crossing;
use crate::workers::link::decode;
use crate::workers::wire::{Accounts, Alive, Answer, Done, Hello, Received, Tick, VERSION, Welcome};

/// What a worker said that is to be counted.
#[derive(Debug)]
pub(crate) struct Seconds {
    pub(crate) rows: Vec<Row>,
    pub(crate) intervals: Vec<Interval>,
}

impl Staff {
    /// Hears the next word; returns what of it is to be counted. Cancel-safe: what is asked and not answered is asked again.
    pub(crate) async fn hear(&mut self) -> Option<Seconds> {
        let Some((name, message)) = self.messages.next().await else {
            // The connection is over for good, which the library does not let happen.
            return std::future::pending().await;
        };
        let subject = SUBJECTS.iter().find(|(of, _)| *of == name)?.1;
        match subject {
            Subject::Hello => {
                self.welcome(&message).await;
                None
            }
            Subject::Alive => {
                if let Ok(alive) = decode::<Alive>(&message)
                    && let Some(worker) = self.speaks(alive.worker)
                    && alive.failed.is_some()
                {
                    worker.failed = alive.failed;
                }
                None
            }
            Subject::Ready => {
                if let Ok(accounts) = decode::<Accounts>(&message)
                    && let Some(worker) = self.speaks(accounts.worker)
                {
                    worker.accounts.add(accounts);
                    self.link.answer(&message, &Answer::Yes).await;
                }
                None
            }
            Subject::Tick => decode::<Tick>(&message).ok().and_then(|tick| self.count(tick)),
            Subject::Done => {
                self.part_from(&message).await;
                None
            }
        }
    }

    /// Whoever says something is there. `None`: it is nobody of this run, or was given up.
    fn speaks(&mut self, number: u32) -> Option<&mut Worker> {
        let worker = self.workers.iter_mut().find(|worker| worker.number == number && worker.is_here())?;
        worker.last_word = Instant::now();
        Some(worker)
    }

    async fn welcome(&mut self, message: &Message) {
        let Ok(hello) = decode::<Hello>(message) else { return };
        let known = self.workers.iter().find(|worker| worker.hello.id == hello.id);
        let welcome = if let Some(worker) = known {
            Welcome::Worker(worker.number)
        } else if hello.version != VERSION {
            Welcome::Refused(format!(
                "it speaks version {} and this run version {VERSION}: use the same surge everywhere",
                hello.version
            ))
        } else if self.is_complete() {
            Welcome::Refused(format!("the run has its {} workers", self.wanted))
        } else {
            let is_free = |number: &u32| self.workers.iter().all(|worker| worker.number != *number);
            let number = (1..).find(is_free).unwrap_or(u32::MAX);
            self.workers.push(Worker::new(number, hello));
            Welcome::Worker(number)
        };
        self.link.answer(message, &welcome).await;
    }

    fn count(&mut self, tick: Tick) -> Option<Seconds> {
        let worker = self.speaks(tick.worker)?;
        if !worker.heard.take(tick.seq) {
            return None;
        }
        let up_to = worker.heard.up_to();
        if let Some(progressed) = tick.progressed {
            worker.progressed = progressed;
        }
        let parsed = parse_lines(&tick.rows, &tick.histograms);
        if let Some((rows, intervals)) = &parsed {
            rows.iter().cloned().for_each(|row| worker.recording.add_row(row));
            for (second, tag, latency) in intervals {
                worker.recording.add_histogram(*second, tag, latency);
            }
        } else {
            tracing::error!(worker = tick.worker, seq = tick.seq, "a tick is not what surge writes");
        }
        tick.crossings.lines().filter_map(Crossing::parse).for_each(|crossing| self.crossings.add(crossing));
        self.order(|control| {
            control.heard.insert(tick.worker, up_to);
        });
        parsed.map(|(rows, intervals)| Seconds { rows, intervals })
    }

    async fn part_from(&mut self, message: &Message) {
        let Ok(done) = decode::<Done>(message) else { return };
        let Some(worker) = self.speaks(done.worker) else { return };
        let received = if worker.heard.up_to() >= done.last {
            worker.done = Some(done);
            Received::Everything
        } else {
            Received::UpTo(worker.heard.up_to())
        };
        self.link.answer(message, &received).await;
    }
}
