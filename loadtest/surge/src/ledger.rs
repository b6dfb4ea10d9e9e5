//! Whether every message that the service acknowledged arrived exactly once, in order and intact.
//!
//! A *conversation* is one sender writing to one device of a receiver; its messages are numbered from 0. The number
//! travels inside the payload ([`Payload`]), so a delivery is recognised from what arrived and nothing else.
//!
//! The counts, precisely:
//! * **lost**: acknowledged, and not delivered intact. While a run still settles these are merely on their way.
//! * **duplicated**: deliveries of a message that had been delivered before. Feed the ledger after the client's own
//!   de-duplication, since the service promises no more than that.
//! * **reordered**: first deliveries of a message *a* after a message *b* of the same conversation, although *a* was
//!   acknowledged before *b* was sent. Sends that overlap have no order to keep.
//! * **corrupted**: deliveries that are ours but whose checksum fails. The message they stood for is also lost unless
//!   it arrives intact as well.
//! * **unexpected**: deliveries of a number that was never sent.
//!
//! Some people are excepted ([`Exceptions`]). What is acknowledged for a receiver who may not take it is **withheld** until it
//! arrives, and not lost; what a sender repeats under other ids is **repeated**, and not duplicated.
//!
//! Of several workers' people each has a ledger ([`Ledger::of_part`]). Messages that cross from one worker to another are neither lost nor unexpected
//! here: each side notes what it saw ([`Ledger::take_crossings`]), and [`Crossings`](crate::workers::Crossings) adds it up.
//!
//! A message whose send failed may arrive or not; both are correct. Memory for a conversation is a few ranges: it
//! grows with gaps, not with messages.

mod payload;
mod sequences;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use spillway_types::Timestamp;

pub use payload::{OVERHEAD_BYTES, Payload, PayloadError};
use sequences::Sequences;

use crate::workers::{Crossing, Part, Seen};

/// Enough that as many tasks as cores rarely meet.
const SHARDS: usize = 32;

/// One sender writing to one device of a receiver. The numbers are the population's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conversation {
    pub sender: u32,
    pub receiver: u32,
    pub device: u32,
}

/// A message of a conversation that is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub conversation: Conversation,
    pub sequence: u64,
    /// Every message below was acknowledged or given up when this one was sent.
    pub settled_below: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub sent: u64,
    pub acked: u64,
    /// Messages that arrived, each counted once.
    pub delivered: u64,
    /// Acknowledged and not delivered; final once the run has settled.
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub corrupted: u64,
    pub unexpected: u64,
    /// Deliveries of another run's messages, which say nothing about this one.
    pub foreign: u64,
    /// Acknowledged for somebody who does not take what is his, and so still with the service.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub withheld: u64,
    /// Deliveries of copies that their sender made under ids of their own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeated: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// People who are not held to what others are. By their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// Receivers who may not take what is theirs.
    pub withholding: HashSet<u32>,
    /// Senders whose copies of one message have ids of their own.
    pub repeating: HashSet<u32>,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Counts) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.unexpected += other.unexpected;
        self.foreign += other.foreign;
        self.withheld += other.withheld;
        self.repeated += other.repeated;
    }
}

/// What a delivery was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Arrived for the first time, after being sent at this time.
    First {
        conversation: Conversation,
        sent_at: Timestamp,
    },
    Duplicate(Conversation),
    Unexpected(Conversation),
    Corrupted,
    Foreign,
}

