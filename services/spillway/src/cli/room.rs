//! `spillway room`: the waiting room of a fleet that runs.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use spillway_control::RoomOrder;

use super::admin::{Ports, tell_all};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Call nobody, until told otherwise
    Freeze {
        #[command(flatten)]
        controls: Ports,
    },
    /// Let everybody in at once
    Open {
        #[command(flatten)]
        controls: Ports,
    },
    /// Let in so many a second, whatever the limits say; existing users still go first
    Rate {
        #[arg(value_name = "PER_SECOND")]
        rate: f64,
        #[command(flatten)]
        controls: Ports,
    },
    /// Let the limits decide again
    Auto {
        #[command(flatten)]
        controls: Ports,
    },
    /// Say how it stands
    Show {
        #[command(flatten)]
        controls: Ports,
    },
}

/// An order goes to every process of the role, because any of them may hold the lease next.
pub(super) async fn run(action: Action, admin_of_settings: String) -> Result<ExitCode> {
    let (order, controls) = match action {
        Action::Freeze { controls } => (Some(RoomOrder::Freeze), controls),
        Action::Open { controls } => (Some(RoomOrder::Open), controls),
        Action::Rate { rate, controls } => (Some(RoomOrder::rate(rate)?), controls),
        Action::Auto { controls } => (Some(RoomOrder::Auto), controls),
        Action::Show { controls } => (None, controls),
    };
    let order = order.map(|order| order.to_string());
    tell_all(controls, admin_of_settings, "/room", order, "control processes").await
}
