//! The coordinator's side of the conversation: who the workers are, what they were told, and what they said.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use spillway_types::{Clock, SystemClock, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_stream::{StreamExt, StreamMap};

use super::link::decode;
use super::session::{Collected, pieces};
use super::wire::{
    Accounts, Alive, Answer, Assignment, Control, Done, Hello, Inheritance, Received, Start, Step, Tick,
    Time, VERSION, Welcome,
};
use super::{Crossing, Crossings, Heard, Link, Part, Progressed, WorkersError};
use crate::cohorts::{Cohort, Crowd};
use crate::ledger::{Conversation, OwnPart};
use crate::recording::{Interval, Recording, parse_lines};
use crate::stats::Latency;
use crate::summary::WorkerSummary;
use crate::timeline::Row;
use crate::workload::Contact;

/// Workers look whether they still hear it.
const ORDERS_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked whether all is well.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A look that comes so late says that this process stood still.
const HELD_UP: Duration = Duration::from_millis(750);
/// For the answer to a question that has one at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// While nothing is offered, a worker that is held up for a moment does no harm.
const SILENT_BEFORE_START: Duration = Duration::from_secs(15);
/// What is on its way while a worker takes over.
const TAKE_OVER_AFTER_S: u64 = 2;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) number: u32,
    pub(crate) hello: Hello,
    pub(crate) part: Part,
    pub(crate) progressed: Progressed,
    pub(crate) recording: Recording,
    pub(crate) done: Option<Done>,
    pub(crate) lost_at_s: Option<u64>,
    heard: Heard,
    last_word: Instant,
    accounts: Collected,
    failed: Option<String>,
}

/// What a worker said that is to be counted.
#[derive(Debug)]
pub(crate) struct Seconds {
    pub(crate) rows: Vec<Row>,
    pub(crate) intervals: Vec<Interval>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Hello,
    Alive,
    Ready,
    Tick,
    Done,
}

#[derive(Debug)]
pub(crate) struct Staff {
    link: Link,
    pub(crate) workers: Vec<Worker>,
    wanted: usize,
    crossings: Crossings,
    existing: u32,
    newcomers_from: u32,
    control: watch::Sender<Control>,
    /// When it was last looked who is silent.
    looked: Instant,
    messages: StreamMap<&'static str, Subscriber>,
    _tasks: JoinSet<()>,
}

const SUBJECTS: [(&str, Subject); 5] = [
    ("hello", Subject::Hello),
    ("alive", Subject::Alive),
    ("ready", Subject::Ready),
    ("tick", Subject::Tick),
    ("done", Subject::Done),
];

