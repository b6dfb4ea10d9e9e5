//! Planned arrivals of a trace, in order of time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::rows::{Row, Rows, What};
use super::{Format, TraceError};
use crate::load::{BaseRates, Op, Work};
use crate::schedule::{Arrival, Arrivals};

/// How a trace is replayed.
#[derive(Clone, Debug)]
pub struct How {
    pub rates: BaseRates,
    /// So many times as fast, with the same arrivals.
    pub speed: f64,
    /// So many times as many arrivals.
    pub scale: f64,
    /// So many times as fast, at the same rates.
    pub compress: f64,
    /// Part of the trace's own time, in seconds.
    pub from_s: f64,
    pub to_s: Option<f64>,
    /// Again and again.
    pub repeat: bool,
    /// Of the replay.
    pub length: Option<Duration>,
    pub within: Arrivals,
    pub column: Option<String>,
    pub default_op: Option<Op>,
    pub sort: bool,
    pub seed: u64,
}

impl Default for How {
    fn default() -> Self {
        Self {
            rates: BaseRates { sign_up: 1.0, send: 1.0, discover: 1.0, people: 1.0, offline: 1.0 },
            speed: 1.0,
            scale: 1.0,
            compress: 1.0,
            from_s: 0.0,
            to_s: None,
            repeat: false,
            length: None,
            within: Arrivals::Uniform,
            column: None,
            default_op: None,
            sort: false,
            seed: 0,
        }
    }
}

/// Iterates over the arrivals. Memory does not grow with the trace.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    how: How,
    rows: Rows,
    /// Read, and not yet of any bucket.
    pending: Option<Row>,
    ended: bool,
    /// Where this round began, in seconds of the replay.
    round_s: f64,
    /// Where the trace is known to reach to, in its own seconds.
    reached_s: f64,
    rows_seen: u64,
    bucket: Option<Bucket>,
    /// Of the bucket before, for the last one.
    bucket_s: f64,
    streams: BTreeMap<Op, Stream>,
    /// Copies of an event that are still to come, and what is left over for the next one.
    copies: Option<(f64, Work, u64)>,
    left_over: f64,
    index: u64,
}

/// From one time to the next.
#[derive(Clone, Debug)]
struct Bucket {
    from_s: f64,
    to_s: f64,
    expected: BTreeMap<Op, f64>,
}

/// One operation's arrivals: as in [`crate::schedule`], they fall where the cumulative count reaches theirs.
#[derive(Debug)]
struct Stream {
    rng: StdRng,
    /// Of the next arrival, counted from the beginning of the bucket, so that precision does not wear off.
    next: f64,
}

/// What a single bucket, which nothing follows, is taken to last.
const ONLY_BUCKET_S: f64 = 1.0;
/// For hours.
const ONLY_HOUR_S: f64 = 3_600.0;

impl Replay {
    /// # Errors
    ///
    /// When the trace cannot be opened or has no rows.
    pub fn open(path: &Path, how: How) -> Result<Self, TraceError> {
        if how.repeat && how.length.is_none() {
            return Err(TraceError::Endless);
        }
        let mut rows = Rows::open(path, how.column.as_deref(), how.default_op, how.sort)?;
        let pending = rows.next().transpose()?;
        if pending.is_none() {
            return Err(TraceError::Empty { path: path.to_owned() });
        }
        let bucket_s = if rows.format() == Format::Multiples { ONLY_HOUR_S } else { ONLY_BUCKET_S };
        Ok(Self {
            path: path.to_owned(),
            how,
            rows,
            pending,
            ended: false,
            round_s: 0.0,
            reached_s: 0.0,
            rows_seen: 0,
            bucket: None,
            bucket_s,
            streams: BTreeMap::new(),
            copies: None,
            left_over: 0.5,
            index: 0,
        })
    }

    pub fn format(&self) -> Format {
        self.rows.format()
    }

    /// Where it ends, in time of the replay; known once it has.
    pub fn duration(&self) -> Duration {
        let end = self.to_replay(self.end_s());
        let end = self.how.length.map_or(end, |length| end.min(length.as_secs_f64()));
        Duration::from_secs_f64(end.max(0.001))
    }

    pub fn rows_seen(&self) -> u64 {
        self.rows_seen
    }

    fn step(&mut self) -> Result<Option<(f64, Work)>, TraceError> {
        loop {
            if let Some((at_s, work, count)) = self.copies.take() {
                if count > 1 {
                    // The first is who was recorded; others are somebody.
                    self.copies = Some((at_s, Work { user: None, peer: None, ..work }, count - 1));
                }
                return Ok(Some((at_s, work)));
            }
            if let Some(arrival) = self.next_of_bucket() {
                return Ok(Some(arrival));
            }
            self.bucket = None;
            if !self.advance()? && !self.begin_again()? {
                return Ok(None);
            }
        }
    }

    /// Takes what comes next from the rows; false when there is none.
    fn advance(&mut self) -> Result<bool, TraceError> {
        let Some(row) = self.take_row()? else { return Ok(false) };
        if self.how.to_s.is_some_and(|to_s| row.at_s >= to_s) {
            self.pending = None;
            self.ended = true;
            return Ok(false);
        }
        match row.what {
            What::Event(work) => {
                self.reached_s = row.at_s;
                if row.at_s >= self.how.from_s {
                    self.left_over += self.how.scale / self.how.compress;
                    let count = self.left_over.floor();
                    self.left_over -= count;
                    if count >= 1.0 {
                        self.copies = Some((self.to_replay(row.at_s), work, count as u64));
                    }
                }
            }
            What::Count(..) | What::Multiple(..) => self.fill(row)?,
        }
        Ok(true)
    }

