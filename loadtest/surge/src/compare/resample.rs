//! Drawing the seconds of a side again.

use std::hash::{DefaultHasher, Hash, Hasher};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::Second;
use crate::gates::{Count, Metric, Statistic};

/// Seconds that are drawn together. A pause of a collector, a sync or a compaction lasts a few.
const BLOCK_S: usize = 8;

/// The runs of one side, ready to be drawn from.
pub(super) struct Resampler {
    metric: Metric,
    /// All values that occur, in ascending order.
    values: Vec<u64>,
    runs: Vec<Vec<Indexed>>,
    /// How often each value was drawn.
    counts: Vec<u64>,
}

/// A second, with its values by their place in `values`.
struct Indexed {
    buckets: Vec<(usize, u64)>,
    second: Second,
}

#[derive(Default)]
struct Sums {
    seconds: u64,
    ok: u64,
    failed: u64,
    refused: u64,
    offered: u64,
}

pub(super) fn random(seed: u64, name: &str) -> SmallRng {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    SmallRng::seed_from_u64(seed ^ hasher.finish())
}

impl Resampler {
    pub(super) fn new(metric: Metric, runs: Vec<Vec<Second>>) -> Self {
        let buckets = || runs.iter().flatten().flat_map(|second| second.buckets.buckets());
        let mut values: Vec<u64> = buckets().map(|(value, _)| *value).collect();
        values.sort_unstable();
        values.dedup();
        let index = |second: Second| {
            let place = |value: &u64| values.binary_search(value).unwrap_or_else(|place| place);
            let buckets =
                second.buckets.buckets().iter().map(|(value, count)| (place(value), *count)).collect();
            Indexed { buckets, second }
        };
        let runs: Vec<Vec<Indexed>> =
            runs.into_iter().map(|run| run.into_iter().map(index).collect()).collect();
        let runs = runs.into_iter().filter(|run: &Vec<Indexed>| !run.is_empty()).collect();
        let counts = vec![0; values.len()];
        Self { metric, values, runs, counts }
    }

    /// How many independent things are drawn: runs, or blocks where there is one run.
    pub(super) fn units(&self) -> usize {
        match self.runs.as_slice() {
            [run] => run.len() / BLOCK_S,
            runs => runs.len(),
        }
    }

    /// The figure of everything, once.
    pub(super) fn whole(&mut self) -> Option<f64> {
        let all: Vec<_> = self
            .runs
            .iter()
            .enumerate()
            .flat_map(|(run, seconds)| (0..seconds.len()).map(move |s| (run, s)))
            .collect();
        self.figure(all)
    }

    /// The figure of runs and blocks that are drawn with replacement. Blocks run on from the end to the beginning.
    pub(super) fn draw(&mut self, random: &mut SmallRng) -> Option<f64> {
        let mut drawn = Vec::new();
        for _ in 0..self.runs.len() {
            let run = random.random_range(0..self.runs.len());
            let seconds = self.runs.get(run)?.len();
            let mut left = seconds;
            while left > 0 {
                let from = random.random_range(0..seconds);
                let block = BLOCK_S.min(left);
                drawn.extend((from..from + block).map(|second| (run, second % seconds)));
                left -= block;
            }
        }
        self.figure(drawn)
    }

    fn figure(&mut self, seconds: Vec<(usize, usize)>) -> Option<f64> {
        self.counts.fill(0);
        let mut sums = Sums::default();
        for (run, second) in seconds {
            let Indexed { buckets, second } = &self.runs[run][second];
            sums.seconds += 1;
            sums.ok += second.ok;
            sums.failed += second.failed;
            sums.refused += second.refused;
            sums.offered += second.offered;
            for (place, count) in buckets {
                self.counts[*place] += count;
            }
        }
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        match &self.metric {
            Metric::Latency { statistic, .. } => self.latency_ms(*statistic),
            Metric::Count { count, .. } => match count {
                Count::ErrorRate => ratio(sums.failed, sums.ok + sums.failed),
                Count::SuccessRate => ratio(sums.ok, sums.ok + sums.failed),
                Count::RefusedRate => ratio(sums.refused, sums.ok + sums.failed + sums.refused),
                Count::Rate | Count::Ok => ratio(sums.ok, sums.seconds),
                Count::Offered => ratio(sums.offered, sums.seconds),
                Count::Refused => ratio(sums.refused, sums.seconds),
                Count::Failed => ratio(sums.failed, sums.seconds),
            },
            Metric::Final { .. } => None,
        }
    }

    fn latency_ms(&self, statistic: Statistic) -> Option<f64> {
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return None;
        }
        match statistic {
            Statistic::Mean => {
                let sum: f64 = self
                    .values
                    .iter()
                    .zip(&self.counts)
                    .map(|(value, count)| *value as f64 * *count as f64)
                    .sum();
                Some(sum / total as f64 / 1_000.0)
            }
            Statistic::Max => self.values.last().map(|value| *value as f64 / 1_000.0),
            Statistic::Quantile(quantile) => {
                let wanted = (quantile * total as f64).ceil().max(1.0) as u64;
                let mut below = 0;
                let reached = self.values.iter().zip(&self.counts).find(|(_, count)| {
                    below += **count;
                    below >= wanted
                });
                reached.map(|(value, _)| *value as f64 / 1_000.0)
            }
        }
    }
}
