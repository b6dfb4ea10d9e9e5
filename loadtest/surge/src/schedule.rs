//! Planned times of an open-loop load: when each arrival is due, whatever the service does.
//!
//! The k-th arrival falls where the curve's integral reaches the k-th count, so nothing drifts and memory does not
//! grow with the length of a run. The same curve, arrivals and seed give the same times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::curve::Curve;

/// How arrivals fall around the curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly: every window holds the curve's integral, give or take one.
    Uniform,
    /// As many independent people would: a Poisson process with the curve as its intensity.
    #[default]
    Poisson,
}

/// One piece of work and when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival<T> {
    /// Which of several merged schedules it belongs to.
    pub stream: T,
    /// Its number within that schedule, from 0.
    pub index: u64,
    /// Due time since the start of the run.
    pub at: Duration,
}

/// Iterates over the arrivals of one curve, in order of time.
#[derive(Debug)]
pub struct Schedule<T> {
    stream: T,
    curve: Arc<Curve>,
    arrivals: Arrivals,
    rng: StdRng,
    index: u64,
    /// The cumulative count at which the next arrival falls.
    count: f64,
}

impl<T: Copy> Schedule<T> {
    pub fn new(stream: T, curve: Arc<Curve>, arrivals: Arrivals, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = match arrivals {
            // A random phase, so that two streams with one rate do not always fire together.
            Arrivals::Uniform => rng.random::<f64>(),
            Arrivals::Poisson => exponential(&mut rng),
        };
        Self { stream, curve, arrivals, rng, index: 0, count }
    }
}

impl<T: Copy> Iterator for Schedule<T> {
    type Item = Arrival<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.curve.time_of(self.count)?;
        let arrival = Arrival { stream: self.stream, index: self.index, at };
        self.index += 1;
        self.count += match self.arrivals {
            Arrivals::Uniform => 1.0,
            Arrivals::Poisson => exponential(&mut self.rng),
        };
        Some(arrival)
    }
}

/// An exponential variable with mean 1.
fn exponential(rng: &mut StdRng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

/// Several schedules as one, in order of time. Holds one arrival of each.
pub fn merge<T, I>(schedules: impl IntoIterator<Item = I>) -> Merged<T, I>
where
    I: Iterator<Item = Arrival<T>>,
{
    let mut merged = Merged { next: BinaryHeap::new(), waiting: Vec::new(), schedules: Vec::new() };
    for (slot, schedule) in schedules.into_iter().enumerate() {
        merged.schedules.push(schedule);
        merged.waiting.push(None);
        merged.refill(slot);
    }
    merged
}

#[derive(Debug)]
pub struct Merged<T, I> {
    next: BinaryHeap<Reverse<(Duration, usize)>>,
    waiting: Vec<Option<Arrival<T>>>,
    schedules: Vec<I>,
}

impl<T, I: Iterator<Item = Arrival<T>>> Merged<T, I> {
    fn refill(&mut self, slot: usize) {
        self.waiting[slot] = self.schedules[slot].next();
        if let Some(arrival) = &self.waiting[slot] {
            self.next.push(Reverse((arrival.at, slot)));
        }
    }
}

impl<T, I: Iterator<Item = Arrival<T>>> Iterator for Merged<T, I> {
    type Item = Arrival<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((_, slot)) = self.next.pop()?;
        let arrival = self.waiting[slot].take();
        self.refill(slot);
        arrival
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::curve::any_curve;

    fn times(curve: &Curve, arrivals: Arrivals, seed: u64) -> Vec<Duration> {
        Schedule::new((), Arc::new(curve.clone()), arrivals, seed).map(|arrival| arrival.at).collect()
    }

    proptest! {
        #[test]
        fn a_window_holds_its_integral_give_or_take_one(
            curve in any_curve(), seed: u64, a in 0.0..1.0f64, b in 0.0..1.0f64
        ) {
            let (from, to) = (curve.duration().mul_f64(a.min(b)), curve.duration().mul_f64(a.max(b)));
            let planned = times(&curve, Arrivals::Uniform, seed);
            let inside = planned.iter().filter(|at| (from..to).contains(*at)).count() as f64;
            let integral = curve.count_between(from, to);
            prop_assert!((inside - integral).abs() <= 1.0 + 1e-3, "{inside} arrivals for {integral}");
        }

        #[test]
        fn times_never_go_back_and_repeat_with_the_seed(curve in any_curve(), seed: u64) {
            for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
                let planned = times(&curve, arrivals, seed);
                prop_assert!(planned.is_sorted());
                prop_assert_eq!(planned, times(&curve, arrivals, seed));
            }
        }
    }

    /// Mean and variance of counts are both the rate in a Poisson process; an even one has almost no variance.
    #[test]
    fn poisson_counts_vary_as_much_as_their_mean() {
        let curve = Curve::constant(100.0, Duration::from_secs(2_000)).unwrap();
        let mut counts = vec![0.0; 2_000];
        for at in times(&curve, Arrivals::Poisson, 7) {
            counts[at.as_secs() as usize] += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / 2_000.0;
        let variance = counts.iter().map(|count| (count - mean) * (count - mean)).sum::<f64>() / 2_000.0;
        assert!((mean - 100.0).abs() < 1.5, "{mean}");
        assert!((0.85..1.15).contains(&(variance / mean)), "{variance} {mean}");
    }

    #[test]
    fn merged_schedules_keep_time_and_lose_nothing() {
        let curve = |per_s| Arc::new(Curve::constant(per_s, Duration::from_secs(10)).unwrap());
        let streams = [("a", 30.0), ("b", 70.0)];
        let merged: Vec<_> =
            merge(streams.map(|(name, rate)| Schedule::new(name, curve(rate), Arrivals::Uniform, 3)))
                .collect();
        assert!(merged.is_sorted_by_key(|arrival| arrival.at));
        for (name, rate) in streams {
            let of_stream: Vec<_> = merged.iter().filter(|a| a.stream == name).map(|a| a.index).collect();
            assert_eq!(of_stream, (0..(rate * 10.0) as u64).collect::<Vec<_>>());
        }
    }
}