#[derive(Debug)]
pub struct Ledger {
    run: u64,
    exceptions: Exceptions,
    /// Where others play the rest of the run.
    part: Option<OwnPart>,
    /// What was seen of messages that cross, since it was last taken.
    crossings: Mutex<Vec<Crossing>>,
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

/// Whose people are here, by the numbers of the population.
#[derive(Clone, Copy, Debug)]
pub struct OwnPart {
    pub part: Part,
    /// People below are existing users.
    pub existing: u32,
    /// Newcomers are numbered from here.
    pub newcomers_from: u32,
}

impl OwnPart {
    pub(crate) fn has(&self, person: u32) -> bool {
        match person.checked_sub(self.newcomers_from) {
            Some(newcomer) => self.part.has_newcomer(u64::from(newcomer)),
            None => self.part.has_user(person, self.existing),
        }
    }
}

#[derive(Debug, Default)]
struct Shard {
    conversations: HashMap<Conversation, Messages>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Messages {
    /// Numbers handed out.
    sent: u64,
    acked: Sequences,
    /// Acknowledged or given up.
    settled: Sequences,
    delivered: Sequences,
    /// Everything acknowledged below this should have arrived before something that did.
    due_below: u64,
}

impl Ledger {
    /// `run` tells this run's messages from those that an earlier one left behind.
    pub fn new(run: u64) -> Self {
        Self::excepting(run, Exceptions::default())
    }

    /// The same, with people who are excepted.
    pub fn excepting(run: u64, exceptions: Exceptions) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        let crossings = Mutex::default();
        Self { run, exceptions, part: None, crossings, shards, hasher: RandomState::new() }
    }

    /// The ledger of one of several workers.
    pub fn of_part(self, part: OwnPart) -> Self {
        Self { part: Some(part), ..self }
    }

