use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const PAIR: Conversation = Conversation { sender: 1, receiver: 2, device: 1 };

/// Sends `count` messages one after the other, each acknowledged before the next is sent.
fn acked(ledger: &Ledger, count: u64) -> Vec<Vec<u8>> {
    (0..count)
        .map(|_| {
            let ticket = ledger.send(PAIR);
            ledger.acked(ticket);
            ledger.encode(ticket, Timestamp::from_micros(5), 128)
        })
        .collect()
}

fn ledger_with(count: u64, deliver: impl Fn(&Ledger, &mut Vec<Vec<u8>>)) -> Counts {
    let ledger = Ledger::new(9);
    let mut payloads = acked(&ledger, count);
    deliver(&ledger, &mut payloads);
    for payload in payloads {
        ledger.delivered(&payload);
    }
    ledger.counts()
}

#[test]
fn a_clean_run_counts_nothing_wrong() {
    let counts = ledger_with(100, |_, _| ());
    assert_eq!(counts, Counts { sent: 100, acked: 100, delivered: 100, ..Counts::default() });
}

#[test]
fn each_fault_is_counted_exactly() {
    let clean = Counts { sent: 100, acked: 100, delivered: 100, ..Counts::default() };

    let lost = ledger_with(100, |_, payloads| {
        for at in [99, 50, 0] {
            payloads.remove(at);
        }
    });
    assert_eq!(lost, Counts { delivered: 97, lost: 3, ..clean });

    let duplicated = ledger_with(100, |_, payloads| {
        let again = [7, 7, 8].map(|at| payloads[at].clone());
        payloads.extend(again);
    });
    assert_eq!(duplicated, Counts { duplicated: 3, ..clean });

    let reordered = ledger_with(100, |_, payloads| payloads.swap(10, 13));
    // 13 comes before 11, 12 and 10, all of which were acknowledged before it was sent.
    assert_eq!(reordered, Counts { reordered: 3, ..clean });

    let corrupted = ledger_with(100, |_, payloads| {
        payloads[3][70] ^= 1;
        payloads[4].pop();
    });
    assert_eq!(corrupted, Counts { delivered: 98, lost: 2, corrupted: 2, ..clean });

    let foreign = ledger_with(100, |ledger, _| {
        assert_eq!(ledger.delivered(b"hello"), Delivery::Foreign);
        let other = Ledger::new(10);
        assert_eq!(ledger.delivered(&acked(&other, 1)[0]), Delivery::Foreign);
    });
    assert_eq!(foreign, Counts { foreign: 2, ..clean });

    let unexpected = ledger_with(100, |ledger, _| {
        let never_sent = Ticket { conversation: PAIR, sequence: 100, settled_below: 0 };
        let payload = ledger.encode(never_sent, Timestamp::ZERO, 128);
        assert_eq!(ledger.delivered(&payload), Delivery::Unexpected(PAIR));
    });
    assert_eq!(unexpected, Counts { unexpected: 1, ..clean });
}

#[test]
fn a_send_that_failed_may_arrive_or_not() {
    let ledger = Ledger::new(9);
    let tickets: Vec<_> = (0..3).map(|_| ledger.send(PAIR)).collect();
    ledger.gave_up(tickets[0]);
    ledger.gave_up(tickets[1]);
    ledger.acked(tickets[2]);
    for ticket in [tickets[1], tickets[2]] {
        ledger.delivered(&ledger.encode(ticket, Timestamp::ZERO, 100));
    }
    assert_eq!(ledger.counts(), Counts { sent: 3, acked: 1, delivered: 2, ..Counts::default() });
}

#[test]
fn overlapping_sends_have_no_order_to_keep() {
    let ledger = Ledger::new(9);
    let (a, b) = (ledger.send(PAIR), ledger.send(PAIR));
    ledger.acked(a);
    ledger.acked(b);
    for ticket in [b, a] {
        ledger.delivered(&ledger.encode(ticket, Timestamp::ZERO, 100));
    }
    assert_eq!(ledger.counts().reordered, 0);
}

#[test]
fn a_delivery_may_overtake_its_acknowledgement() {
    let ledger = Ledger::new(9);
    let ticket = ledger.send(PAIR);
    let sent_at = Timestamp::from_millis(3);
    let delivery = ledger.delivered(&ledger.encode(ticket, sent_at, 100));
    assert_eq!(delivery, Delivery::First { conversation: PAIR, sent_at });
    ledger.acked(ticket);
    ledger.acked(ticket);
    assert_eq!(ledger.counts(), Counts { sent: 1, acked: 1, delivered: 1, ..Counts::default() });
}

