//! Suite `fleet`: a process for each role, over one NATS server and one Cassandra node, all on this machine.
//!
//! Cassandra answers a write after its fsync (`commitlog_sync: batch`, the fleet's default), for the floors as well.
//! Its processor time, that of NATS and that of the callers are taken from the same cores as Spillway's.

mod calls;
mod latency;
mod memory;
mod sends;
pub(crate) mod world;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use self::world::World;
use super::Options;
use super::table::Table;

pub(crate) async fn run(options: &Options, back_ends: &Path) -> Result<ExitCode> {
    let world = World::start(options, back_ends).await?;
    match rows(options, &world).await {
        Ok(table) => {
            // Dropping it would leave roles without the time to say goodbye, and nobody would see that they cannot.
            world.end().await?;
            table.finish(&options.out)
        }
        Err(error) => Err(error.context(format!("logs are in {}", world.keep().display()))),
    }
}

async fn rows(options: &Options, world: &World) -> Result<Table> {
    let mut table = Table::new("fleet");
    // First: what heavy traffic leaves behind in allocators would hide what sessions take.
    let memory =
        if options.wants(memory::ROW) { Some(memory::of_online_devices(world).await?) } else { None };
    if [sends::ROW, latency::ROW].iter().any(|row| options.wants(row)) {
        let senders = sends::Senders::sign_up(world).await?;
        let sends = sends::durable(options, world, &senders).await?;
        if options.wants(sends::ROW) {
            table.push(sends.row());
        }
        if options.wants(calls::ROW) {
            table.push(calls::unary(options, world).await?);
        }
        if options.wants(latency::ROW) {
            table.push(latency::at(options, world, &senders, sends.per_second() / 10.0).await?);
        }
    } else if options.wants(calls::ROW) {
        table.push(calls::unary(options, world).await?);
    }
    table.extend(memory);
    Ok(table)
}
