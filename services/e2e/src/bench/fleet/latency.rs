//! What the fleet adds to the time of a send when nothing queues.
//!
//! A send cannot be faster than one request over NATS and one insert, one after the other. So the floor is the sum of
//! those two medians, each measured alone at the rate of the sends, and the figure is the median of a send over it.
//! What the fleet adds is the client's call to the gateway, and all that Spillway does.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

use super::calls;
use super::sends::{Inserts, Senders};
use super::world::World;
use crate::bench::table::{Row, Target};
use crate::bench::{Options, open_loop};

pub(crate) const ROW: &str = "latency at 10 % load, p50";

/// In turns, so that whatever else the machine does meets all three.
const TURNS: usize = 3;

pub(crate) async fn at(options: &Options, world: &World, senders: &Senders, per_second: f64) -> Result<Row> {
    let raw = calls::requests(world).await?;
    let inserts = Inserts::open(world).await?;
    let [mut request, mut insert, mut send] = [times()?, times()?, times()?];
    let window = options.window();
    for turn in 0..=TURNS {
        open_loop::times(per_second, window, |_| calls::ask(raw.clone()), &mut request).await?;
        open_loop::times(per_second, window, |_| inserts.insert(), &mut insert).await?;
        open_loop::times(per_second, window, |n| senders.send(n, n * 31), &mut send).await?;
        if turn == 0 {
            // That was to warm up.
            [&mut request, &mut insert, &mut send].into_iter().for_each(Histogram::reset);
        }
    }
    let [request, insert, send] = [&request, &insert, &send].map(median_ms);
    eprintln!(
        "at {per_second:.0}/s: a raw request {request:.2} ms, a raw insert {insert:.2} ms, a send {send:.2} ms"
    );
    Ok(Row::ratio(ROW, send, "ms", request + insert, Target::AtMost(1.5)))
}

/// Microseconds, up to a minute.
fn times() -> Result<Histogram<u64>> {
    let most = Duration::from_secs(60).as_micros() as u64;
    Ok(Histogram::new_with_bounds(1, most, 3)?)
}

fn median_ms(times: &Histogram<u64>) -> f64 {
    times.value_at_quantile(0.5) as f64 / 1_000.0
}