#[test]
fn lost_messages_are_named() {
    let ledger = Ledger::new(9);
    let payloads = acked(&ledger, 10);
    for payload in payloads.iter().skip(2).take(7) {
        ledger.delivered(payload);
    }
    assert_eq!(ledger.lost_examples(2), [(PAIR, 0), (PAIR, 1)]);
    assert_eq!(ledger.lost_examples(5).len(), 3);
}

#[test]
fn what_the_excepted_do_not_take_is_withheld_and_what_they_repeat_is_counted_apart() {
    let exceptions = Exceptions { withholding: [2].into(), repeating: [1].into() };
    let ledger = Ledger::excepting(9, exceptions);
    let to_other = Conversation { receiver: 3, ..PAIR };
    let (kept, other) = (ledger.send(PAIR), ledger.send(to_other));
    ledger.acked(kept);
    ledger.acked(other);
    assert_eq!((ledger.counts().withheld, ledger.counts().lost), (1, 1));
    assert_eq!(ledger.withheld(), BTreeMap::from([(2, 1)]));
    assert_eq!(ledger.lost_examples(5), [(to_other, 0)], "only what is lost is named");

    for ticket in [kept, other, other] {
        ledger.delivered(&ledger.encode(ticket, Timestamp::ZERO, 100));
    }
    let all = Counts { sent: 2, acked: 2, delivered: 2, repeated: 1, ..Counts::default() };
    assert_eq!(ledger.counts(), all);
    // Somebody else's copy is what it always was.
    let ticket = ledger.send(Conversation { sender: 5, ..to_other });
    for _ in 0..2 {
        ledger.delivered(&ledger.encode(ticket, Timestamp::ZERO, 100));
    }
    assert_eq!((ledger.counts().duplicated, ledger.counts().repeated), (1, 1));
}

#[derive(Clone, Debug)]
enum Event {
    Send(u32),
    Ack(prop::sample::Index),
    GiveUp(prop::sample::Index),
    Deliver(prop::sample::Index),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..3u32).prop_map(Event::Send),
        any::<prop::sample::Index>().prop_map(Event::Ack),
        any::<prop::sample::Index>().prop_map(Event::GiveUp),
        any::<prop::sample::Index>().prop_map(Event::Deliver),
    ]
}

/// Remembers everything and judges by the definitions.
#[derive(Default)]
struct Naive {
    acked: BTreeSet<usize>,
    settled: BTreeSet<usize>,
    /// By message, the messages of the same conversation that were settled before it, without a gap, when it was sent.
    settled_before: Vec<Vec<usize>>,
    first_deliveries: Vec<usize>,
    counts: Counts,
}

impl Naive {
    fn deliver(&mut self, message: usize) {
        if self.first_deliveries.contains(&message) {
            self.counts.duplicated += 1;
            return;
        }
        let overtaken =
            self.first_deliveries.iter().any(|earlier| self.settled_before[*earlier].contains(&message));
        self.counts.reordered += u64::from(overtaken && self.acked.contains(&message));
        self.first_deliveries.push(message);
    }

    fn counts(&self) -> Counts {
        Counts {
            sent: self.settled_before.len() as u64,
            acked: self.acked.len() as u64,
            delivered: self.first_deliveries.len() as u64,
            lost: self.acked.iter().filter(|message| !self.first_deliveries.contains(message)).count() as u64,
            ..self.counts
        }
    }
}