impl Staff {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub(crate) async fn new(
        link: Link,
        wanted: usize,
        existing: u32,
        newcomers_from: u32,
    ) -> Result<Self, WorkersError> {
        let mut messages = StreamMap::new();
        for (name, _) in SUBJECTS {
            messages.insert(name, link.subscribe(name).await?);
        }
        let control = watch::Sender::new(Control::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(tell_the_time(link.subscribe("clock").await?, link.clone()));
        tasks.spawn(repeat(link.clone(), control.subscribe()));
        Ok(Self {
            link,
            workers: Vec::new(),
            wanted,
            crossings: Crossings::default(),
            existing,
            newcomers_from,
            control,
            looked: Instant::now(),
            messages,
            _tasks: tasks,
        })
    }

    pub(crate) fn address(&self) -> &str {
        self.link.address()
    }

    /// Of those who said that they were there, whoever says nothing any more is not waited for.
    pub(crate) fn forget_silent(&mut self) {
        self.forgive_own_silence();
        self.workers.retain(|worker| worker.last_word.elapsed() < SILENT_BEFORE_START);
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.workers.len() == self.wanted
    }

    /// Gives everybody a part, as large as the machine among all.
    ///
    /// # Errors
    ///
    /// When somebody would have less than two people.
    pub(crate) fn share_out(&mut self) -> Result<(), WorkersError> {
        self.workers.sort_by_key(|worker| worker.number);
        let cores: Vec<_> = self.workers.iter().map(|worker| worker.hello.cores).collect();
        let parts = check_people(&cores, self.existing)?;
        for (worker, part) in self.workers.iter_mut().zip(parts) {
            worker.part = part;
        }
        Ok(())
    }

    /// Tells everybody at once what to play.
    ///
    /// # Errors
    ///
    /// When one of them cannot.
    pub(crate) async fn assign(&mut self, of: impl Fn(&Worker) -> Assignment) -> Result<(), WorkersError> {
        let questions = self.workers.iter().map(|worker| (worker.number, of(worker))).collect();
        self.ask_all("plan", questions).await
    }

    /// Whether everybody's people have an account.
    pub(crate) fn are_ready(&self) -> bool {
        self.workers.iter().all(|worker| worker.accounts.whole().is_some())
    }

    /// Tells everybody who there is.
    ///
    /// # Errors
    ///
    /// When somebody does not answer.
    pub(crate) async fn introduce(&mut self) -> Result<usize, WorkersError> {
        let mut all: Vec<Contact> =
            self.workers.iter().filter_map(|worker| worker.accounts.whole()).flatten().collect();
        all.sort_by_key(|contact| contact.index);
        for accounts in pieces(0, &all) {
            let questions = self.workers.iter().map(|worker| (worker.number, accounts.clone())).collect();
            self.ask_all("people", questions).await?;
        }
        Ok(all.len())
    }

    /// # Errors
    ///
    /// When somebody does not answer before it begins.
    pub(crate) async fn start(&mut self, at: Timestamp) -> Result<(), WorkersError> {
        let start = Start { micros: at.as_micros() };
        let questions = self.workers.iter().map(|worker| (worker.number, start)).collect();
        self.ask_all("start", questions).await
    }

    async fn ask_all<T: serde::Serialize + Send + Sync + 'static>(
        &mut self,
        subject: &str,
        questions: Vec<(u32, T)>,
    ) -> Result<(), WorkersError> {
        let mut asked = JoinSet::new();
        for (number, question) in questions {
            let (link, subject) = (self.link.clone(), format!("{subject}.{number}"));
            asked.spawn(
                async move { (number, link.insist::<Answer>(&subject, &question, ANSWER_WITHIN).await) },
            );
        }
        // Meanwhile everybody else is heard: who asks something himself, and was not answered in time, answers nothing before he is.
        loop {
            let answered = tokio::select! {
                answered = asked.join_next() => answered,
                _ = self.hear() => continue,
            };
            let Some(answered) = answered else { break };
            let Ok((number, answer)) = answered else { continue };
            match answer? {
                Answer::Yes => {}
                Answer::No(reason) => {
                    return Err(WorkersError::Refused { number, host: self.host(number), reason });
                }
            }
        }
        // Who has answered is there, whatever else was said meanwhile and has not been read.
        let now = Instant::now();
        self.workers.iter_mut().for_each(|worker| worker.last_word = now);
        Ok(())
    }

    fn host(&self, number: u32) -> String {
        self.workers
            .iter()
            .find(|worker| worker.number == number)
            .map_or_else(String::new, |worker| format!("{}, process {}", worker.hello.host, worker.hello.pid))
    }

    /// Whether all are well that have not begun.
    ///
    /// # Errors
    ///
    /// When one is not, or cannot go on.
    pub(crate) fn check_preparation(&mut self) -> Result<(), WorkersError> {
        self.forgive_own_silence();
        for worker in &self.workers {
            let (number, host) = (worker.number, self.host(worker.number));
            if let Some(reason) = worker.failed.clone() {
                return Err(WorkersError::Refused { number, host, reason });
            }
            if worker.last_word.elapsed() > SILENT_BEFORE_START {
                return Err(WorkersError::Gone { number, host, silent_s: SILENT_BEFORE_START.as_secs() });
            }
        }
        Ok(())
    }

    /// Workers that play and have not been heard of for so long. To be asked every [`LOOK_EVERY`]: a coordinator that was held up itself has not heard
    /// anybody meanwhile, and does not take that for silence.
    pub(crate) fn silent(&mut self, for_at_least: Duration) -> Vec<u32> {
        self.forgive_own_silence();
        let silent = |worker: &&Worker| {
            worker.is_here()
                && worker.done.is_none()
                && (worker.last_word.elapsed() > for_at_least || worker.failed.is_some())
        };
        self.workers.iter().filter(silent).map(|worker| worker.number).collect()
    }

