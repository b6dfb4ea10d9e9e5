use std::time::Duration;

use spillway_api::internal::v1::control_server;
use spillway_api::internal::v1::{
    FleetProcess, GetFleetRequest, GetFleetResponse, LeaseHolder, ReportRoomRequest, ReportRoomResponse,
    RoleLoad, RoleTotal,
};
use spillway_api::{Reason, Refusal};
use spillway_rpc::{ServiceError, into_status};
use spillway_store::leases::HolderId;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::Control;
use crate::fleet::{Process, Totals};
use crate::lease::NOBODY;
use crate::room::{NotTaken, Report, ReportError};

/// The most processes in a reply. With the longest names and all roles in each it stays below 512 KB.
const PROCESSES_MAX: usize = 500;

#[tonic::async_trait]
impl control_server::Control for Control {
    async fn get_fleet(
        &self,
        _request: Request<GetFleetRequest>,
    ) -> Result<Response<GetFleetResponse>, Status> {
        let (now, shared) = (Instant::now(), &self.shared);
        let lease = shared.guard.seen().filter(|lease| lease.holder != NOBODY);
        let holder = lease.map(|lease| LeaseHolder {
            process_id: lease.holder.0.to_vec().into(),
            name: shared.fleet.name(lease.holder, now).unwrap_or_default(),
            token: lease.token.0,
        });
        let processes = shared.fleet.processes(now).into_iter().take(PROCESSES_MAX);
        Ok(Response::new(GetFleetResponse {
            holder,
            roles: role_totals(&shared.fleet.totals(now)),
            processes: processes.map(|(id, process)| fleet_process(id, process, now)).collect(),
        }))
    }

    async fn report_room(
        &self,
        request: Request<ReportRoomRequest>,
    ) -> Result<Response<ReportRoomResponse>, Status> {
        let report = Report::try_from(request.into_inner())
            .map_err(|error| into_status(ReportRoomError::Report(error)))?;
        let now = Instant::now();
        let room = &self.shared.room;
        // A holder whose time is over lends nothing, though it may not have noticed.
        let acting = self.shared.guard.tenure(now).filter(|tenure| room.acting() == Some(tenure.token()));
        let taken = acting.ok_or(NotTaken::NotActing).and_then(|_| room.report(report, now));
        let lent = taken.map_err(|error| into_status(ReportRoomError::NotTaken(error)))?;
        Ok(Response::new(ReportRoomResponse { lent: lent.map(crate::room::lent) }))
    }
}

#[derive(Debug, thiserror::Error)]
enum ReportRoomError {
    #[error("the report is not valid")]
    Report(#[source] ReportError),
    #[error("the report is not taken here and now")]
    NotTaken(#[source] NotTaken),
}

impl ServiceError for ReportRoomError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Report(error) => Refusal::new(Reason::InvalidArgument, error.to_string()),
            Self::NotTaken(error) => Refusal::new(Reason::Unavailable, error.to_string()),
        }
    }
}

pub(crate) fn role_totals(totals: &Totals) -> Vec<RoleTotal> {
    let total = |(role, total): (&_, &crate::fleet::Total)| RoleTotal {
        role: spillway_api::internal::v1::Role::from(*role).into(),
        processes: total.processes,
        demand: total.demand,
        capacity_seats: total.capacity_seats,
        sessions: total.sessions,
    };
    totals.iter().map(total).collect()
}

fn fleet_process(id: HolderId, process: Process, now: Instant) -> FleetProcess {
    let roles = process.roles.iter().map(|(role, load)| RoleLoad {
        role: spillway_api::internal::v1::Role::from(*role).into(),
        in_flight: load.in_flight,
        queued: load.queued,
        refused: load.refused,
        capacity_seats: load.capacity_seats,
        sessions: load.sessions,
    });
    FleetProcess {
        process_id: id.0.to_vec().into(),
        roles: roles.collect(),
        name: process.name,
        resident_bytes: process.resident_bytes,
        beacon_age_ms: age_ms(now.saturating_duration_since(process.heard_at)),
        clock_ahead_us: process.clock_ahead_us,
    }
}

