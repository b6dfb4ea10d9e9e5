//! `spillway ladder`: the brownout ladder of processes that run.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use spillway_admission::Steering;

/// An admin port answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Hold it at a rung: 0 normal, 1 presence and typing off, 3 no new sign-ups, 4 only acks, resumes and sends, 5 read-only
    Set {
        #[arg(value_parser = clap::value_parser!(u8).range(0..=i64::from(spillway_admission::RUNG_MAX)))]
        rung: u8,
        #[command(flatten)]
        gateways: Gateways,
    },
    /// Let it move by itself again
    Auto {
        #[command(flatten)]
        gateways: Gateways,
    },
    /// Say where it stands
    Show {
        #[command(flatten)]
        gateways: Gateways,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Gateways {
    /// Admin port of a gateway; once for each gateway of a fleet. Without it, that of the settings
    #[arg(long = "admin", value_name = "HOST:PORT")]
    admin: Vec<String>,
}

pub(super) async fn run(action: Action, admin_of_settings: String) -> Result<ExitCode> {
    let (order, gateways) = match action {
        Action::Set { rung, gateways } => (Some(Steering::Set(rung)), gateways),
        Action::Auto { gateways } => (Some(Steering::Auto), gateways),
        Action::Show { gateways } => (None, gateways),
    };
    // The client wants to know with what it would encrypt, although it never does here.
    rustls::crypto::ring::default_provider().install_default().ok();
    let addresses = if gateways.admin.is_empty() { vec![admin_of_settings] } else { gateways.admin };
    let mut failed = 0;
    for address in &addresses {
        match tell(address, order).await {
            Ok(answer) => println!("{address}: {answer}"),
            Err(error) => {
                failed += 1;
                eprintln!("{address}: {error:#}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} gateways could not be asked or told", addresses.len());
    }
    Ok(ExitCode::SUCCESS)
}

async fn tell(address: &str, order: Option<Steering>) -> Result<String> {
    let url = format!("http://{address}/ladder");
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
    let request = match order {
        Some(Steering::Auto) => client.put(url).body("auto"),
        Some(Steering::Set(rung)) => client.put(url).body(rung.to_string()),
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
