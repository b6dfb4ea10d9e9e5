//! `spillway ladder`: the brownout ladder of processes that run.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::admin::{Ports, tell_all};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Hold it at a rung: 0 normal, 1 presence and typing off, 3 no new sign-ups, 4 only acks, resumes and sends, 5 read-only
    Set {
        #[arg(value_parser = clap::value_parser!(u8).range(0..=i64::from(spillway_admission::RUNG_MAX)))]
        rung: u8,
        #[command(flatten)]
        gateways: Ports,
    },
    /// Let it move by itself again
    Auto {
        #[command(flatten)]
        gateways: Ports,
    },
    /// Say where it stands
    Show {
        #[command(flatten)]
        gateways: Ports,
    },
}

pub(super) async fn run(action: Action, admin_of_settings: String) -> Result<ExitCode> {
    let (order, gateways) = match action {
        Action::Set { rung, gateways } => (Some(rung.to_string()), gateways),
        Action::Auto { gateways } => (Some("auto".to_owned()), gateways),
        Action::Show { gateways } => (None, gateways),
    };
    tell_all(gateways, admin_of_settings, "/ladder", order, "gateways").await
}
