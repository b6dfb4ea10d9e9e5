//! A trace from its beginning to its end before it is played: whether it can be read, and what is in it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bins::Bins;
use super::{Format, How, Replay, TraceError};
use crate::curve::CurveError;
use crate::load::{Load, Op};

/// What a replay has in it.
#[derive(Clone, Debug)]
pub struct Scanned {
    pub format: Format,
    pub rows: u64,
    pub duration: Duration,
    pub ops: BTreeMap<Op, OpScanned>,
}

#[derive(Clone, Debug, Default)]
pub struct OpScanned {
    pub total: u64,
    /// In the fullest second.
    pub most_in_a_second: u64,
    /// Variance of the counts of seconds over their mean: 1 for independent arrivals, more for bursts.
    pub dispersion: f64,
    bins: Bins,
}

/// Reads it all. Takes as long as reading does, and memory for some thousand bins.
///
/// # Errors
///
/// Whatever is wrong with the trace, with its line and column.
pub fn scan(path: &std::path::Path, how: &How) -> Result<Scanned, TraceError> {
    let mut replay = Replay::open(path, how.clone())?;
    let format = replay.format();
    let mut ops: BTreeMap<Op, (OpScanned, Seconds)> = BTreeMap::new();
    for arrival in &mut replay {
        let arrival = arrival?;
        let (scanned, seconds) = ops.entry(arrival.stream.op).or_default();
        scanned.total += 1;
        scanned.bins.add(arrival.at);
        seconds.add(arrival.at.as_secs());
    }
    let duration = replay.duration();
    let seconds_in_all = duration.as_secs_f64().ceil() as u64;
    let ops = ops.into_iter().map(|(op, (mut scanned, mut seconds))| {
        seconds.end();
        scanned.most_in_a_second = seconds.most;
        scanned.dispersion = seconds.dispersion(scanned.total, seconds_in_all);
        (op, scanned)
    });
    let ops = ops.collect();
    // A round that is repeated is counted once.
    Ok(Scanned { format, rows: replay.rows_seen(), duration, ops })
}

impl Scanned {
    /// As curves, in some thousand steps at most.
    ///
    /// # Errors
    ///
    /// Never for what was scanned; rates of whole numbers are finite.
    pub fn load(&self) -> Result<Load, CurveError> {
        self.ops.iter().try_fold(Load::default(), |load, (op, scanned)| {
            let curve = scanned.bins.curve(self.duration)?.lasting(self.duration);
            Ok(load.plus(&Load::one(*op, curve)))
        })
    }
}

/// Counts of seconds, in order of time.
#[derive(Debug, Default)]
struct Seconds {
    second: u64,
    count: u64,
    most: u64,
    squares: f64,
}

impl Seconds {
    fn add(&mut self, second: u64) {
        if second != self.second {
            self.end();
            self.second = second;
        }
        self.count += 1;
    }

    fn end(&mut self) {
        self.most = self.most.max(self.count);
        self.squares += (self.count as f64).powi(2);
        self.count = 0;
    }

    /// Seconds in which nothing came count as well.
    fn dispersion(&self, total: u64, seconds: u64) -> f64 {
        let (seconds, total) = (seconds.max(1) as f64, total as f64);
        let mean = total / seconds;
        if mean <= 0.0 { 0.0 } else { (self.squares / seconds - mean * mean).max(0.0) / mean }
    }
}