    fn forgive_own_silence(&mut self) {
        let now = Instant::now();
        if now - self.looked > HELD_UP {
            self.workers.iter_mut().for_each(|worker| worker.last_word = now);
        }
        self.looked = now;
    }

    /// Nothing is taken of this worker any more. Returns what it was called.
    pub(crate) fn give_up(&mut self, number: u32, second: u64) -> String {
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.number == number) {
            worker.lost_at_s = Some(second);
        }
        self.order(|control| control.lost.push(number));
        format!("worker {number} ({})", self.host(number))
    }

    /// Has the others take over from a lost worker; returns the second from which on they do. `None` when there is nobody.
    pub(crate) fn pass_on(&mut self, number: u32, now_s: u64) -> Option<u64> {
        let heirs: Vec<u32> =
            self.workers.iter().filter(|worker| worker.is_here()).map(|worker| worker.number).collect();
        let part = self.workers.iter().find(|worker| worker.number == number)?.part;
        if heirs.is_empty() {
            return None;
        }
        let from_s = now_s + TAKE_OVER_AFTER_S;
        self.order(|control| control.inheritances.push(Inheritance { part, from_s, heirs }));
        Some(from_s)
    }

    pub(crate) fn here(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| worker.is_here())
    }

    /// Seconds below are over for everybody.
    pub(crate) fn seconds(&self) -> u64 {
        self.here().map(|worker| worker.progressed.seconds).min().unwrap_or(0)
    }

    /// Whether nothing is under way any more, in anybody's eyes and between them.
    pub(crate) fn is_quiet(&self, step: Step) -> bool {
        self.here().all(|worker| worker.done.is_some() || worker.progressed.quiet >= Some(step))
            && self.on_their_way() == 0
    }

    /// Whether everybody has offered everything.
    pub(crate) fn have_reached(&self, step: Step) -> bool {
        self.here().all(|worker| worker.done.is_some() || worker.progressed.step >= step)
    }

    pub(crate) fn are_done(&self) -> bool {
        self.here().all(|worker| worker.done.is_some())
    }

    pub(crate) fn on_their_way(&self) -> u64 {
        self.crossings.on_their_way(|conversation| self.is_excused(conversation))
    }

    /// Of all ledgers, and of what crosses between them.
    pub(crate) fn counts(&self) -> crate::ledger::Counts {
        let mut counts = self.crossings.counts(|conversation| self.is_excused(conversation));
        for worker in &self.workers {
            let mut own = worker.done.as_ref().map_or(worker.progressed.counts, |done| done.counts);
            if worker.lost_at_s.is_some() {
                // On their way when it was heard last: nobody is there to take them.
                own.withheld += std::mem::take(&mut own.lost);
            }
            counts.add(&own);
        }
        counts
    }

    /// What cohorts did not take of messages that went from one worker's people to another's.
    pub(crate) fn withheld(&self, crowd: &Crowd) -> BTreeMap<Cohort, u64> {
        let mut withheld = BTreeMap::new();
        for (receiver, messages) in self.crossings.withheld() {
            *withheld.entry(crowd.of(receiver)).or_default() += messages;
        }
        withheld
    }

    /// One of the two lived in a worker that is gone.
    fn is_excused(&self, conversation: &Conversation) -> bool {
        let has = |worker: &Worker, person| {
            let (existing, newcomers_from) = (self.existing, self.newcomers_from);
            OwnPart { part: worker.part, existing, newcomers_from }.has(person)
        };
        self.workers
            .iter()
            .filter(|worker| worker.lost_at_s.is_some())
            .any(|lost| has(lost, conversation.sender) || has(lost, conversation.receiver))
    }

    pub(crate) fn order(&self, change: impl FnOnce(&mut Control)) {
        self.control.send_modify(change);
    }

    pub(crate) fn step(&self) -> Step {
        self.control.borrow().step
    }

    /// Tells everybody that there will be no run.
    pub(crate) async fn call_off(&self, reason: &str) {
        self.order(|control| control.called_off = Some(reason.to_owned()));
        let control = self.control.borrow().clone();
        self.link.tell("ctl", &control).await.ok();
        self.link.flush().await;
    }

    /// Says once more what was said last, before the connection ends.
    pub(crate) async fn close(&self) {
        let control = self.control.borrow().clone();
        self.link.tell("ctl", &control).await.ok();
        self.link.flush().await;
    }

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

    pub(crate) fn summaries(&self) -> Vec<WorkerSummary> {
        self.workers.iter().map(|worker| worker.summary(self.existing)).collect()
    }
}

