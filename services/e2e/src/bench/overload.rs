//! Suite `overload`: what is left of a service that is offered many times what it can do.
//!
//! Three times: a fleet whose database is held to a share of a processor, one whose mailbox worker is, and one process with the
//! embedded store that is as a whole. So the callers of this process can really offer ten times the capacity. A call counts when it
//! is answered within a second of when it was due.

mod calm;
mod closed;
mod decision;
mod existing;
mod offered;
mod processor_share;
mod sends;
mod world;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use self::world::{BoundBy, World};
use super::Options;
use super::table::Table;

/// What a caller of a send waits for. Its deadline, too.
const OBJECTIVE: Duration = Duration::from_secs(1);

pub(crate) async fn run(options: &Options, back_ends: &Path) -> Result<ExitCode> {
    let mut table = Table::new("overload");
    if options.wants(decision::ROW) {
        table.push(decision::row()?);
    }
    for (bound, names) in [
        (BoundBy::Store, &sends::STORE),
        (BoundBy::Worker, &sends::WORKER),
        (BoundBy::OneProcess, &sends::ONE_PROCESS),
    ] {
        if names.all().any(|name| options.wants(name)) {
            let world = World::start(options, back_ends, bound).await?;
            if options.wants(names.calm) {
                table.push(calm::row(options, &world, names.calm).await?);
            }
            if names.crowded().any(|name| options.wants(name)) {
                table.extend(sends::rows(options, &world, names).await?);
            }
            world.end().await?;
        }
    }
    if options.wants("existing") {
        let world = World::start(options, back_ends, BoundBy::Store).await?;
        table.extend(existing::rows(options, &world).await?);
        world.end().await?;
    }
    table.finish(&options.out)
}
