//! What is counted while a run goes on.

use hdrhistogram::Histogram;

use crate::plan::Plan;
use crate::policy::TIERS;
use crate::time::Nanos;
use crate::world::CallEnd;

/// Clients are told apart in figures only when they are few.
const CLIENTS_TOLD_APART_MAX: u32 = 4_096;

/// Microseconds; an answer that takes longer is not one.
const LATENCY_MAX: u64 = 600_000_000;

/// Tiers of those who are there already: acknowledge, resume, send.
pub(crate) const EXISTING: std::ops::RangeInclusive<u8> = 1..=3;

#[derive(Debug)]
pub(crate) struct Measure {
    warmup: Nanos,
    end: Nanos,
    tier_of: Vec<u8>,
    pub(crate) tiers: Vec<TierCount>,
    pub(crate) buckets: Vec<Bucket>,
    bucket: Bucket,
    /// Hundredths of milliseconds of the present bucket's calls of existing users; failures are the longest.
    existing: Vec<u32>,
    /// Calls born and calls answered of each client.
    pub(crate) clients: Vec<(u32, u32)>,
    /// Answered in the counted time, whenever they were born.
    pub(crate) ok_in_time: u64,
    /// Attempts that left clients in the counted time.
    pub(crate) attempts_in_time: u64,
    /// Answers that nobody waited for any more.
    pub(crate) late: u64,
    pub(crate) attempts_over: u64,
    pub(crate) attempts_left: u64,
    pub(crate) events: u64,
}

/// Calls of a tier that were born in the counted time.
#[derive(Debug)]
pub(crate) struct TierCount {
    pub(crate) born: u64,
    pub(crate) ends: [u64; CallEnd::COUNT],
    /// All of the run.
    pub(crate) born_ever: u64,
    pub(crate) ended_ever: u64,
    pub(crate) attempts_ever: u64,
    pub(crate) attempts: u64,
    pub(crate) refused_attempts: u64,
    /// Microseconds from birth to answer of those that were answered in time.
    pub(crate) latency: Histogram<u32>,
}

/// 100 ms of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) born: u32,
    pub(crate) attempts: u32,
    pub(crate) ok: u32,
    pub(crate) refused: u32,
    /// Milliseconds; infinite when more than one in a hundred got no answer, none without calls.
    pub(crate) existing_p99: Option<f32>,
}

impl Measure {
    pub(crate) fn new(plan: &Plan) -> Self {
        let tier = |_| TierCount {
            born: 0,
            ends: [0; CallEnd::COUNT],
            born_ever: 0,
            ended_ever: 0,
            attempts_ever: 0,
            attempts: 0,
            refused_attempts: 0,
            latency: Histogram::new_with_max(LATENCY_MAX, 3).expect("the bounds are in order"),
        };
        let apart = if plan.clients <= CLIENTS_TOLD_APART_MAX { plan.clients } else { 0 };
        Self {
            warmup: plan.warmup,
            end: plan.end,
            tier_of: plan.classes.iter().map(|class| class.tier).collect(),
            tiers: (0..TIERS).map(tier).collect(),
            buckets: Vec::new(),
            bucket: Bucket::default(),
            existing: Vec::new(),
            clients: vec![(0, 0); apart as usize],
            ok_in_time: 0,
            attempts_in_time: 0,
            late: 0,
            attempts_over: 0,
            attempts_left: 0,
            events: 0,
        }
    }

    fn counted(&self, at: Nanos) -> bool {
        at >= self.warmup && at < self.end
    }

    fn tier(&mut self, class: u8) -> &mut TierCount {
        &mut self.tiers[usize::from(self.tier_of[usize::from(class)])]
    }

    pub(crate) fn born(&mut self, class: u8, client: u32, now: Nanos) {
        self.bucket.born += 1;
        let counted = self.counted(now);
        let tier = self.tier(class);
        tier.born_ever += 1;
        if counted {
            tier.born += 1;
            if let Some((born, _)) = self.clients.get_mut(client as usize) {
                *born += 1;
            }
        }
    }

    pub(crate) fn attempted(&mut self, class: u8, now: Nanos) {
        self.bucket.attempts += 1;
        let counted = self.counted(now);
        self.attempts_in_time += u64::from(counted);
        let tier = self.tier(class);
        tier.attempts_ever += 1;
        tier.attempts += u64::from(counted);
    }

    /// An attempt was refused; its call may go on.
    pub(crate) fn refused(&mut self, class: u8, now: Nanos) {
        self.bucket.refused += 1;
        let counted = self.counted(now);
        self.tier(class).refused_attempts += u64::from(counted);
    }

    pub(crate) fn ended(&mut self, class: u8, client: u32, born: Nanos, now: Nanos, end: CallEnd) {
        let counted = self.counted(born);
        let ok = end == CallEnd::Ok;
        let micros = now.since(born).0 / 1_000;
        if ok {
            self.bucket.ok += 1;
            self.ok_in_time += u64::from(self.counted(now));
        }
        if EXISTING.contains(&self.tier_of[usize::from(class)]) && end != CallEnd::HungUp {
            self.existing.push(if ok {
                u32::try_from(micros / 10).unwrap_or(u32::MAX - 1)
            } else {
                u32::MAX
            });
        }
        let tier = self.tier(class);
        tier.ended_ever += 1;
        if !counted {
            return;
        }
        tier.ends[end as usize] += 1;
        if ok {
            tier.latency.saturating_record(micros);
            if let Some((_, served)) = self.clients.get_mut(client as usize) {
                *served += 1;
            }
        }
    }

    /// Another 100 ms are over.
    pub(crate) fn end_bucket(&mut self) {
        let mut bucket = std::mem::take(&mut self.bucket);
        if !self.existing.is_empty() {
            let index = (self.existing.len() - 1) * 99 / 100;
            let worst = *self.existing.select_nth_unstable(index).1;
            bucket.existing_p99 = Some(if worst == u32::MAX { f32::INFINITY } else { worst as f32 / 100.0 });
            self.existing.clear();
        }
        self.buckets.push(bucket);
    }

    /// Seconds that are counted.
    pub(crate) fn span(&self) -> f64 {
        self.end.since(self.warmup).as_secs_f64()
    }

    /// Calls answered in time, per second.
    pub(crate) fn goodput(&self) -> f64 {
        self.ok_in_time as f64 / self.span()
    }
}
