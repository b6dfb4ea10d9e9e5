//! Asks and tells processes that run, over their admin ports.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// An admin port answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which processes.
#[derive(Debug, clap::Args)]
pub(super) struct Ports {
    /// Admin port of a process; once for each in a fleet. Without it, that of the settings
    #[arg(long = "admin", value_name = "HOST:PORT")]
    admin: Vec<String>,
}

/// Puts `order` at all of them, or gets what is there, and prints the answers. `what` they are is for the error.
pub(super) async fn tell_all(
    ports: Ports,
    of_settings: String,
    path: &str,
    order: Option<String>,
    what: &str,
) -> Result<ExitCode> {
    // The client wants to know with what it would encrypt, although it never does here.
    rustls::crypto::ring::default_provider().install_default().ok();
    let addresses = if ports.admin.is_empty() { vec![of_settings] } else { ports.admin };
    let mut failed = 0;
    for address in &addresses {
        match tell(address, path, order.clone()).await {
            Ok(answer) => println!("{address}: {answer}"),
            Err(error) => {
                failed += 1;
                eprintln!("{address}: {error:#}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} {what} could not be asked or told", addresses.len());
    }
    Ok(ExitCode::SUCCESS)
}

async fn tell(address: &str, path: &str, order: Option<String>) -> Result<String> {
    let url = format!("http://{address}{path}");
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
    let request = match order {
        Some(order) => client.put(url).body(order),
        None => client.get(url),
    };
    let answer = request
        .send()
        .await
        .context("its admin port does not answer; is it running, and is this its address?")?;
    let status = answer.status();
    let text = answer.text().await?.trim().to_owned();
    if !status.is_success() {
        bail!("it answered {status}: {text}");
    }
    Ok(text)
}