proptest! {
    #[test]
    fn the_ledger_agrees_with_a_naive_model(events in prop::collection::vec(any_event(), 1..200)) {
        let ledger = Ledger::new(1);
        let mut naive = Naive::default();
        let mut tickets: Vec<Ticket> = Vec::new();
        let mut by_conversation: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for event in events {
            match event {
                Event::Send(receiver) => {
                    let earlier = by_conversation.entry(receiver).or_default();
                    let settled = earlier.iter().copied().take_while(|message| naive.settled.contains(message));
                    naive.settled_before.push(settled.collect());
                    earlier.push(tickets.len());
                    tickets.push(ledger.send(Conversation { sender: 0, receiver, device: 0 }));
                }
                _ if tickets.is_empty() => {}
                Event::Ack(which) => {
                    let message = which.index(tickets.len());
                    ledger.acked(tickets[message]);
                    naive.acked.insert(message);
                    naive.settled.insert(message);
                }
                Event::GiveUp(which) => {
                    let message = which.index(tickets.len());
                    ledger.gave_up(tickets[message]);
                    naive.settled.insert(message);
                }
                Event::Deliver(which) => {
                    let message = which.index(tickets.len());
                    ledger.delivered(&ledger.encode(tickets[message], Timestamp::ZERO, 90));
                    naive.deliver(message);
                }
            }
            prop_assert_eq!(ledger.counts(), naive.counts());
        }
    }
}

/// One thing that happens to the messages of a run.
#[derive(Clone, Debug)]
enum Happens {
    Sent {
        from: u32,
        to: u32,
    },
    Acked(prop::sample::Index),
    GaveUp(prop::sample::Index),
    /// Again, when it has been.
    Delivered(prop::sample::Index),
}

fn any_happening() -> impl Strategy<Value = Happens> {
    let index = any::<prop::sample::Index>;
    // Existing users from 0 to 9, newcomers from 100.
    let person = || prop_oneof![0..10u32, 100..106u32];
    prop_oneof![
        4 => (person(), person()).prop_map(|(from, to)| Happens::Sent { from, to }),
        3 => index().prop_map(Happens::Acked),
        1 => index().prop_map(Happens::GaveUp),
        3 => index().prop_map(Happens::Delivered),
    ]
}

proptest! {
    /// Whatever happens to whom: the ledgers of several workers, put together, say what one ledger of everybody says.
    #[test]
    fn several_ledgers_are_one(
        happenings in prop::collection::vec(any_happening(), 0..200), weights in prop::collection::vec(1..5u32, 1..5)
    ) {
        let parts: Vec<_> = Part::split(&weights)
            .into_iter()
            .map(|part| OwnPart { part, existing: 10, newcomers_from: 100 })
            .collect();
        let exceptions = || Exceptions { withholding: [3, 8].into(), repeating: [4].into() };
        let whole = Ledger::excepting(9, exceptions());
        let shared: Vec<_> =
            parts.iter().map(|part| Ledger::excepting(9, exceptions()).of_part(*part)).collect();
        let of = |person: u32| &shared[parts.iter().position(|part| part.has(person)).unwrap()];
        let mut sent: Vec<(Ticket, bool)> = Vec::new();
        for happening in happenings {
            let count = sent.len();
            match happening {
                Happens::Sent { from, to } => {
                    let conversation = Conversation { sender: from, receiver: to, device: 1 };
                    let ticket = whole.send(conversation);
                    prop_assert_eq!(of(from).send(conversation), ticket);
                    sent.push((ticket, false));
                }
                _ if sent.is_empty() => {}
                Happens::Acked(which) | Happens::GaveUp(which) if sent[which.index(count)].1 => {}
                Happens::Acked(which) => {
                    let (ticket, settled) = &mut sent[which.index(count)];
                    *settled = true;
                    whole.acked(*ticket);
                    of(ticket.conversation.sender).acked(*ticket);
                }
                Happens::GaveUp(which) => {
                    let (ticket, settled) = &mut sent[which.index(count)];
                    *settled = true;
                    whole.gave_up(*ticket);
                    of(ticket.conversation.sender).gave_up(*ticket);
                }
                Happens::Delivered(which) => {
                    let ticket = sent[which.index(count)].0;
                    let payload = whole.encode(ticket, Timestamp::ZERO, 64);
                    whole.delivered(&payload);
                    of(ticket.conversation.receiver).delivered(&payload);
                }
            }
        }
        // A send has an end.
        for (ticket, settled) in &sent {
            if !settled {
                whole.gave_up(*ticket);
                of(ticket.conversation.sender).gave_up(*ticket);
            }
        }
        let mut crossings = crate::workers::Crossings::default();
        let mut counts = Counts::default();
        for ledger in &shared {
            counts.add(&ledger.counts());
            ledger.take_crossings().into_iter().for_each(|crossing| crossings.add(crossing));
        }
        counts.add(&crossings.counts(|_| false));
        prop_assert_eq!(counts, whole.counts());
    }
}