impl Worker {
    fn new(number: u32, hello: Hello) -> Self {
        Self {
            number,
            hello,
            part: Part::WHOLE,
            progressed: Progressed::default(),
            recording: Recording::default(),
            done: None,
            lost_at_s: None,
            heard: Heard::default(),
            last_word: Instant::now(),
            accounts: Collected::default(),
            failed: None,
        }
    }

    fn is_here(&self) -> bool {
        self.lost_at_s.is_none()
    }

    fn summary(&self, existing: u32) -> WorkerSummary {
        WorkerSummary {
            lag_p99_ms: lag_of(&self.recording).or(self.progressed.lag_p99_ms),
            offered: offered_of(&self.recording),
            lost_at_s: self.lost_at_s,
            folder: self.done.as_ref().map(|done| done.folder.clone()).unwrap_or_default(),
            ..summary_of(self.number, &self.hello, self.part, existing)
        }
    }
}

/// What is known of a worker before it has done anything.
pub(crate) fn summary_of(number: u32, hello: &Hello, part: Part, existing: u32) -> WorkerSummary {
    let users = part.users(existing);
    WorkerSummary {
        number,
        host: hello.host.clone(),
        cores: hello.cores,
        share: part.to_string(),
        users: (users.start, users.end),
        clock_offset_ms: hello.clock.micros as f64 / 1_000.0,
        round_trip_ms: hello.clock.round_trip_micros as f64 / 1_000.0,
        ..WorkerSummary::default()
    }
}

/// Of everything that was sent.
pub(crate) fn lag_of(recording: &Recording) -> Option<f64> {
    let mut lag = Latency::default();
    for (_, _, sparse) in recording.histograms().filter(|(_, tag, _)| tag.ends_with(".lag")) {
        lag.add_sparse(sparse);
    }
    lag.quantile_ms(0.99)
}

pub(crate) fn offered_of(recording: &Recording) -> u64 {
    recording.rows().flat_map(|row| row.operations.values()).map(|operation| operation.offered).sum()
}

/// The parts of so many machines, each with people who can write to each other.
pub(crate) fn check_people(cores: &[u32], existing: u32) -> Result<Vec<Part>, WorkersError> {
    let parts = Part::split(cores);
    let least = |people: u32| parts.iter().map(|part| part.users(people).len()).min().unwrap_or(0);
    if least(existing) < 2 {
        let enough = (existing..=u32::MAX / 2).find(|people| least(*people) >= 2).unwrap_or(u32::MAX);
        return Err(WorkersError::FewPeople { workers: cores.len(), existing, least: enough });
    }
    Ok(parts)
}

async fn tell_the_time(mut questions: Subscriber, link: Link) {
    while let Some(question) = questions.next().await {
        link.answer(&question, &Time { micros: SystemClock.now().as_micros() }).await;
    }
}

/// Says what is to be known at every change, and again and again.
async fn repeat(link: Link, mut control: watch::Receiver<Control>) {
    let mut again = interval(ORDERS_EVERY);
    loop {
        let now = control.borrow_and_update().clone();
        link.tell("ctl", &now).await.ok();
        tokio::select! {
            _ = again.tick() => {}
            changed = control.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_somebody_to_write_to() {
        assert_eq!(check_people(&[2, 2], 4).unwrap().len(), 2);
        let error = check_people(&[2, 2, 2, 2], 7).unwrap_err();
        assert!(error.to_string().contains("--existing must be 8 or more"), "{error}");
        // A small machine beside a large one.
        let error = check_people(&[1, 15], 20).unwrap_err();
        assert!(error.to_string().contains("must be 32 or more"), "{error}");
    }
}
