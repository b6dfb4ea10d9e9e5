//! Suite `surge`: what the load tool takes for itself, because what it takes is missing in what it measures.

mod cost;
mod play;
mod sessions;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::Options;
use super::table::Table;

pub(crate) async fn run(options: &Options, surge: &Path) -> Result<ExitCode> {
    let mut table = Table::new("surge");
    if [cost::ROW, cost::LAG].iter().any(|row| options.wants(row)) {
        table.extend(cost::of_a_send(options, surge).await?);
    }
    if options.wants(sessions::ROW) {
        table.push(sessions::in_two_gigabytes(options, surge).await?);
    }
    table.finish(&options.out)
}
