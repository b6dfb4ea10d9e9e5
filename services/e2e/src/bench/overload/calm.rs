//! Whether anybody is refused where there is room for all.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::closed;
use super::offered::{Ended, offer};
use super::world::World;
use crate::bench::Options;
use crate::bench::table::{Row, Target};

/// The lowest of so many counts: a store that is new has nothing to tidy up and does half as much again.
const CAPACITIES: usize = 4;
/// Of the capacity.
const LOAD: f64 = 0.9;
const LASTS: Duration = Duration::from_secs(60);

pub(crate) async fn row(options: &Options, world: &World, name: &'static str) -> Result<Row> {
    let mut capacity = f64::INFINITY;
    for _ in 0..CAPACITIES {
        let crowd = world.crowd.clone();
        capacity = capacity.min(closed::capacity(options, "sends", move |n| crowd.send(n)).await?);
    }
    let offered = offer(capacity * LOAD, LASTS, |n| world.crowd.send(n)).await?;
    let (refused, failed) = (offered.count(Ended::Refused), offered.count(Ended::Failed));
    ensure!(!offered.calls.is_empty(), "nothing was served, so there is no nine tenths of it");
    eprintln!(
        "offered {:.0}/s for {} s: {} served, {refused} refused, {failed} failed; p99 {} ms, generator late by {} ms (p99)",
        capacity * LOAD,
        LASTS.as_secs(),
        offered.count(Ended::Served),
        offered.p99(Duration::ZERO, LASTS).as_millis(),
        offered.lag_p99.as_millis(),
    );
    let share = (refused + failed) as f64 / offered.calls.len() as f64;
    Ok(Row::value(name, share, "share", Target::AtMost(1e-5)))
}
