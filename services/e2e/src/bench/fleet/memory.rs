//! What a device that is online costs: the slope of resident memory over idle sessions, all of Spillway's processes
//! together.

use anyhow::Result;
use tokio::time::sleep;

use super::world::World;
use crate::bench::sessions;
use crate::bench::table::{Row, Target};

pub(crate) const ROW: &str = "memory per online device";

/// Those that make caches and pools as large as they get.
const FEW: u64 = 500;
const MANY: u64 = FEW + 2_000;

pub(crate) async fn of_online_devices(world: &World) -> Result<Row> {
    // All before the first figure, because accounts cost memory too.
    let people = world.people.sign_up(0..MANY).await?;
    let (few, rest) = people.split_at(FEW as usize);
    let mut held = sessions::open(&world.people.address, few).await?;
    sleep(sessions::SETTLE).await;
    let at_few = world.spillway()?.rss_bytes;
    held.extend(sessions::open(&world.people.address, rest).await?);
    sleep(sessions::SETTLE).await;
    let at_many = world.spillway()?.rss_bytes;
    let bytes = at_many.saturating_sub(at_few) as f64 / (MANY - FEW) as f64;
    eprintln!(
        "resident memory: {} MB with {FEW} devices online, {} MB with {MANY}; {bytes:.0} bytes each",
        at_few >> 20,
        at_many >> 20
    );
    drop(held);
    Ok(Row::value(ROW, bytes / 1_000.0, "kB", Target::AtMost(45.0)))
}
