//! The numbers of one second, as JSON. Field names are the page's contract with this file; rates are per second.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use spillway_admission::{Source, Steering, Tier, TierTotals};
use spillway_api::internal::v1::RoleTotal;
use spillway_chassis::HealthReport;
use spillway_control::RoleDemand;
use spillway_gateway::RoomView;
use tokio::time::Instant;

use super::Inner;
use crate::overload::HopView;

/// What was counted up to the second before.
#[derive(Default)]
pub(super) struct Rates {
    at: Option<Instant>,
    before: BTreeMap<(&'static str, &'static str), TierTotals>,
}

#[derive(Serialize)]
struct Snapshot<'a> {
    name: &'a str,
    version: &'static str,
    roles: &'a str,
    uptime_s: u64,
    health: HealthReport,
    /// The gateway's; none without one.
    ladder: Option<Ladder>,
    sessions: Option<i64>,
    room: Option<RoomJson>,
    /// What an operator has ordered, where control runs.
    room_order: Option<String>,
    hops: Vec<Hop>,
    demand: Vec<DemandJson>,
    /// Whether this control process acts for the fleet; none without the role.
    acting: Option<bool>,
}

#[derive(Serialize)]
struct Ladder {
    rung: u8,
    held: bool,
}

#[derive(Serialize)]
struct RoomJson {
    mode: &'static str,
    issued: u64,
    frontier: u64,
    waiting: f64,
    per_second: Option<f64>,
    bounded_by: &'static str,
    low_s: Option<f64>,
    high_s: Option<f64>,
    silence_s: f64,
}

#[derive(Serialize)]
struct Hop {
    name: &'static str,
    mode: String,
    overloaded: bool,
    refusing: f64,
    offered: f64,
    capacity: Option<f64>,
    limit: u32,
    in_flight: u32,
    queued: usize,
    pressures: BTreeMap<&'static str, f64>,
    classes: Vec<Class>,
}

#[derive(Serialize)]
struct Class {
    name: &'static str,
    offered: f64,
    served: f64,
    refused: f64,
    /// Mean of those that got a seat in this second; none if nobody did.
    wait_ms: Option<f64>,
    open: f64,
    users_refused: f64,
}

#[derive(Serialize)]
struct DemandJson {
    role: &'static str,
    processes: u32,
    silent: u32,
    demand: u64,
    capacity: u64,
    ratio: Option<f64>,
    why: Option<String>,
}

pub(super) fn json(status: &Inner, rates: &mut Rates, now: Instant) -> Arc<str> {
    let gateway = status.gateway.get();
    let seconds = rates.at.replace(now).map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
    let mut hops = Vec::new();
    let mut ladder = None;
    for shown in status.overload.views() {
        if shown.name == "gateway" {
            let held = matches!(shown.view.steering, Steering::Set(_));
            ladder = Some(Ladder { rung: shown.view.rung, held });
        }
        hops.push(hop(&shown, rates, seconds));
    }
    let demand = match (status.control(), gateway) {
        (Some(control), _) => control.demand().into_iter().map(DemandJson::from).collect(),
        (None, Some(gateway)) => gateway.fleet().iter().filter_map(told).collect(),
        (None, None) => Vec::new(),
    };
    let snapshot = Snapshot {
        name: &status.name,
        version: env!("CARGO_PKG_VERSION"),
        roles: &status.roles,
        uptime_s: now.saturating_duration_since(status.started).as_secs(),
        health: status.health.report(),
        ladder,
        sessions: gateway.map(|gateway| gateway.sessions()),
        room: gateway.and_then(|gateway| gateway.room()).map(RoomJson::from),
        room_order: status.control().map(|control| control.room_text()),
        hops,
        demand,
        acting: status.control().map(|control| control.is_acting()),
    };
    serde_json::to_string(&snapshot).expect("numbers, text and maps with text keys become JSON").into()
}

fn hop(HopView { name, view, totals }: &HopView, rates: &mut Rates, seconds: f64) -> Hop {
    let counted = Tier::ALL.iter().zip(totals).filter(|(tier, _)| **tier != Tier::Exempt);
    let classes = counted.map(|(tier, total)| {
        let before = rates.before.insert((name, tier.name()), *total).unwrap_or(*total);
        let per_second = |now: u64, before: u64| {
            if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 }
        };
        let waited = total.waited.saturating_sub(before.waited);
        let waited_seconds = (total.waited_seconds - before.waited_seconds).max(0.0);
        Class {
            name: tier.name(),
            offered: per_second(total.offered_seats, before.offered_seats),
            served: per_second(total.served, before.served),
            refused: per_second(total.refused, before.refused),
            wait_ms: (waited > 0).then(|| waited_seconds * 1_000.0 / waited as f64),
            open: view.thresholds[*tier as usize].openness(*tier),
            users_refused: view.distinct[*tier as usize],
        }
    });
    Hop {
        name,
        mode: format!("{:?}", view.mode).to_lowercase(),
        overloaded: view.overloaded,
        refusing: view.rho,
        offered: view.offered,
        capacity: view.capacity,
        limit: view.limit,
        in_flight: view.inflight,
        queued: view.queued,
        pressures: Source::ALL.into_iter().map(Source::name).zip(view.pressures).collect(),
        classes: classes.collect(),
    }
}

impl From<RoomView> for RoomJson {
    fn from(view: RoomView) -> Self {
        // JSON has no infinity.
        let seconds = |duration: std::time::Duration| Some(duration.as_secs_f64());
        Self {
            mode: view.mode,
            issued: view.issued,
            frontier: view.frontier,
            waiting: view.waiting,
            per_second: view.per_second.filter(|rate| rate.is_finite()),
            bounded_by: view.bounded_by,
            low_s: view.estimate.and_then(|(low, _)| seconds(low)),
            high_s: view.estimate.and_then(|(_, high)| seconds(high)),
            silence_s: view.silence.as_secs_f64(),
        }
    }
}

impl From<RoleDemand> for DemandJson {
    fn from(demand: RoleDemand) -> Self {
        let RoleDemand { role, processes, silent, demand, capacity, ratio } = demand;
        let (ratio, why) = match ratio {
            Ok(ratio) => (Some(ratio), None),
            Err(why) => (None, Some(why)),
        };
        Self { role, processes, silent, demand, capacity, ratio, why }
    }
}

/// As control has told this gateway, which does not know who is silent.
fn told(total: &RoleTotal) -> Option<DemandJson> {
    use spillway_api::internal::v1::Role;
    let role = match total.role() {
        Role::Unspecified => return None,
        Role::Gateway => "gateway",
        Role::Registration => "registration",
        Role::Directory => "directory",
        Role::Mailbox => "mailbox",
        Role::Control => "control",
    };
    let ratio = (total.capacity_seats > 0).then(|| total.demand as f64 / total.capacity_seats as f64);
    let RoleTotal { processes, demand, capacity_seats: capacity, .. } = *total;
    Some(DemandJson { role, processes, silent: 0, demand, capacity, ratio, why: None })
}
