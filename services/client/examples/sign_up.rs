//! Signs up as a phone does, through the waiting room, and shows what a phone could show.
//!
//! ```text
//! cargo run -p spillway-client --example sign_up -- +4915112345678 --sandbox http://127.0.0.1:7702 --keep place
//! ```
//!
//! Stop it while it waits and start it again with the same `--keep`: the place is still there.

mod phone;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use phone::Newcomer;
use spillway_client::{Client, ClientConfig};
use spillway_types::PhoneNumber;

#[derive(Debug, Parser)]
#[command(about = "Signs up through the waiting room")]
struct Options {
    /// In E.164, such as +4915112345678
    number: String,
    /// One gateway, or several with commas between them
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7700")]
    gateway: String,
    /// Where the sandbox provider shows its codes; without it the code is asked for here
    #[arg(long, value_name = "URL")]
    sandbox: Option<String>,
    /// Keeps the place in the room, so that it is found again
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let number = PhoneNumber::parse(&options.number)
        .with_context(|| format!("`{}` is not a phone number that can be called", options.number))?;
    let client = Client::connect(&options.gateway, ClientConfig::default()).await?;
    let sandbox = options.sandbox.as_deref();
    Newcomer { client: &client, number: &number, sandbox, keep: options.keep }.sign_up().await?;
    Ok(())
}
