//! The coordinator's side of the conversation: who the workers are, what they were told, and what they said.

mod ask;
mod hear;
mod member;
mod silence;
mod sum;

use std::time::Duration;

use async_nats::Subscriber;
use spillway_types::{Clock, SystemClock};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_stream::{StreamExt, StreamMap};

use super::wire::{Control, Step, Time};
use super::{Crossings, Link, Part, WorkersError};
pub(crate) use hear::Seconds;
pub(crate) use member::{Worker, lag_of, offered_of, summary_of};

/// Workers look whether they still hear it.
const ORDERS_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked whether all is well.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(250);

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
    /// Until then nobody is expected, because the server was gone.
    back_by: Instant,
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
            back_by: Instant::now(),
            looked: Instant::now(),
            messages,
            _tasks: tasks,
        })
    }

    pub(crate) fn address(&self) -> &str {
        self.link.address()
    }

    /// Whether anybody can be heard at all.
    pub(crate) fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.workers.len() == self.wanted
    }

    fn host(&self, number: u32) -> String {
        self.workers
            .iter()
            .find(|worker| worker.number == number)
            .map_or_else(String::new, |worker| format!("{}, process {}", worker.hello.host, worker.hello.pid))
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