    /// What was seen of messages between its own people and others', since it was last asked.
    pub fn take_crossings(&self) -> Vec<Crossing> {
        std::mem::take(&mut *self.crossings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes it, where it is of a conversation that two workers share; false where it is not.
    fn crosses(&self, ticket: &Ticket, seen: Seen) -> bool {
        let Ticket { conversation, sequence, .. } = *ticket;
        let crosses = self.is_shared(&conversation);
        if crosses {
            let mut crossings = self.crossings.lock().unwrap_or_else(PoisonError::into_inner);
            crossings.push(Crossing { conversation, sequence, seen });
        }
        crosses
    }

    fn is_shared(&self, conversation: &Conversation) -> bool {
        let shared = |own: &OwnPart| !own.has(conversation.sender) || !own.has(conversation.receiver);
        self.part.as_ref().is_some_and(shared)
    }

    /// Numbers the next message of a conversation.
    pub fn send(&self, conversation: Conversation) -> Ticket {
        let mut shard = self.shard(&conversation);
        shard.counts.sent += 1;
        let messages = shard.conversations.entry(conversation).or_default();
        let sequence = messages.sent;
        messages.sent += 1;
        Ticket { conversation, sequence, settled_below: messages.settled.contiguous() }
    }

    /// The payload that carries a ticket, padded to `size_bytes` with noise.
    pub fn encode(&self, ticket: Ticket, sent_at: Timestamp, size_bytes: usize) -> Vec<u8> {
        Payload { run: self.run, ticket, sent_at }.encode(size_bytes)
    }

    /// The service answered that the message is safe. An acknowledgement of a retry counts once.
    pub fn acked(&self, ticket: Ticket) {
        let mut guard = self.shard(&ticket.conversation);
        let Shard { conversations, counts } = &mut *guard;
        let messages = conversations.entry(ticket.conversation).or_default();
        messages.settled.insert(ticket.sequence);
        if messages.acked.insert(ticket.sequence) {
            counts.acked += 1;
            let withheld = self.exceptions.withholding.contains(&ticket.conversation.receiver);
            let seen = if withheld { Seen::AckedWithheld } else { Seen::Acked };
            if !self.crosses(&ticket, seen) && !messages.delivered.contains(ticket.sequence) {
                *self.missing(&ticket.conversation, counts) += 1;
            }
        }
    }

    /// The send failed for good, so the message may arrive or not.
    pub fn gave_up(&self, ticket: Ticket) {
        let mut shard = self.shard(&ticket.conversation);
        let messages = shard.conversations.entry(ticket.conversation).or_default();
        if messages.settled.insert(ticket.sequence) {
            self.crosses(&ticket, Seen::GaveUp);
        }
    }

    /// A client was handed this payload.
    pub fn delivered(&self, payload: &[u8]) -> Delivery {
        let payload = match Payload::decode(payload) {
            Ok(payload) if payload.run == self.run => payload,
            Ok(_) | Err(PayloadError::NotOurs) => {
                self.any_shard().counts.foreign += 1;
                return Delivery::Foreign;
            }
            Err(PayloadError::Corrupted) => {
                self.any_shard().counts.corrupted += 1;
                return Delivery::Corrupted;
            }
        };
        let Ticket { conversation, sequence, settled_below } = payload.ticket;
        let mut guard = self.shard(&conversation);
        let Shard { conversations, counts } = &mut *guard;
        let shared = self.is_shared(&conversation);
        if shared {
            // Sent by somebody else's people, or by one who took over.
            conversations.entry(conversation).or_default();
        }
        let known =
            conversations.get_mut(&conversation).filter(|messages| shared || sequence < messages.sent);
        let Some(messages) = known else {
            counts.unexpected += 1;
            return Delivery::Unexpected(conversation);
        };
        if !messages.delivered.insert(sequence) {
            let copies = self.exceptions.repeating.contains(&conversation.sender);
            *(if copies { &mut counts.repeated } else { &mut counts.duplicated }) += 1;
            return Delivery::Duplicate(conversation);
        }
        counts.delivered += 1;
        let seen = if sequence < messages.due_below { Seen::DeliveredLate } else { Seen::Delivered };
        if !self.crosses(&payload.ticket, seen) && messages.acked.contains(sequence) {
            *self.missing(&conversation, counts) -= 1;
            if sequence < messages.due_below {
                counts.reordered += 1;
            }
        }
        messages.due_below = messages.due_below.max(settled_below);
        Delivery::First { conversation, sent_at: payload.sent_at }
    }

    pub fn counts(&self) -> Counts {
        self.shards.iter().map(|shard| lock(shard).counts).fold(Counts::default(), Counts::plus)
    }

    /// Some of the messages that are lost, to look for in the service's logs.
    pub fn lost_examples(&self, max: usize) -> Vec<(Conversation, u64)> {
        let mut examples = Vec::new();
        for shard in &self.shards {
            for (conversation, messages) in &lock(shard).conversations {
                let excepted = self.exceptions.withholding.contains(&conversation.receiver);
                if excepted || self.is_shared(conversation) {
                    continue;
                }
                let lost = messages.acked.iter().filter(|sequence| !messages.delivered.contains(*sequence));
                examples.extend(lost.take(max - examples.len()).map(|sequence| (*conversation, sequence)));
                if examples.len() == max {
                    return examples;
                }
            }
        }
        examples
    }

    /// What is with the service for each of those who do not take what is theirs.
    pub fn withheld(&self) -> BTreeMap<u32, u64> {
        let mut withheld = BTreeMap::new();
        for shard in &self.shards {
            for (conversation, messages) in &lock(shard).conversations {
                let excepted = self.exceptions.withholding.contains(&conversation.receiver);
                if excepted && !self.is_shared(conversation) {
                    let missing =
                        messages.acked.iter().filter(|at| !messages.delivered.contains(*at)).count();
                    *withheld.entry(conversation.receiver).or_default() += missing as u64;
                }
            }
        }
        withheld
    }

    /// Where a message counts that was acknowledged and has not arrived.
    fn missing<'a>(&self, conversation: &Conversation, counts: &'a mut Counts) -> &'a mut u64 {
        let excepted = self.exceptions.withholding.contains(&conversation.receiver);
        if excepted { &mut counts.withheld } else { &mut counts.lost }
    }

    fn shard(&self, conversation: &Conversation) -> MutexGuard<'_, Shard> {
        let hash = usize::try_from(self.hasher.hash_one(conversation) >> 33).unwrap_or(0);
        lock(&self.shards[hash % SHARDS])
    }

    fn any_shard(&self) -> MutexGuard<'_, Shard> {
        lock(&self.shards[0])
    }
}

impl Counts {
    fn plus(self, other: Counts) -> Counts {
        Counts {
            sent: self.sent + other.sent,
            acked: self.acked + other.acked,
            delivered: self.delivered + other.delivered,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            corrupted: self.corrupted + other.corrupted,
            unexpected: self.unexpected + other.unexpected,
            foreign: self.foreign + other.foreign,
            withheld: self.withheld + other.withheld,
            repeated: self.repeated + other.repeated,
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
