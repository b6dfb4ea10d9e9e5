//! A graph of friends whose degrees follow a power law, from the seed alone.
//!
//! The configuration model: everybody draws how many friends to have, and as many loose ends are tied together at random. Links that would lead
//! to oneself, or to a friend, are untied and tried again a few times; what is left then is cut off.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Who has an account writes to somebody, and more than to one.
const FEWEST: usize = 3;
/// Times that ends are tied. Of the ends that are left after one, most find a place in the next.
const ROUNDS: usize = 8;

/// Friends of people, by place. Friendship is mutual.
#[derive(Debug)]
pub(crate) struct Graph {
    /// Where in `friends` those of each begin, and where the last ones end.
    from: Vec<u32>,
    friends: Vec<u32>,
}

/// How many friends somebody may have, among so many people: at most the root of the number of people times the fewest, the structural cut-off, because
/// beyond that, friends of many would have to be tied to each other more than once.
pub(super) fn degrees(people: usize) -> RangeInclusive<usize> {
    let others = people.saturating_sub(1);
    let fewest = FEWEST.min(others);
    let most = ((FEWEST * people) as f64).sqrt() as usize;
    fewest..=most.clamp(fewest, others)
}

impl Graph {
    /// Of `people`, who are at least two. Takes time and memory in proportion to the links, which are a few for each person.
    pub(super) fn new(exponent: f64, seed: u64, people: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(seed.rotate_left(41) ^ 0xF12E);
        let ends = ends(exponent, people, &mut random);
        Self::of_links(people, &tied(ends, people, &mut random))
    }

    fn of_links(people: usize, links: &[(u32, u32)]) -> Self {
        let mut from = vec![0; people + 1];
        for (a, b) in links {
            from[*a as usize + 1] += 1;
            from[*b as usize + 1] += 1;
        }
        for place in 0..people {
            from[place + 1] += from[place];
        }
        let (mut next, mut friends) = (from.clone(), vec![0; 2 * links.len()]);
        for (a, b) in links.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]) {
            friends[next[a as usize] as usize] = b;
            next[a as usize] += 1;
        }
        Self { from, friends }
    }

    pub(crate) fn of(&self, place: usize) -> &[u32] {
        &self.friends[self.from[place] as usize..self.from[place + 1] as usize]
    }

    /// Who writes next: each link is as likely as any other, so whoever has many friends writes much, and is written to much.
    pub(crate) fn writer(&self, random: &mut SmallRng) -> usize {
        let end = random.random_range(0..self.friends.len()) as u32;
        self.from.partition_point(|from| *from <= end) - 1
    }
}

/// Everybody's place, once for each friend to have.
fn ends(exponent: f64, people: usize, random: &mut SmallRng) -> Vec<u32> {
    let degrees = degrees(people);
    let fewest = *degrees.start();
    // The distribution itself and no approximation of it: nobody may have many friends.
    let up_to: Vec<f64> = degrees
        .scan(0.0, |sum, degree| {
            *sum += (degree as f64).powf(-exponent);
            Some(*sum)
        })
        .collect();
    let all = up_to.last().copied().unwrap_or_default();
    let mut degree = || {
        let drawn = random.random::<f64>() * all;
        fewest + up_to.partition_point(|sum| *sum <= drawn).min(up_to.len() - 1)
    };
    (0..people as u32).flat_map(|place| std::iter::repeat_n(place, degree())).collect()
}

