//! Sends far beyond what the service can do: what is left, and what a refusal costs.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::offered::{Ended, Offered, offer};
use super::world::World;
use super::{OBJECTIVE, closed};
use crate::bench::Options;
use crate::bench::table::{Row, Target};

/// Each step of the load; what is due in its first part is left out.
const STEP: Duration = Duration::from_secs(8);
const SETTLE: Duration = Duration::from_secs(2);
/// Between steps, so that none pays for the one before.
const CALM: Duration = Duration::from_secs(3);

/// Orders to the ladder are taken up by the next of its ticks, ten a second.
const OBEYS: Duration = Duration::from_millis(300);

/// Over which the service is seen doing nothing.
const IDLE: Duration = Duration::from_secs(4);

/// One step.
struct Step {
    goodput: f64,
    offered: Offered,
    cpu_us: f64,
}

impl Step {
    /// Processor time of a send that is served, without what the refused ones took.
    fn served_cpu_us(&self, refused_cpu_us: f64) -> f64 {
        let served = self.offered.count(Ended::Served);
        let refused = (self.offered.calls.len() - served) as f64 * refused_cpu_us;
        if served == 0 { f64::INFINITY } else { (self.cpu_us - refused) / served as f64 }
    }
}

/// The rows of one bound: at 2, 4 and 10 times the capacity, what a refusal costs, 10 times with clients that listen and how often
/// these ask, and who is refused at nine tenths.
pub(crate) struct Names {
    pub(crate) goodput: [&'static str; 3],
    pub(crate) refusal: &'static str,
    pub(crate) cooperating: &'static str,
    pub(crate) attempts: &'static str,
    pub(crate) calm: &'static str,
}

impl Names {
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static str> {
        self.crowded().chain([self.calm])
    }

    /// What is measured beyond the capacity.
    pub(crate) fn crowded(&self) -> impl Iterator<Item = &'static str> {
        self.goodput.into_iter().chain([self.refusal, self.cooperating, self.attempts])
    }
}

pub(crate) const WORKER: Names = Names {
    goodput: [
        "goodput at 2 x, worker-bound, over peak",
        "goodput at 4 x, worker-bound, over peak",
        "goodput at 10 x, worker-bound, over peak",
    ],
    refusal: "cpu refused / served, worker-bound",
    cooperating: "goodput at 10 x, cooperating, worker-bound",
    attempts: "attempts of a call at 10 x, worker-bound",
    calm: "refused at 0.9 x, worker-bound",
};

pub(crate) const ONE_PROCESS: Names = Names {
    goodput: [
        "goodput at 2 x, one process, over peak",
        "goodput at 4 x, one process, over peak",
        "goodput at 10 x, one process, over peak",
    ],
    refusal: "cpu refused / served, one process",
    cooperating: "goodput at 10 x, cooperating, one process",
    attempts: "attempts of a call at 10 x, one process",
    calm: "refused at 0.9 x, one process",
};

pub(crate) const STORE: Names = Names {
    goodput: [
        "goodput at 2 x, store-bound, over peak",
        "goodput at 4 x, store-bound, over peak",
        "goodput at 10 x, store-bound, over peak",
    ],
    refusal: "cpu refused / served, store-bound",
    cooperating: "goodput at 10 x, cooperating, store-bound",
    attempts: "attempts of a call at 10 x, store-bound",
    calm: "refused at 0.9 x, store-bound",
};

/// Of the capacity, to look for the peak.
const BELOW: [f64; 3] = [0.85, 1.0, 1.15];
/// The load, how much of the peak is to be left of it, and whether clients listen.
const ABOVE: [(f64, f64, bool); 4] =
    [(2.0, 0.95, false), (4.0, 0.88, false), (10.0, 0.75, false), (10.0, 0.90, true)];

/// All steps are made so often, and of each the turn with the median ratio counts: the embedded store tidies up for a second now and
/// then, which takes a third of the process, and other machines of the same host take some of this one.
const TURNS: usize = 3;

/// The peak, and what is left of it at each of [`ABOVE`].
type Turn = (f64, [f64; ABOVE.len()]);

