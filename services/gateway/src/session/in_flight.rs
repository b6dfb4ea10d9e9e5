//! Which messages a session must not deliver again.
//!
//! A message is known from its delivery until the mailbox has deleted it, so that it can come by hint and by page, in
//! any order, and reach the device once. A page that was asked for before the deletion may still show the message;
//! therefore deletions that happen while a page is on its way are forgotten only when the page has been handled.
//! After that a very late hint can cause a duplicate, which the client drops by its guid.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use spillway_types::MessageId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Delivered,
    Acked,
    Deleted,
}

#[derive(Debug)]
pub(crate) struct InFlight {
    known: HashMap<MessageId, Stage>,
    unacked: usize,
    window: usize,
    page_on_its_way: bool,
}

impl InFlight {
    pub(crate) fn new(window: usize) -> Self {
        Self { known: HashMap::new(), unacked: 0, window, page_on_its_way: false }
    }

    /// How many more may be delivered before the next ack.
    pub(crate) fn room(&self) -> usize {
        self.window.saturating_sub(self.unacked)
    }

    pub(crate) fn known(&self) -> usize {
        self.known.len()
    }

    pub(crate) fn contains(&self, id: MessageId) -> bool {
        self.known.contains_key(&id)
    }

    pub(crate) fn delivered(&mut self, id: MessageId) {
        debug_assert!(self.room() > 0, "the window is full");
        if self.known.insert(id, Stage::Delivered).is_none() {
            self.unacked += 1;
        }
    }

    /// An ack may also be for what an earlier session delivered, and this one has not read yet.
    pub(crate) fn acked(&mut self, id: MessageId) {
        match self.known.entry(id) {
            Entry::Occupied(mut entry) if *entry.get() == Stage::Delivered => {
                entry.insert(Stage::Acked);
                self.unacked -= 1;
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(entry) => {
                entry.insert(Stage::Acked);
            }
        }
    }

    /// The mailbox has deleted these.
    pub(crate) fn deleted(&mut self, ids: &[MessageId]) {
        for id in ids {
            if self.page_on_its_way {
                self.known.entry(*id).and_modify(|stage| *stage = Stage::Deleted);
            } else {
                self.known.remove(id);
            }
        }
        self.shrink();
    }

    pub(crate) fn page_asked(&mut self) {
        self.page_on_its_way = true;
    }

    pub(crate) fn page_handled(&mut self) {
        self.page_on_its_way = false;
        self.known.retain(|_, stage| *stage != Stage::Deleted);
        self.shrink();
    }

    /// An idle session keeps no room for its last backlog.
    fn shrink(&mut self) {
        if self.known.is_empty() && self.known.capacity() > 16 {
            self.known = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn id(n: u8) -> MessageId {
        MessageId::from_bytes([n; 16])
    }

    #[test]
    fn an_ack_makes_room_but_the_message_stays_known_until_deleted() {
        let mut in_flight = InFlight::new(2);
        in_flight.delivered(id(1));
        in_flight.delivered(id(2));
        assert_eq!(in_flight.room(), 0);
        in_flight.acked(id(1));
        in_flight.acked(id(1));
        assert_eq!(in_flight.room(), 1);
        assert!(in_flight.contains(id(1)));
        in_flight.deleted(&[id(1)]);
        assert!(!in_flight.contains(id(1)));
    }

    #[test]
    fn what_is_deleted_under_a_page_is_known_until_the_page_is_handled() {
        let mut in_flight = InFlight::new(2);
        in_flight.delivered(id(1));
        in_flight.page_asked();
        in_flight.acked(id(1));
        in_flight.deleted(&[id(1)]);
        assert!(in_flight.contains(id(1)));
        in_flight.page_handled();
        assert!(!in_flight.contains(id(1)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Deliver(u8),
        Ack(u8),
        Delete(u8),
        Ask,
        Handle,
    }

    fn step() -> impl Strategy<Value = Step> {
        let n = 0..20_u8;
        prop_oneof![
            4 => n.clone().prop_map(Step::Deliver),
            4 => n.clone().prop_map(Step::Ack),
            3 => n.prop_map(Step::Delete),
            1 => Just(Step::Ask),
            1 => Just(Step::Handle),
        ]
    }

    proptest! {
        /// The count of unacked messages is the truth, and nothing unacked is ever forgotten.
        #[test]
        fn counts_agree_with_a_plain_model(steps in prop::collection::vec(step(), 0..200)) {
            let window = 8;
            let mut in_flight = InFlight::new(window);
            let mut unacked = HashSet::new();
            for step in steps {
                match step {
                    Step::Deliver(n) if in_flight.room() > 0 && !in_flight.contains(id(n)) => {
                        in_flight.delivered(id(n));
                        unacked.insert(n);
                    }
                    Step::Deliver(_) => {}
                    Step::Ack(n) => {
                        in_flight.acked(id(n));
                        unacked.remove(&n);
                    }
                    Step::Delete(n) if !unacked.contains(&n) => in_flight.deleted(&[id(n)]),
                    Step::Delete(_) => {}
                    Step::Ask => in_flight.page_asked(),
                    Step::Handle => in_flight.page_handled(),
                }
                prop_assert_eq!(in_flight.room(), window - unacked.len());
                prop_assert!(unacked.iter().all(|n| in_flight.contains(id(*n))));
            }
        }
    }
}
