//! Who does what is planned: a function of the seed and the number of the arrival, so that whoever plays it knows.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::people::People;
use crate::friends::Graph;
use crate::load::{Op, Work};
use crate::schedule::Arrival;
use crate::workers::Part;
use crate::workload::Somebody;

/// What the draw depends on.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    pub(super) seed: u64,
    /// With an account.
    pub(super) people: usize,
    pub(super) flapping_share: f64,
    /// `None`: anybody writes to anybody.
    pub(super) friends: Option<Arc<Graph>>,
}

impl Draw {
    /// The place of who is to act: as recorded, else as drawn. `None`: somebody new.
    pub(super) fn actor(&self, work: Work, index: u64) -> Option<usize> {
        let people = self.people as u64;
        let drawn = match work.op {
            Op::SignUp => return None,
            Op::Send | Op::FanOut => self.writer(index) as u64,
            Op::Discover => pair(self.seed, index, self.people).0 as u64,
            Op::Reconnect => shuffled(self.seed, index, people),
            Op::Flap => {
                let few = (people as f64 * self.flapping_share).ceil().max(2.0) as u64;
                shuffled(self.seed, index, few.min(people))
            }
            // The last ones are offline at first: see `people`.
            Op::Wake => people - 1 - index % people,
        };
        Some((work.user.unwrap_or(drawn) % people) as usize)
    }

    fn writer(&self, index: u64) -> usize {
        match &self.friends {
            Some(friends) => friends.writer(&mut random(self.seed, index)),
            None => pair(self.seed, index, self.people).0,
        }
    }

    /// To whom the `index`th message goes, which `from` writes to so many people or to all others: others than the writer, each once. The first one is as
    /// recorded, else as drawn; friends come before others.
    pub(super) fn receivers(&self, work: Work, index: u64, from: usize, count: usize) -> Vec<usize> {
        let count = count.min(self.people - 1);
        let friends = match (&self.friends, work.peer) {
            (Some(friends), None) => friends.of(from),
            _ => return self.in_a_row(self.anybody(work, index, from), from, count),
        };
        let first = random(self.seed, !index).random_range(0..friends.len());
        let mut receivers: Vec<_> = friends
            .iter()
            .cycle()
            .skip(first)
            .take(count.min(friends.len()))
            .map(|to| *to as usize)
            .collect();
        // Who has too few friends for a group has it with others.
        for to in self.in_a_row((from + 1) % self.people, from, self.people - 1) {
            if receivers.len() == count {
                break;
            }
            if !receivers.contains(&to) {
                receivers.push(to);
            }
        }
        receivers
    }

    /// Where it does not matter who knows whom.
    fn anybody(&self, work: Work, index: u64, from: usize) -> usize {
        let to = match work.peer {
            Some(peer) => (peer % self.people as u64) as usize,
            None => pair(self.seed, index, self.people).1,
        };
        if to == from { (from + 1) % self.people } else { to }
    }

    /// So many one after the other, and never `from`, who is not the first.
    fn in_a_row(&self, first: usize, from: usize, count: usize) -> Vec<usize> {
        let (people, others) = (self.people, self.people - 1);
        let beyond = (first + people - from - 1) % people;
        (0..count).map(|n| (from + 1 + (beyond + n) % others) % people).collect()
    }

    /// Whether an arrival belongs to a part of the run: to the one in which who acts lives.
    pub(super) fn is_of<S: Somebody>(
        &self,
        part: Part,
        existing: u32,
        people: &People<S>,
        arrival: &Arrival<Work>,
    ) -> bool {
        match self.actor(arrival.stream, arrival.index) {
            Some(place) => part.has_user(people.contact(place).index, existing),
            None => part.has_newcomer(arrival.index),
        }
    }
}

/// The `n`th of a random order of `count` people, and again from its beginning when all had their turn: multiplication with a number that has no
/// factor in common is a permutation.
fn shuffled(seed: u64, n: u64, count: u64) -> u64 {
    let mut step = (count as f64 * 0.618) as u64 | 1;
    while greatest_common_divisor(step, count) != 1 {
        step += 2;
    }
    (seed % count + n % count * (step % count)) % count
}

const fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn random(seed: u64, n: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed.rotate_left(17) ^ n)
}