pub(crate) async fn rows(options: &Options, world: &World, names: &Names) -> Result<Vec<Row>> {
    let crowd = world.crowd.clone();
    let capacity = closed::capacity(options, "sends", move |n| crowd.send(n)).await?;
    let refused_cpu_us = refused_cpu_us(world, capacity).await?;
    let mut served_cpu_us = f64::INFINITY;
    let mut turns: Vec<Turn> = Vec::new();
    for _ in 0..TURNS {
        let mut peak = 0.0_f64;
        for share in BELOW {
            let step = step(world, capacity * share, false).await?;
            peak = peak.max(step.goodput);
            served_cpu_us = served_cpu_us.min(step.served_cpu_us(refused_cpu_us));
        }
        let mut left = [0.0; ABOVE.len()];
        for (left, (times, _, cooperating)) in left.iter_mut().zip(ABOVE) {
            *left = step(world, capacity * times, cooperating).await?.goodput;
        }
        turns.push((peak, left));
    }
    ensure!(
        served_cpu_us.is_finite() && served_cpu_us > 0.0,
        "nothing was served that a refusal could be compared with"
    );
    let mut rows = vec![Row::ratio(names.refusal, refused_cpu_us, "us", served_cpu_us, Target::AtMost(0.05))];
    let [twice, four_times, ten_times] = names.goodput;
    for (n, name) in [twice, four_times, ten_times, names.cooperating].into_iter().enumerate() {
        let (left, peak) = median(turns.iter().map(|(peak, left)| (left[n], *peak)).collect());
        rows.push(Row::ratio(name, left, "1/s", peak, Target::AtLeast(ABOVE[n].1)));
    }
    // Nobody else's calls are counted there.
    let attempts = &world.crowd.attempts;
    let (all, first) = (attempts.attempts() as f64, attempts.first_attempts() as f64);
    rows.push(Row::ratio(names.attempts, all, "attempts", first, Target::AtMost(1.1)));
    Ok(rows)
}

/// By the ratio of the two.
fn median(mut pairs: Vec<(f64, f64)>) -> (f64, f64) {
    pairs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    pairs[pairs.len() / 2]
}

/// Processor time of all of the service for a send that it refuses, when it refuses each: what a refusal costs is
/// otherwise hidden in what the others cost. What the service takes while nobody calls is not counted.
async fn refused_cpu_us(world: &World, capacity: f64) -> Result<f64> {
    world.ladder(&["set", "5"]).await?;
    sleep(OBEYS).await;
    let before = world.cpu_us()?;
    sleep(IDLE).await;
    let idle_us = world.cpu_us()?.saturating_sub(before) as f64 * STEP.div_duration_f64(IDLE);
    let step = step(world, capacity, false).await?;
    world.ladder(&["auto"]).await?;
    sleep(CALM).await;
    let (served, all) = (step.offered.count(Ended::Served), step.offered.calls.len());
    ensure!(served * 100 < all, "{served} of {all} calls were served though the ladder forbids it");
    // Whoever does not listen is not heard for a while, and some of his calls end unheard at their deadline: turned away as well.
    Ok((step.cpu_us - idle_us).max(0.0) / (all - served) as f64)
}

async fn step(world: &World, per_second: f64, cooperating: bool) -> Result<Step> {
    let before = world.cpu_us()?;
    let offered = if cooperating {
        offer(per_second, STEP, |n| world.crowd.send_cooperating(n)).await?
    } else {
        offer(per_second, STEP, |n| world.crowd.send(n)).await?
    };
    let cpu_us = world.cpu_us()?.saturating_sub(before) as f64;
    let goodput = offered.goodput(SETTLE, STEP, OBJECTIVE);
    eprintln!(
        "offered {per_second:.0}/s{}: goodput {goodput:.0}/s; {} served, {} refused, {} failed; p99 {} ms, generator late by {} ms (p99)",
        if cooperating { " of cooperating clients" } else { "" },
        offered.count(Ended::Served),
        offered.count(Ended::Refused),
        offered.count(Ended::Failed),
        offered.p99(SETTLE, STEP).as_millis(),
        offered.lag_p99.as_millis(),
    );
    sleep(CALM).await;
    Ok(Step { goodput, offered, cpu_us })
}
