//! A worker's side of the conversation.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Subscriber;
use serde::de::DeserializeOwned;
use spillway_types::{AccountId, Clock, SystemClock, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_stream::StreamExt;

use super::link::decode;
use super::tie::Orders;
use super::wire::{
    Accounts, Alive, Answer, Assignment, Control, Done, Hello, Received, Start, Time, VERSION, Welcome,
};
use super::{Link, Offset, PINGS, Ping, Spool, WorkersError};
use crate::plan::Machine;
use crate::workload::Contact;

/// Between two signs of life; the coordinator gives up after several.
const ALIVE_EVERY: Duration = Duration::from_millis(500);
/// Ticks that are not confirmed by then are sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A coordinator that says nothing for so long before the run has begun is not coming back.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// For the answer to a question that has one at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// What the coordinator has to confirm at the end may be minutes of ticks, when NATS was away.
const DONE_WITHIN: Duration = Duration::from_secs(30);
/// People in one message: 50 bytes each.
pub(super) const ACCOUNTS_IN_PIECE: usize = 4_000;

#[derive(Debug)]
pub(crate) struct Session {
    link: Link,
    pub(crate) number: u32,
    pub(crate) hello: Hello,
    /// What the worker does, for whoever asks why it takes so long.
    doing: Arc<Mutex<Alive>>,
    pub(super) orders: watch::Receiver<Orders>,
    plan: Subscriber,
    people: Subscriber,
    start: Subscriber,
    tasks: JoinSet<()>,
}

impl Session {
    /// Waits for the coordinator, compares clocks, and is given a number.
    ///
    /// # Errors
    ///
    /// When the coordinator does not take it.
    pub(crate) async fn begin(link: Link, wait: impl FnOnce()) -> Result<Self, WorkersError> {
        let clock = compare_clocks(&link, wait).await?;
        let hello = Hello {
            version: VERSION,
            id: u64::from_be_bytes(spillway_types::random_bytes()),
            host: host(),
            pid: std::process::id(),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            descriptors: Machine::here().descriptors.unwrap_or(u64::MAX),
            clock,
        };
        let number = match link.insist("hello", &hello, ANSWER_WITHIN).await? {
            Welcome::Worker(number) => number,
            Welcome::Refused(reason) => return Err(WorkersError::NotTaken(reason)),
        };
        let doing = Arc::new(Mutex::new(Alive { worker: number, doing: "waits".to_owned(), failed: None }));
        let mut tasks = JoinSet::new();
        let (sender, orders) = watch::channel(Orders { control: Control::default(), heard: Instant::now() });
        tasks.spawn(listen(link.subscribe("ctl").await?, sender));
        tasks.spawn(live(link.clone(), doing.clone()));
        Ok(Self {
            plan: link.subscribe(&format!("plan.{number}")).await?,
            people: link.subscribe(&format!("people.{number}")).await?,
            start: link.subscribe(&format!("start.{number}")).await?,
            link,
            number,
            hello,
            doing,
            orders,
            tasks,
        })
    }

    fn does(&self, doing: &str) {
        doing.clone_into(&mut self.doing.lock().unwrap_or_else(PoisonError::into_inner).doing);
    }

    /// What this worker is to play. `judge` says whether it can.
    ///
    /// # Errors
    ///
    /// When it cannot, or the run is called off.
    pub(crate) async fn assignment<T>(
        &mut self,
        judge: impl Fn(&Assignment) -> Result<T, WorkersError>,
    ) -> Result<(Assignment, T), WorkersError> {
        let (assignment, message): (Assignment, _) = next(&mut self.plan, &mut self.orders).await?;
        match judge(&assignment) {
            Ok(judged) => {
                self.link.answer(&message, &Answer::Yes).await;
                self.does("signs up its people");
                Ok((assignment, judged))
            }
            Err(error) => {
                let reason = format!("{:#}", anyhow::Error::new(error));
                self.link.answer(&message, &Answer::No(reason.clone())).await;
                self.link.flush().await;
                Err(WorkersError::CalledOff(reason))
            }
        }
    }

    /// Tells that it cannot go on.
    pub(crate) async fn fail(&self, reason: &str) {
        let alive = {
            let mut doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
            doing.failed = Some(reason.to_owned());
            doing.clone()
        };
        // Said twice: nothing else would tell why this worker is gone.
        for _ in 0..2 {
            self.link.tell("alive", &alive).await.ok();
        }
        self.link.flush().await;
    }

    /// Tells who lives here, and is told who there is.
    ///
    /// # Errors
    ///
    /// When the run is called off.
    pub(crate) async fn exchange(&mut self, own: &[Contact]) -> Result<Vec<Contact>, WorkersError> {
        for accounts in pieces(self.number, own) {
            let _confirmed: Answer = self.link.insist("ready", &accounts, ANSWER_WITHIN).await?;
        }
        self.does("waits for the other workers' people");
        let mut collected = Collected::default();
        loop {
            let (accounts, message): (Accounts, _) = next(&mut self.people, &mut self.orders).await?;
            collected.add(accounts);
            self.link.answer(&message, &Answer::Yes).await;
            if let Some(all) = collected.whole() {
                return Ok(all);
            }
        }
    }

    /// The moment at which the run begins.
    ///
    /// # Errors
    ///
    /// When the run is called off.
    pub(crate) async fn begins(&mut self) -> Result<Instant, WorkersError> {
        self.does("waits for the start");
        let (start, message): (Start, _) = next(&mut self.start, &mut self.orders).await?;
        self.link.answer(&message, &Answer::Yes).await;
        self.does("plays");
        let left = Timestamp::from_micros(start.micros).since(self.hello.clock.now());
        Ok(Instant::now() + left)
    }

    /// Tells what is put into the spool, until it is dropped.
    pub(crate) fn tell(&mut self, spool: Arc<Spool>) {
        self.tasks.spawn(tell(self.link.clone(), spool, self.orders.clone()));
    }

    /// Tells that everything was told; false when the coordinator did not confirm it.
    pub(crate) async fn done(&mut self, spool: &Spool, done: &Done) -> bool {
        let until = Instant::now() + DONE_WITHIN;
        let is_heard = |orders: &Orders| !orders.are_old() && !orders.control.lost.contains(&done.worker);
        while Instant::now() < until && !spool.has_given_up() && is_heard(&self.orders.borrow()) {
            match self.link.ask("done", done).await {
                Ok(Received::Everything) => return true,
                Ok(Received::UpTo(heard)) => {
                    for tick in spool.from(heard + 1) {
                        self.link.tell("tick", &tick).await.ok();
                    }
                    self.link.flush().await;
                }
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
        false
    }
}

/// The next question on a subject, unless the run is called off or its coordinator is gone.
async fn next<T: DeserializeOwned>(
    subscriber: &mut Subscriber,
    orders: &mut watch::Receiver<Orders>,
) -> Result<(T, async_nats::Message), WorkersError> {
    let mut look = interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            message = subscriber.next() => match message {
                Some(message) => return Ok((decode(&message)?, message)),
                None => return Err(WorkersError::NoCoordinator(0)),
            },
            _ = look.tick() => {
                let orders = orders.borrow();
                if let Some(reason) = &orders.control.called_off {
                    return Err(WorkersError::CalledOff(reason.clone()));
                }
                if orders.heard.elapsed() > GONE_AFTER {
                    return Err(WorkersError::NoCoordinator(GONE_AFTER.as_secs()));
                }
            }
        }
    }
}

async fn compare_clocks(link: &Link, wait: impl FnOnce()) -> Result<Offset, WorkersError> {
    let mut wait = Some(wait);
    let mut pings = Vec::new();
    while pings.len() < PINGS {
        let (asked, since) = (SystemClock.now(), Instant::now());
        match link.ask::<Time>("clock", &Time { micros: asked.as_micros() }).await {
            Ok(time) => pings.push(Ping {
                asked,
                answered: Timestamp::from_micros(time.micros),
                round_trip: since.elapsed(),
            }),
            Err(super::LinkError::NoAnswer { .. }) => {
                if let Some(wait) = wait.take() {
                    wait();
                }
                sleep(Duration::from_millis(300)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Offset::of(&pings).unwrap_or_default())
}

async fn listen(mut subscriber: Subscriber, orders: watch::Sender<Orders>) {
    while let Some(message) = subscriber.next().await {
        if let Ok(control) = decode(&message) {
            orders.send_replace(Orders { control, heard: Instant::now() });
        }
    }
}

async fn live(link: Link, doing: Arc<Mutex<Alive>>) {
    let mut ticks = interval(ALIVE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let alive = doing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        link.tell("alive", &alive).await.ok();
    }
}

/// Sends each tick once, and what was not confirmed again.
async fn tell(link: Link, spool: Arc<Spool>, orders: watch::Receiver<Orders>) {
    let mut told = 0;
    let mut again = interval(AGAIN_AFTER);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard_before = 0;
    loop {
        tokio::select! {
            () = spool.more() => {}
            _ = again.tick() => {
                let heard = {
                    let orders = orders.borrow();
                    orders.control.heard.get(&spool.worker()).copied().unwrap_or(0)
                };
                spool.confirm(heard);
                // It has stood still since the last look: something was lost on the way.
                if heard == heard_before {
                    told = heard;
                }
                heard_before = heard;
            }
        }
        for tick in spool.from(told + 1) {
            told = tick.seq;
            link.tell("tick", &tick).await.ok();
        }
    }
}

/// People in messages that are not too large; at least one message.
pub(super) fn pieces(worker: u32, people: &[Contact]) -> Vec<Accounts> {
    let chunks: Vec<&[Contact]> =
        if people.is_empty() { vec![&[]] } else { people.chunks(ACCOUNTS_IN_PIECE).collect() };
    let pieces = chunks.len() as u32;
    let account = |contact: &Contact| (contact.index, contact.account.to_string());
    (0..)
        .zip(chunks)
        .map(|(piece, chunk)| Accounts {
            worker,
            piece,
            pieces,
            accounts: chunk.iter().map(account).collect(),
        })
        .collect()
}

/// Pieces of a list of people, in any order and more than once.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pieces: std::collections::BTreeMap<u32, Vec<Contact>>,
    of: Option<u32>,
}

impl Collected {
    pub(super) fn add(&mut self, accounts: Accounts) {
        self.of = Some(accounts.pieces);
        let contact = |(index, account): (u32, String)| {
            Some(Contact { index, account: account.parse::<AccountId>().ok()? })
        };
        let contacts = accounts.accounts.into_iter().filter_map(contact).collect();
        self.pieces.insert(accounts.piece, contacts);
    }

    /// Everybody, once all pieces are there.
    pub(super) fn whole(&self) -> Option<Vec<Contact>> {
        let all = self.of.is_some_and(|of| self.pieces.len() as u32 == of);
        all.then(|| self.pieces.values().flatten().copied().collect())
    }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_arrive_whole_in_any_order_and_when_repeated() {
        let contact = |index| Contact { index, account: AccountId::from_bytes([index as u8; 16]) };
        let people: Vec<_> = (0..9_000).map(contact).collect();
        let pieces = pieces(3, &people);
        assert_eq!(pieces.len(), 3);
        let mut collected = Collected::default();
        for at in [2, 0, 0] {
            collected.add(pieces[at].clone());
            assert_eq!(collected.whole(), None);
        }
        collected.add(pieces[1].clone());
        assert_eq!(collected.whole(), Some(people));
        let mut nobody = Collected::default();
        nobody.add(super::pieces(1, &[])[0].clone());
        assert_eq!(nobody.whole(), Some(Vec::new()));
    }

    /// What the strictest server takes is 512 KB.
    #[test]
    fn a_piece_of_people_is_small_enough() {
        let contact = |index| Contact { index, account: AccountId::from_bytes([255; 16]) };
        let people: Vec<_> = (0..ACCOUNTS_IN_PIECE as u32).map(|n| contact(u32::MAX - n)).collect();
        assert!(serde_json::to_vec(&pieces(u32::MAX, &people)[0]).unwrap().len() < 400_000);
    }

    #[test]
    fn a_control_says_nothing_that_is_not_so() {
        let text = serde_json::to_string(&Control::default()).unwrap();
        assert_eq!(text, "{\"step\":\"running\",\"heard\":{}}");
    }
}
