//! How many sessions one load tool holds in 2 GB: from the slope of its resident memory, because a machine rarely has ports and descriptors for
//! as many.

use std::path::Path;

use anyhow::Result;

use super::play::{Load, play};
use crate::bench::Options;
use crate::bench::node::process::Node;
use crate::bench::table::{Row, Target};

pub(crate) const ROW: &str = "sessions of one load tool in 2 GB";

const FEW: u64 = 1_000;
const MANY: u64 = 4_000;
const MEMORY: f64 = 2e9;

pub(crate) async fn in_two_gigabytes(options: &Options, surge: &Path) -> Result<Row> {
    let node = Node::start(options).await?;
    let mut peaks = [0.0; 2];
    for (peak, people) in peaks.iter_mut().zip([FEW, MANY]) {
        let load = Load { people, per_second: 100.0, seconds: 2 * options.seconds.max(1) };
        *peak = play(surge, &node, load).await?.resident_peak()? as f64;
    }
    let [few, many] = peaks;
    let session = (many - few) / (MANY - FEW) as f64;
    let held = (MEMORY - few) / session + FEW as f64;
    eprintln!(
        "resident memory of the load tool: {:.0} MB with {FEW} sessions, {:.0} MB with {MANY}",
        few / 1e6,
        many / 1e6
    );
    Ok(Row::value(ROW, held, "sessions", Target::AtLeast(50_000.0)))
}