    /// The rows of one time, up to the next.
    fn fill(&mut self, first: Row) -> Result<(), TraceError> {
        let from_s = first.at_s;
        let mut counts: BTreeMap<Op, (f64, f64)> = BTreeMap::new();
        let mut row = first;
        loop {
            match row.what {
                What::Count(op, count) => counts.entry(op).or_default().0 += count,
                What::Multiple(op, times) => counts.entry(op).or_default().1 += times,
                What::Event(_) => {}
            }
            let same = self.peek_row()?.is_some_and(|next| next.at_s == from_s);
            match same.then(|| self.take_row()).transpose()?.flatten() {
                Some(next) => row = next,
                None => break,
            }
        }
        let to_s = self.peek_row()?.map_or(from_s + self.bucket_s, |next| next.at_s);
        self.bucket_s = to_s - from_s;
        self.reached_s = to_s;
        // A part of it, when only that part is to be played.
        let (cut_from, cut_to) =
            (from_s.max(self.how.from_s), self.how.to_s.map_or(to_s, |end| end.min(to_s)));
        if cut_to <= cut_from {
            return Ok(());
        }
        let share = (cut_to - cut_from) / (to_s - from_s);
        let factor = self.how.scale / self.how.compress;
        let expected = counts.into_iter().map(|(op, (count, times))| {
            let by_rate = times * self.how.rates.of(op) * (to_s - from_s);
            (op, (count + by_rate) * share * factor)
        });
        let bucket = Bucket { from_s: cut_from, to_s: cut_to, expected: expected.collect() };
        for op in bucket.expected.keys() {
            let (seed, within) = (self.how.seed, self.how.within);
            self.streams.entry(*op).or_insert_with(|| Stream::new(seed ^ *op as u64, within));
        }
        self.bucket = Some(bucket);
        Ok(())
    }

    /// The earliest arrival that is left in the bucket.
    fn next_of_bucket(&mut self) -> Option<(f64, Work)> {
        let bucket = self.bucket.as_mut()?;
        let mut earliest: Option<(f64, Op)> = None;
        for (op, expected) in &bucket.expected {
            let Some(stream) = self.streams.get(op) else { continue };
            if *expected <= 0.0 || stream.next > *expected {
                continue;
            }
            let share = stream.next / expected;
            let at_s = bucket.from_s + share * (bucket.to_s - bucket.from_s);
            if earliest.is_none_or(|(before, _)| at_s < before) {
                earliest = Some((at_s, *op));
            }
        }
        let Some((at_s, op)) = earliest else {
            for (op, expected) in &bucket.expected {
                if let Some(stream) = self.streams.get_mut(op) {
                    stream.next -= expected;
                }
            }
            return None;
        };
        let within = self.how.within;
        self.streams.get_mut(&op)?.draw(within);
        Some((self.to_replay(at_s), Work::of(op)))
    }

    /// Opens the trace anew, where it is to be repeated.
    fn begin_again(&mut self) -> Result<bool, TraceError> {
        let round_s = self.end_s() - self.how.from_s;
        if !self.how.repeat || round_s <= 0.0 {
            return Ok(false);
        }
        self.round_s = self.to_replay(self.end_s());
        self.rows = Rows::open(&self.path, self.how.column.as_deref(), self.how.default_op, self.how.sort)?;
        self.pending = None;
        self.ended = false;
        self.rows_seen = 0;
        Ok(true)
    }

    /// Of this round, in the trace's own seconds. After the last event comes one more gap of the mean length.
    fn end_s(&self) -> f64 {
        if let Some(to_s) = self.how.to_s.filter(|to_s| *to_s <= self.reached_s) {
            return to_s;
        }
        let gap = match self.rows.format() {
            Format::Events => (self.reached_s / self.rows_seen.saturating_sub(1).max(1) as f64).max(0.001),
            Format::Counts | Format::Multiples => 0.0,
        };
        self.reached_s + gap
    }

    fn to_replay(&self, at_s: f64) -> f64 {
        self.round_s + (at_s - self.how.from_s).max(0.0) / (self.how.speed * self.how.compress)
    }

    fn take_row(&mut self) -> Result<Option<Row>, TraceError> {
        self.peek_row()?;
        self.rows_seen += u64::from(self.pending.is_some());
        Ok(self.pending.take())
    }

    fn peek_row(&mut self) -> Result<Option<Row>, TraceError> {
        if self.pending.is_none() && !self.ended {
            self.pending = self.rows.next().transpose()?;
            self.ended = self.pending.is_none();
        }
        Ok(self.pending)
    }
}

impl Stream {
    fn new(seed: u64, within: Arrivals) -> Self {
        let mut stream = Self { rng: StdRng::seed_from_u64(seed), next: 0.0 };
        match within {
            // In the middle of its share of the time, so that whole counts stay whole.
            Arrivals::Uniform => stream.next = 0.5,
            Arrivals::Poisson => stream.draw(within),
        }
        stream
    }

    fn draw(&mut self, within: Arrivals) {
        self.next += match within {
            Arrivals::Uniform => 1.0,
            // Exponential with mean 1.
            Arrivals::Poisson => -(1.0 - self.rng.random::<f64>()).ln(),
        };
    }
}

impl Iterator for Replay {
    type Item = Result<Arrival<Work>, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (at_s, work) = match self.step() {
            Ok(arrival) => arrival?,
            Err(error) => return Some(Err(error)),
        };
        if self.how.length.is_some_and(|length| at_s >= length.as_secs_f64()) {
            return None;
        }
        let arrival = Arrival { stream: work, index: self.index, at: Duration::from_secs_f64(at_s) };
        self.index += 1;
        Some(Ok(arrival))
    }
}