pub(crate) fn age_ms(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message;
    use spillway_api::internal::v1::control_client::ControlClient;
    use spillway_api::internal::v1::{LoadBeacon, Role};
    use spillway_bus::LocalBus;
    use spillway_rpc::{ServerMetrics, in_process};
    use spillway_store::embedded;
    use spillway_types::{SystemClock, Timestamp};
    use tonic::service::Routes;

    use super::*;
    use crate::testing::{Node, beacon, node};
    use crate::{Config, REPLY_BYTES_MAX};

    const ALL: [Role; 5] = [Role::Gateway, Role::Registration, Role::Directory, Role::Mailbox, Role::Control];

    fn hear(node: &Node, beacon: LoadBeacon) {
        let wall = Timestamp::from_micros(beacon.sent_at_us);
        node.control.shared.fleet.heard(beacon, Instant::now(), wall).unwrap();
    }

    async fn fleet(node: &Node) -> GetFleetResponse {
        let routes = Routes::new(node.control.clone().into_server());
        let channel = in_process(routes, &ServerMetrics::new(&node.registry));
        ControlClient::new(channel).get_fleet(GetFleetRequest {}).await.unwrap().into_inner()
    }

    #[tokio::test]
    async fn the_fleet_and_the_holder_are_shown_over_an_embedded_store() {
        let folder = tempfile::tempdir().unwrap();
        let store = embedded::Config { path: folder.path().to_owned(), ..embedded::Config::default() };
        let registry = prometheus::Registry::new();
        let (store, _handle) = embedded::open(&store, &registry, Arc::new(SystemClock)).unwrap();
        let node = node(7, Config::default(), store.leases, &Arc::new(LocalBus::new()));
        let bound = Instant::now() + Duration::from_secs(10);
        while node.control.shared.guard.tenure(Instant::now()).is_none() {
            assert!(Instant::now() < bound, "nobody holds the lease");
            tokio::task::yield_now().await;
        }
        hear(&node, beacon(8, "b", &[Role::Gateway], [1, 2, 3, 10]));
        hear(&node, beacon(7, "a", &[Role::Control], [0, 0, 0, 1]));

        let page: serde_json::Value = serde_json::from_str(&node.control.page()).unwrap();
        assert_eq!(page["acting"], true);
        assert_eq!(page["lease"]["name"], "a");
        assert_eq!(page["lease"]["holder"], "07".repeat(16));
        assert_eq!(page["roles"]["gateway"]["demand"], 6);
        assert_eq!(page["processes"][1]["roles"]["gateway"]["refused"], 3);

        let fleet = fleet(&node).await;
        let holder = fleet.holder.unwrap();
        assert_eq!((holder.name.as_str(), &holder.process_id[..], holder.token), ("a", &[7; 16][..], 1));
        let names: Vec<_> = fleet.processes.iter().map(|process| process.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(fleet.processes.iter().all(|process| process.beacon_age_ms < 5_000));
        assert_eq!(fleet.roles.iter().map(|total| total.processes).sum::<u32>(), 2);
    }

    #[tokio::test]
    async fn the_largest_reply_can_be_sent() {
        let leases = Arc::new(crate::testing::MemoryLeases::default());
        let node = node(7, Config::default(), leases, &Arc::new(LocalBus::new()));
        for number in 0..=PROCESSES_MAX as u128 {
            let process_id = number.to_be_bytes().to_vec().into();
            let large = beacon(0, &"n".repeat(253), &ALL, [u64::MAX; 4]);
            hear(&node, LoadBeacon { process_id, resident_bytes: u64::MAX, ..large });
        }
        let fleet = fleet(&node).await;
        assert_eq!(fleet.processes.len(), PROCESSES_MAX);
        assert_eq!(fleet.roles[0].processes as usize, PROCESSES_MAX + 1);
        assert!(fleet.encoded_len() < REPLY_BYTES_MAX);
    }
}
