//! What existing users notice while strangers storm the door.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::closed;
use super::offered::{Ended, offer};
use super::world::World;
use crate::bench::Options;
use crate::bench::table::{Row, Target};

/// Sends of existing users, over what strangers' calls the service could serve alone.
const SENDS_SHARE: f64 = 0.3;
/// What strangers ask for, over what the service could serve alone.
const STORM: f64 = 12.0;
const QUIET: Duration = Duration::from_secs(8);
const STORM_LASTS: Duration = Duration::from_secs(16);
/// Over which a p99 is taken to see when it is good again.
const WINDOW: Duration = Duration::from_millis(100);

pub(crate) async fn rows(options: &Options, world: &World) -> Result<Vec<Row>> {
    let crowd = world.crowd.clone();
    // Far from the strangers of the storm.
    let capacity =
        closed::capacity(options, "sign-ups begun", move |n| crowd.start_sign_up(1_000_000_000 + n)).await?;
    let sends_per_second = capacity * SENDS_SHARE;
    let whole = QUIET + STORM_LASTS;
    let storm = async {
        sleep(QUIET).await;
        offer(capacity * STORM, STORM_LASTS, |n| world.crowd.start_sign_up(n)).await
    };
    let (sends, storm) = tokio::join!(offer(sends_per_second, whole, |n| world.crowd.send(n)), storm);
    let (sends, storm) = (sends?, storm?);
    let warm = Duration::from_secs(2);
    let quiet_p99 = sends.p99(warm, QUIET);
    let objective = quiet_p99 * 2 + Duration::from_millis(20);
    let settled = QUIET + Duration::from_secs(1);
    let storm_p99 = sends.p99(settled, whole);
    let windows = (STORM_LASTS.as_millis() / WINDOW.as_millis()) as u32;
    let bad = (0..windows)
        .filter(|&window| {
            let from = QUIET + WINDOW * window;
            sends.p99(from, from + WINDOW) > objective || sends.success(from, from + WINDOW) < 0.999
        })
        .collect::<Vec<_>>();
    eprintln!(
        "{sends_per_second:.0} sends/s of existing users while strangers start {:.0} sign-ups/s: {} of theirs served, {} refused, {} failed; \
         sends {} served, {} refused, {} failed, p99 {} ms before and {} ms in the storm; {} of {windows} windows of {} ms were bad",
        capacity * STORM,
        storm.count(Ended::Served),
        storm.count(Ended::Refused),
        storm.count(Ended::Failed),
        sends.count(Ended::Served),
        sends.count(Ended::Refused),
        sends.count(Ended::Failed),
        quiet_p99.as_millis(),
        storm_p99.as_millis(),
        bad.len(),
        WINDOW.as_millis(),
    );
    // The first window from which on the next ten are good.
    let good_from = (0..windows).find(|first| (*first..first + 10).all(|window| !bad.contains(&window)));
    let back_ms = good_from.map_or(f64::INFINITY, |first| f64::from(first) * WINDOW.as_millis() as f64);
    let success = sends.success(QUIET, whole);
    Ok(vec![
        Row::value("existing users' sends served in the storm", success, "share", Target::AtLeast(0.999)),
        Row::value(
            "existing users' p99 in the storm, of what is allowed",
            storm_p99.as_secs_f64() / objective.as_secs_f64(),
            "share",
            Target::AtMost(1.0),
        ),
        Row::value("existing users' p99 is good again after", back_ms, "ms", Target::AtMost(300.0)),
    ])
}