/// Two different people for the `n`th message.
fn pair(seed: u64, n: u64, people: usize) -> (usize, usize) {
    let mut random = random(seed, n);
    let from = random.random_range(0..people);
    let to = (from + random.random_range(1..people)) % people;
    (from, to)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use proptest::prelude::*;
    use spillway_types::AccountId;

    use super::*;
    use crate::curve::Curve;
    use crate::friends::Friends;
    use crate::schedule::{Arrivals, Schedule, merge};
    use crate::workload::{Contact, ExistingUser};

    fn draw(friends: Friends, seed: u64, people: usize) -> Draw {
        Draw { seed, people, flapping_share: 0.1, friends: friends.graph(seed, people).map(Arc::new) }
    }

    proptest! {
        #[test]
        fn a_message_goes_to_others_each_once_and_to_friends_first(
            seed: u64, index: u64, people in 2..60usize, count in 1..12usize, is_law: bool
        ) {
            let how = if is_law { Friends::PowerLaw { exponent: 2.2 } } else { Friends::Anybody };
            let draw = draw(how, seed, people);
            let from = draw.actor(Work::of(Op::Send), index).unwrap();
            // Somebody else may have to stand in.
            for from in [from, (from + 1) % people] {
                let receivers = draw.receivers(Work::of(Op::FanOut), index, from, count);
                prop_assert_eq!(receivers.len(), count.min(people - 1));
                prop_assert_eq!(receivers.iter().collect::<HashSet<_>>().len(), receivers.len());
                prop_assert!(receivers.iter().all(|to| *to != from && *to < people));
                if let Some(friends) = &draw.friends {
                    let friends = friends.of(from);
                    let first = receivers.iter().take_while(|to| friends.contains(&(**to as u32)));
                    prop_assert_eq!(first.count(), friends.len().min(receivers.len()));
                }
                let recorded = Work { peer: Some(index), ..Work::of(Op::Send) };
                let to = draw.receivers(recorded, index, from, 1)[0];
                let said = (index % people as u64) as usize;
                prop_assert!(to == said || said == from);
            }
        }

        /// The parts of any number of workers are the schedule of one, with the same arrivals at the same times, by the same people.
        #[test]
        fn the_union_of_all_parts_is_the_whole_schedule(
            seed: u64, weights in prop::collection::vec(1..9u32, 1..8), missing in prop::collection::hash_set(0..90u32, 0..9),
            friends in prop::sample::select(vec![Friends::Anybody, Friends::PowerLaw { exponent: 2.5 }])
        ) {
            const EXISTING: u32 = 90;
            let all: Vec<_> = (0..EXISTING)
                .filter(|index| !missing.contains(index))
                .map(|index| Contact { index, account: AccountId::from_bytes([0; 16]) })
                .collect();
            let people = People::<ExistingUser>::of_contacts(all);
            let draw = draw(friends, seed, people.len());
            let schedule = || {
                let stream = |op: Op, how| {
                    let curve = Curve::constant(40.0, Duration::from_secs(2)).unwrap();
                    Schedule::new(Work::of(op), Arc::new(curve), how, seed.wrapping_add(op as u64))
                };
                let how = |op| if op == Op::Reconnect { Arrivals::Uniform } else { Arrivals::Poisson };
                merge(Op::ALL.map(|op| stream(op, how(op))))
            };
            let mut whole: Vec<_> = schedule().collect();
            let mut together: Vec<_> = Part::split(&weights)
                .into_iter()
                .flat_map(|part| {
                    let is_own = |arrival: &Arrival<Work>| draw.is_of(part, EXISTING, &people, arrival);
                    schedule().filter(is_own).collect::<Vec<_>>()
                })
                .collect();
            let key = |arrival: &Arrival<Work>| (arrival.at, arrival.stream.op, arrival.index);
            together.sort_by_key(key);
            whole.sort_by_key(key);
            prop_assert_eq!(together, whole);
        }
    }

    #[test]
    fn everybody_has_a_turn_before_anybody_has_two() {
        for count in [2, 3, 10, 300, 20_000] {
            for round in 0..2 {
                let turns = (0..count).map(|n| shuffled(7, round * count + n, count));
                assert_eq!(turns.collect::<HashSet<_>>().len() as u64, count);
            }
        }
    }

    #[test]
    fn nobody_writes_to_themselves() {
        for people in [2, 3, 300] {
            for n in 0..1_000 {
                let (from, to) = pair(7, n, people);
                assert!(from != to && from < people && to < people);
            }
        }
    }
}
