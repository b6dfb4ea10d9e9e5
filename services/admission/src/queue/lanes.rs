//! Fairness between the users of a tier: shuffle-sharded lanes, served by deficit round robin.
//!
//! Each user has a hand of 8 of 512 lanes and waits in the shortest of them. Somebody who floods fills at most their own
//! hand; that 16 such cover all of another user's lanes has a chance of 5 in a million (`reference/overload.md` b.5).
//! The calls of one flow stay in one lane while any of them waits, so that they keep their order.

use std::collections::{HashMap, VecDeque};

use crate::class::cohort::User;
use crate::queue::Entry;
use crate::queue::slots::{LANE, List, Slots};

#[derive(Debug)]
pub(crate) struct Lanes {
    /// Made when the first one waits: most tiers of most processes never have anybody wait.
    lanes: Vec<Lane>,
    /// Lanes with entries, the next one to be served first. May hold lanes that have emptied.
    active: VecDeque<u16>,
    /// Where the calls of a flow wait, and how many.
    flows: HashMap<u64, (u16, u32)>,
    calls: usize,
}

#[derive(Clone, Copy, Debug)]
struct Lane {
    entries: List,
    seats: u32,
    /// Seats that it may still serve in this round.
    deficit: u32,
    active: bool,
}

const LANES: usize = 512;
const HAND: usize = 8;
/// Seats for each round. Small, because most calls are one seat wide; a wide one waits for some rounds.
const QUANTUM: u32 = 4;

impl Lanes {
    pub(super) fn new() -> Self {
        Self { lanes: Vec::new(), active: VecDeque::new(), flows: HashMap::new(), calls: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls == 0
    }

    pub(super) fn push<W>(
        &mut self,
        slots: &mut Slots<Entry<W>>,
        index: u32,
        user: User,
        flow: u64,
        newest_first: bool,
    ) {
        let Some(seats) = slots.get(index).map(|entry| entry.seats) else { return };
        if self.lanes.is_empty() {
            self.lanes = vec![Lane { entries: List::EMPTY, seats: 0, deficit: 0, active: false }; LANES];
        }
        let shortest = shortest_of_hand(&self.lanes, user);
        let (number, calls) = self.flows.entry(flow).or_insert((shortest, 0));
        *calls += 1;
        let lane = &mut self.lanes[usize::from(*number)];
        slots.push_back::<LANE>(&mut lane.entries, index);
        lane.seats += seats;
        self.calls += 1;
        if !lane.active {
            (lane.active, lane.deficit) = (true, QUANTUM);
            if newest_first {
                self.active.push_front(*number);
            } else {
                self.active.push_back(*number);
            }
        }
    }

    /// The entry whose turn it is. Stays the same until something is pushed, charged or removed.
    pub(super) fn front<W>(&mut self, slots: &Slots<Entry<W>>) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        loop {
            let number = *self.active.front()?;
            let lane = &mut self.lanes[usize::from(number)];
            let head = lane.entries.head();
            let Some(entry) = slots.get(head) else {
                lane.active = false;
                self.active.pop_front();
                continue;
            };
            if lane.deficit >= entry.seats {
                return Some(head);
            }
            lane.deficit += QUANTUM;
            self.active.rotate_left(1);
        }
    }

    /// Counts the [front](Self::front) as served.
    pub(super) fn charge<W>(&mut self, slots: &Slots<Entry<W>>, index: u32) {
        let (Some(&number), Some(entry)) = (self.active.front(), slots.get(index)) else { return };
        let lane = &mut self.lanes[usize::from(number)];
        lane.deficit = lane.deficit.saturating_sub(entry.seats);
    }

    pub(super) fn remove<W>(&mut self, slots: &mut Slots<Entry<W>>, index: u32) {
        let Some(entry) = slots.get(index) else { return };
        let (flow, seats) = (entry.flow, entry.seats);
        let Some((number, calls)) = self.flows.get_mut(&flow) else { return };
        let number = *number;
        *calls -= 1;
        if *calls == 0 {
            self.flows.remove(&flow);
        }
        let lane = &mut self.lanes[usize::from(number)];
        slots.unlink::<LANE>(&mut lane.entries, index);
        lane.seats -= seats;
        self.calls -= 1;
    }
}

fn shortest_of_hand(lanes: &[Lane], user: User) -> u16 {
    let mut dealt = [usize::MAX; HAND];
    let mut state = user.0;
    for card in 0..HAND {
        // SplitMix64; a lane that was dealt already is dealt again, so that the hand has 8 different ones.
        dealt[card] = loop {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let lane = (mixed >> 55) as usize;
            if !dealt[..card].contains(&lane) {
                break lane;
            }
        };
    }
    dealt.into_iter().min_by_key(|&lane| lanes[lane].seats).unwrap_or(0) as u16
}

const _: () = assert!(LANES == 1 << (64 - 55));
