//! Messages between people of different workers.
//!
//! Who sends knows what was acknowledged, who receives knows what arrived, and a loss is the one without the other. Pairing people within a worker
//! would make every worker's ledger exact, but the messages of a run would depend on the number of its workers. So each side says what it saw of the
//! conversations that it shares, and here it is put together, by conversation and number. What was settled on both sides is forgotten: memory
//! follows what is under way.
//!
//! What one side can tell alone stays in its own [`Ledger`](crate::ledger::Ledger): copies, changed bytes, and that a message came after one
//! before which it was sent.

use std::collections::{BTreeMap, HashMap};

use crate::ledger::{Conversation, Counts};

/// What one side saw of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Acknowledged to its sender.
    Acked,
    /// The same, for a receiver who may not take what is his.
    AckedWithheld,
    /// The send failed for good: it may arrive or not.
    GaveUp,
    /// For the first time.
    Delivered,
    /// For the first time, after one that was sent when this one was settled.
    DeliveredLate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    pub conversation: Conversation,
    pub sequence: u64,
    pub seen: Seen,
}

impl Seen {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Acked, "acked"),
        (Self::AckedWithheld, "withheld"),
        (Self::GaveUp, "gave_up"),
        (Self::Delivered, "delivered"),
        (Self::DeliveredLate, "late"),
    ];
}

impl Crossing {
    /// `acked 3 17 1 0`: sender, receiver, device, number.
    pub fn line(&self) -> String {
        let Conversation { sender, receiver, device } = self.conversation;
        let word = Seen::ALL.iter().find(|(seen, _)| *seen == self.seen).map_or("", |(_, word)| word);
        format!("{word} {sender} {receiver} {device} {}\n", self.sequence)
    }

    /// `None`: it is not what [`line`](Self::line) writes.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let word = words.next()?;
        let seen = Seen::ALL.iter().find(|(_, name)| *name == word)?.0;
        let mut number = || words.next()?.parse::<u64>().ok();
        let mut person = || u32::try_from(number()?).ok();
        let conversation = Conversation { sender: person()?, receiver: person()?, device: person()? };
        let sequence = number()?;
        words.next().is_none().then_some(Self { conversation, sequence, seen })
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    acked: bool,
    withheld: bool,
    gave_up: bool,
    delivered: bool,
    late: bool,
}

/// Both sides of what crosses.
#[derive(Clone, Debug, Default)]
pub struct Crossings {
    open: HashMap<(Conversation, u64), Known>,
    reordered: u64,
}

impl Crossings {
    pub fn add(&mut self, crossing: Crossing) {
        let key = (crossing.conversation, crossing.sequence);
        let known = self.open.entry(key).or_default();
        match crossing.seen {
            Seen::Acked => known.acked = true,
            Seen::AckedWithheld => (known.acked, known.withheld) = (true, true),
            Seen::GaveUp => known.gave_up = true,
            Seen::Delivered => known.delivered = true,
            Seen::DeliveredLate => (known.delivered, known.late) = (true, true),
        }
        if known.delivered && (known.acked || known.gave_up) {
            self.reordered += u64::from(known.late && known.acked);
            self.open.remove(&key);
        }
    }

    /// Acknowledged and not arrived so far, for those who take what is theirs.
    pub fn on_their_way(&self, excused: impl Fn(&Conversation) -> bool) -> u64 {
        let missing = |(key, known): &(&(Conversation, u64), &Known)| {
            known.acked && !known.withheld && !excused(&key.0)
        };
        self.open.iter().filter(missing).count() as u64
    }

    /// What receivers did not take who may not, by receiver.
    pub fn withheld(&self) -> BTreeMap<u32, u64> {
        let mut withheld = BTreeMap::new();
        for ((conversation, _), _) in self.open.iter().filter(|(_, known)| known.withheld) {
            *withheld.entry(conversation.receiver).or_default() += 1;
        }
        withheld
    }

    /// What the ledgers of the sides do not count. `excused` are conversations of somebody whose worker is gone: nobody was there to take what was
    /// acknowledged for him, and nobody said of his own messages that they were sent.
    pub fn counts(&self, excused: impl Fn(&Conversation) -> bool) -> Counts {
        let mut counts = Counts { reordered: self.reordered, ..Counts::default() };
        for ((conversation, _), known) in &self.open {
            let excused = excused(conversation);
            match known {
                Known { acked: true, withheld, .. } if *withheld || excused => counts.withheld += 1,
                Known { acked: true, .. } => counts.lost += 1,
                Known { delivered: true, .. } if !excused => counts.unexpected += 1,
                _ => {}
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHO: Conversation = Conversation { sender: 3, receiver: 17, device: 1 };

    fn crossing(sequence: u64, seen: Seen) -> Crossing {
        Crossing { conversation: WHO, sequence, seen }
    }

    fn counted(seen: &[(u64, Seen)], excused: bool) -> Counts {
        let mut crossings = Crossings::default();
        seen.iter().for_each(|(sequence, seen)| crossings.add(crossing(*sequence, *seen)));
        crossings.counts(|_| excused)
    }

    #[test]
    fn a_loss_is_what_one_side_had_acknowledged_and_the_other_never_saw() {
        use Seen::{Acked, AckedWithheld, Delivered, DeliveredLate, GaveUp};
        let seen = [
            (0, Acked),
            (0, Delivered),
            (1, Acked),
            (2, Delivered),
            (2, GaveUp),
            (3, AckedWithheld),
            (4, GaveUp),
            (5, Delivered),
            (6, DeliveredLate),
            (6, Acked),
            (7, DeliveredLate),
            (7, GaveUp),
        ];
        let wanted = Counts { lost: 1, withheld: 1, unexpected: 1, reordered: 1, ..Counts::default() };
        assert_eq!(counted(&seen, false), wanted);
        let mut crossings = Crossings::default();
        seen.iter().for_each(|(sequence, seen)| crossings.add(crossing(*sequence, *seen)));
        assert_eq!(crossings.withheld(), BTreeMap::from([(WHO.receiver, 1)]));
        let excused = Counts { withheld: 2, reordered: 1, ..Counts::default() };
        assert_eq!(counted(&seen, true), excused, "whose worker is gone neither loses nor invents");
    }

    #[test]
    fn a_line_is_read_back_and_half_of_one_is_not() {
        for (seen, _) in Seen::ALL {
            let crossing = crossing(91, seen);
            let line = crossing.line();
            assert_eq!(Crossing::parse(line.trim_end()), Some(crossing));
        }
        for wrong in ["", "acked 1 2 1", "acked 1 2 1 0 9", "sent 1 2 1 0", "acked 1 2 1 -1"] {
            assert_eq!(Crossing::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        /// Workers are heard of in any order, but each one's own words stay in theirs.
        #[test]
        fn the_order_in_which_sides_are_heard_does_not_matter(
            sent in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..60), seed: u64
        ) {
            use rand::SeedableRng;
            use rand::seq::SliceRandom;
            let mut words = Vec::new();
            for (sequence, (acked, delivered, late)) in (0..).zip(&sent) {
                words.push((sequence, if *acked { Seen::Acked } else { Seen::GaveUp }));
                if *delivered {
                    words.push((sequence, if *late { Seen::DeliveredLate } else { Seen::Delivered }));
                }
            }
            let in_order = counted(&words, false);
            words.shuffle(&mut rand::rngs::SmallRng::seed_from_u64(seed));
            prop_assert_eq!(counted(&words, false), in_order);
            let lost = sent.iter().filter(|(acked, delivered, _)| *acked && !delivered).count();
            prop_assert_eq!(in_order.lost, lost as u64);
        }
    }
}