/// Links between two different people, each once, and at least one for everybody.
fn tied(mut ends: Vec<u32>, people: usize, random: &mut SmallRng) -> Vec<(u32, u32)> {
    let mut known = HashSet::new();
    let mut links = Vec::with_capacity(ends.len() / 2);
    let mut tie = |a: u32, b: u32| {
        let is_new = a != b && known.insert((a.min(b), a.max(b)));
        if is_new {
            links.push((a, b));
        }
        is_new
    };
    for _ in 0..ROUNDS {
        ends.shuffle(random);
        let mut loose = Vec::new();
        for pair in ends.chunks(2) {
            if !matches!(pair, [a, b] if tie(*a, *b)) {
                loose.extend_from_slice(pair);
            }
        }
        ends = loose;
    }
    let mut alone: HashSet<u32> = (0..people as u32).collect();
    for (a, b) in &links {
        alone.remove(a);
        alone.remove(b);
    }
    // In order, so that it is the same each time.
    for place in (0..people as u32).filter(|place| alone.contains(place)) {
        let next = (place + 1) % people as u32;
        // Two who are alone beside each other need one link.
        if !links.contains(&(next, place)) {
            links.push((place, next));
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn degrees_of(graph: &Graph, people: usize) -> Vec<usize> {
        (0..people).map(|place| graph.of(place).len()).collect()
    }

    proptest! {
        #[test]
        fn everybody_has_friends_and_nobody_is_his_own(seed: u64, people in 2..400usize, exponent in 2.0..4.0f64) {
            let graph = Graph::new(exponent, seed, people);
            for place in 0..people {
                let friends = graph.of(place);
                let different: HashSet<_> = friends.iter().collect();
                prop_assert!(!friends.is_empty() && different.len() == friends.len(), "{place}: {friends:?}");
                for friend in friends {
                    prop_assert!(*friend as usize != place);
                    prop_assert!(graph.of(*friend as usize).contains(&(place as u32)), "friendship is mutual");
                }
            }
        }

        #[test]
        fn the_same_seed_gives_the_same_friends(seed: u64, people in 10..400usize) {
            let [a, same, other] = [seed, seed, !seed].map(|seed| Graph::new(2.5, seed, people));
            prop_assert_eq!(&a.friends, &same.friends);
            prop_assert_eq!(&a.from, &same.from);
            prop_assert_ne!(a.friends, other.friends);
        }
    }

    /// The exponent that is most likely, from how many friends people have (Clauset, Shalizi, Newman 2009, equation 3.5 with its likelihood cut off where the
    /// graph is): from within a hundredth, found by halving.
    fn likeliest_exponent(found: &[usize], allowed: &RangeInclusive<usize>) -> f64 {
        let mean_log = found.iter().map(|degree| (*degree as f64).ln()).sum::<f64>() / found.len() as f64;
        // What the mean of the logarithms should be falls with the exponent.
        let expected = |exponent: f64| {
            let weight = |degree: usize| (degree as f64).powf(-exponent);
            let all: f64 = allowed.clone().map(weight).sum();
            allowed.clone().map(|degree| weight(degree) * (degree as f64).ln()).sum::<f64>() / all
        };
        let (mut low, mut high) = (1.0, 8.0);
        while high - low > 0.001 {
            let middle = f64::midpoint(low, high);
            if expected(middle) > mean_log { low = middle } else { high = middle }
        }
        low
    }

    #[test]
    fn degrees_follow_the_power_law_that_was_asked_for() {
        const PEOPLE: usize = 20_000;
        for (seed, exponent) in [(1, 2.1), (2, 2.5), (3, 3.0), (4, 3.9)] {
            let graph = Graph::new(exponent, seed, PEOPLE);
            let found = degrees_of(&graph, PEOPLE);
            // What was cut off leaves a few with fewer than they drew.
            let few = found.iter().filter(|degree| **degree < FEWEST).count();
            assert!(few * 1_000 < PEOPLE, "seed {seed}: {few}");
            let allowed = degrees(PEOPLE);
            assert!(found.iter().all(|degree| degree <= allowed.end()));
            let whole: Vec<_> = found.into_iter().filter(|degree| *degree >= FEWEST).collect();
            let likeliest = likeliest_exponent(&whole, &allowed);
            // Twenty thousand draws know it to a hundredth or two.
            assert!((likeliest - exponent).abs() < 0.06, "seed {seed}: {likeliest} for {exponent}");
            // And so do those who have many, of whom another distribution with this mean would have none.
            let beyond = |from: usize| whole.iter().filter(|degree| **degree >= from).count() as f64;
            let weight =
                |from: usize| (from..=*allowed.end()).map(|k| (k as f64).powf(-exponent)).sum::<f64>();
            let expected = weight(20) / weight(FEWEST) * whole.len() as f64;
            assert!(
                (beyond(20) - expected).abs() < 5.0 * expected.sqrt() + 2.0,
                "seed {seed}: {} for {expected}",
                beyond(20)
            );
        }
    }

    #[test]
    fn whoever_has_many_friends_writes_much() {
        const SEED: u64 = 11;
        let graph = Graph::new(2.2, SEED, 500);
        let mut written = vec![0.0; 500];
        let mut random = SmallRng::seed_from_u64(SEED);
        for _ in 0..100_000 {
            written[graph.writer(&mut random)] += 1.0;
        }
        for (place, written) in written.into_iter().enumerate() {
            let expected: f64 = 100_000.0 * graph.of(place).len() as f64 / graph.friends.len() as f64;
            let near = (written - expected).abs() < 6.0 * expected.sqrt();
            assert!(near, "{place}: {written} for {expected}");
        }
    }

    #[test]
    fn few_people_are_friends_of_all() {
        for (people, friends) in [(2, 1), (3, 2), (4, 3)] {
            let graph = Graph::new(2.5, 5, people);
            assert!(degrees_of(&graph, people).into_iter().all(|degree| (1..=friends).contains(&degree)));
        }
    }
}
