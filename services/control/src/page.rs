//! What control knows, for people and scripts.

use std::collections::BTreeMap;

use serde::Serialize;
use spillway_store::leases::HolderId;
use tokio::time::Instant;

use crate::fleet::{Load, Totals};
use crate::grpc::age_ms;
use crate::lease::NOBODY;
use crate::role::Role;
use crate::{Control, Shared};

#[derive(Serialize)]
struct Page {
    /// Whether this process may act now.
    acting: bool,
    /// As last seen in the store; none before the first answer, and while nobody holds it.
    lease: Option<LeaseView>,
    roles: Totals,
    processes: Vec<ProcessView>,
}

#[derive(Serialize)]
struct LeaseView {
    holder: String,
    /// None while no beacon of the holder has been heard.
    name: Option<String>,
    token: u64,
}

#[derive(Serialize)]
struct ProcessView {
    id: String,
    name: String,
    beacon_age_ms: u64,
    clock_ahead_us: i64,
    resident_bytes: u64,
    roles: BTreeMap<Role, Load>,
}

/// What a role has to do, for people and as autoscalers are told it.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleDemand {
    pub role: &'static str,
    pub processes: u32,
    /// Not heard any more, and they did not say that they leave.
    pub silent: u32,
    /// In seats.
    pub demand: u64,
    pub capacity: u64,
    /// Demand over capacity, or why it is not known.
    pub ratio: Result<f64, String>,
}

impl Control {
    /// Every role that has a process, or had one lately.
    pub fn demand(&self) -> Vec<RoleDemand> {
        let (now, shared) = (Instant::now(), &self.shared);
        let totals = shared.fleet.totals(now).into_iter();
        let known = totals.filter(|(_, total)| total.processes + total.silent > 0);
        let demand = known.map(|(role, total)| RoleDemand {
            role: role.label(),
            processes: total.processes,
            silent: total.silent,
            demand: total.demand,
            capacity: total.capacity_seats,
            ratio: match shared.demand_of(&total, now) {
                Ok(demand) => Ok(demand.ratio),
                Err(unknown) => Err(unknown.to_string()),
            },
        });
        demand.collect()
    }

    /// Whether this process may act for the fleet now.
    pub fn is_acting(&self) -> bool {
        self.shared.guard.tenure(Instant::now()).is_some()
    }

    /// The page as JSON: who holds the lease, the fleet by role, and its processes.
    pub fn page(&self) -> String {
        let page = self.shared.view(Instant::now());
        serde_json::to_string_pretty(&page).expect("numbers, text and maps with text keys become JSON")
    }
}

impl Shared {
    fn view(&self, now: Instant) -> Page {
        let lease = self.guard.seen().filter(|lease| lease.holder != NOBODY);
        let processes = self.fleet.processes(now).into_iter().map(|(id, process)| ProcessView {
            id: hex(id),
            name: process.name,
            beacon_age_ms: age_ms(now.saturating_duration_since(process.heard_at)),
            clock_ahead_us: process.clock_ahead_us,
            resident_bytes: process.resident_bytes,
            roles: process.roles,
        });
        Page {
            acting: self.guard.tenure(now).is_some(),
            lease: lease.map(|lease| LeaseView {
                holder: hex(lease.holder),
                name: self.fleet.name(lease.holder, now),
                token: lease.token.0,
            }),
            roles: self.fleet.totals(now),
            processes: processes.collect(),
        }
    }
}

fn hex(id: HolderId) -> String {
    format!("{:032x}", u128::from_be_bytes(id.0))
}
