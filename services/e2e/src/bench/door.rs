//! Suite `door`: what people who have no account yet cost a gateway, and what their first question about their contacts does.

mod arrivals;
mod discover;
mod polls;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::Options;
use super::table::Table;

pub(crate) async fn run(options: &Options, back_ends: &Path) -> Result<ExitCode> {
    let mut table = Table::new("door");
    if options.wants("polls") {
        table.push(polls::per_core(options).await?);
    }
    if options.wants("discovery") {
        table.push(discover::strangers(options).await?);
    }
    if options.wants("arrivals") {
        table.extend(arrivals::rows(options, back_ends).await?);
    }
    table.finish(&options.out)
}
