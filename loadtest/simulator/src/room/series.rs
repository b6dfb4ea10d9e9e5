//! A run second by second, for charts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::figures::called_at;
use super::world::World;

/// What one second of the run looked like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    pub arrived: u32,
    /// Whose place was reached.
    pub called: u32,
    pub claimed: u32,
    pub polls: u32,
    /// Places that had not been called at its end.
    pub waiting: u32,
    /// A, as published.
    pub rate: f64,
    /// Of those called whose estimates were kept: the middle of the first range that they were told, and the wait, in
    /// seconds, on average.
    pub told_s: Option<f64>,
    pub waited_s: Option<f64>,
}

/// Up to the second in which the last place was called.
pub fn series(world: &World) -> Vec<Second> {
    let last = world.people.iter().map(|person| person.seq).max().unwrap_or(0);
    let length = called_at(world, last).as_secs() as usize + 1;
    let mut seconds = vec![Second::default(); length];
    for person in &world.people {
        if let Some(second) = seconds.get_mut(person.arrived.as_secs() as usize) {
            second.arrived += 1;
        }
    }
    for (at, _) in &world.claims {
        if let Some(second) = seconds.get_mut(at.as_secs() as usize) {
            second.claimed += 1;
        }
    }
    for (second, polls) in seconds.iter_mut().zip(world.polls.iter().skip(1)) {
        second.polls = *polls;
    }
    for (at, rate) in &world.rates {
        if let Some(second) = seconds.get_mut(at.as_secs() as usize) {
            second.rate = *rate;
        }
    }
    call(world, &mut seconds);
    tell(world, &mut seconds);
    seconds
}

fn call(world: &World, seconds: &mut [Second]) {
    let (mut before, mut arrived) = (0, 0_u64);
    let mut steps = world.frontier.iter().peekable();
    for (index, second) in seconds.iter_mut().enumerate() {
        let mut frontier = before;
        while let Some((_, f)) = steps.next_if(|(at, _)| at.as_secs() as usize <= index) {
            frontier = *f;
        }
        arrived += u64::from(second.arrived);
        second.called = u32::try_from(frontier - before).unwrap_or(u32::MAX);
        second.waiting = u32::try_from(arrived.saturating_sub(frontier)).unwrap_or(u32::MAX);
        before = frontier;
    }
}

fn tell(world: &World, seconds: &mut [Second]) {
    let mut first = BTreeMap::new();
    for (index, told) in &world.told {
        first.entry(*index).or_insert(*told);
    }
    let mut sums = vec![(0.0, 0.0, 0.0); seconds.len()];
    for (index, told) in first {
        let called = called_at(world, world.people[index as usize].seq);
        let Some(sum) = sums.get_mut(called.as_secs() as usize) else { continue };
        let middle = f64::from(told.low + told.high) / 2.0;
        *sum = (sum.0 + 1.0, sum.1 + middle, sum.2 + called.as_secs_f64() - f64::from(told.at));
    }
    for (second, (count, told, waited)) in seconds.iter_mut().zip(sums) {
        if count > 0.0 {
            (second.told_s, second.waited_s) = (Some(told / count), Some(waited / count));
        }
    }
}
