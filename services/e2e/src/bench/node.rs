//! Suite `node`: one process with the embedded store.

pub(crate) mod deliver;
pub(crate) mod echo;
mod idle;
pub(crate) mod process;
pub(crate) mod sends;
mod sign_ups;
mod start;

use std::process::ExitCode;

use anyhow::Result;
use bytes::Bytes;

use super::table::Table;
use super::{Options, message};

pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let mut table = Table::new("node");
    if ["sends", "cpu", "deliver", "sign-ups"].iter().any(|name| options.wants(name)) {
        let floor = sends::echo(options, Bytes::from_static(message::CONTENT)).await?;
        let sends = sends::durable(options, &floor).await?;
        table.extend(sends.rows(&floor));
        table.push(deliver::at(options, sends.per_second / 2.0).await?);
        table.push(sign_ups::complete(options, &floor).await?);
    }
    if options.wants("idle") {
        table.push(idle::memory(options).await?);
    }
    if options.wants("start") {
        table.push(start::empty(options).await?);
        table.push(start::with_a_million(options).await?);
    }
    table.finish(&options.out)
}
