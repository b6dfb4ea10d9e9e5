//! Who does what is planned: a function of the seed and the number of the arrival, so that whoever plays it knows.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::people::People;
use crate::load::{Op, Work};
use crate::schedule::Arrival;
use crate::workers::Part;
use crate::workload::Somebody;

/// What the draw depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    pub(super) seed: u64,
    /// With an account.
    pub(super) people: usize,
    pub(super) flapping_share: f64,
}

impl Draw {
    /// The place of who is to act: as recorded, else as drawn. `None`: somebody new.
    pub(super) fn actor(&self, work: Work, index: u64) -> Option<usize> {
        let people = self.people as u64;
        let drawn = match work.op {
            Op::SignUp => return None,
            Op::Send | Op::FanOut | Op::Discover => pair(self.seed, index, self.people).0 as u64,
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

    /// To whom the `index`th message goes, unless that was recorded.
    pub(super) fn receiver(&self, work: Work, index: u64) -> usize {
        match work.peer {
            Some(peer) => (peer % self.people as u64) as usize,
            None => pair(self.seed, index, self.people).1,
        }
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

/// Two different people for the `n`th message.
fn pair(seed: u64, n: u64, people: usize) -> (usize, usize) {
    let mut random = SmallRng::seed_from_u64(seed.rotate_left(17) ^ n);
    let from = random.random_range(0..people);
    let to = (from + random.random_range(1..people)) % people;
    (from, to)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use spillway_types::AccountId;

    use super::*;
    use crate::curve::Curve;
    use crate::schedule::{Arrivals, Schedule, merge};
    use crate::workload::{Contact, ExistingUser};

    proptest! {
        /// The parts of any number of workers are the schedule of one, with the same arrivals at the same times, by the same people.
        #[test]
        fn the_union_of_all_parts_is_the_whole_schedule(
            seed: u64, weights in prop::collection::vec(1..9u32, 1..8), missing in prop::collection::hash_set(0..90u32, 0..9)
        ) {
            const EXISTING: u32 = 90;
            let all: Vec<_> = (0..EXISTING)
                .filter(|index| !missing.contains(index))
                .map(|index| Contact { index, account: AccountId::from_bytes([0; 16]) })
                .collect();
            let people = People::<ExistingUser>::of_contacts(all);
            let draw = Draw { seed, people: people.len(), flapping_share: 0.1 };
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
