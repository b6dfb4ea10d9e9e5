//! Tells the fleet once a second what this process has to do.
//!
//! Where calls arrive from elsewhere, the numbers are those of the controllers that admit them (`overload::demand`). A role that is called
//! from within its process only admits whatever comes: there the numbers are those of the metrics, and nothing is queued.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use prost::Message;
use spillway_api::internal::v1 as wire;
use spillway_bus::{Bus, Subject};
use spillway_chassis::Tasks;
use spillway_registration::{Capacity, Registration};
use spillway_rpc::{Chain, ServerMetrics};
use spillway_store::leases::HolderId;
use spillway_store::{WriteTotals, Writes, Written};
use spillway_types::Clock;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::Code;

use crate::config::Role;
use crate::memory;
use crate::overload::{Load, Overload};

const EVERY: Duration = Duration::from_secs(1);

/// The next one is due then, and a drain waits for the last one.
const PUBLISH_MAX: Duration = Duration::from_secs(1);

/// What a beacon may carry as a name.
const NAME_BYTES_MAX: usize = 253;

/// Who sends.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) process: HolderId,
    pub(crate) name: String,
}

/// Where the numbers come from.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) calls: ServerMetrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) overload: Overload,
    /// If it has the role.
    pub(crate) registration: Option<Registration>,
    /// Streams of devices, if it is a gateway.
    pub(crate) sessions: Option<IntGauge>,
    /// If it has a store.
    pub(crate) writes: Option<Writes>,
}

/// `roles` are the roles of this process, each with the number of calls that it is meant to serve at a time where nothing has measured it. Runs
/// until `tasks` is cancelled, and then says goodbye.
pub(crate) fn start(
    mut identity: Identity,
    roles: BTreeMap<Role, u64>,
    bus: Arc<dyn Bus>,
    sources: Sources,
    tasks: &Tasks,
) {
    identity.name.truncate(identity.name.floor_char_boundary(NAME_BYTES_MAX));
    let mut beacon =
        Beacon { identity, roles, sources, refused: BTreeMap::new(), written: Default::default() };
    let cancelled = tasks.cancelled();
    tasks.spawn("load beacon", async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(cancelled);
        loop {
            let leaving = tokio::select! {
                () = &mut cancelled => true,
                _ = ticks.tick() => false,
            };
            let told = wire::LoadBeacon { leaving, ..beacon.now() };
            let published = bus.publish(Subject::Load, told.encode_to_vec().into());
            match timeout(PUBLISH_MAX, published).await {
                Ok(Ok(())) => {}
                // The bus says itself that it is away, and once a second would be too often.
                Ok(Err(error)) => tracing::debug!(error = %Chain(&error), "load beacon not published"),
                Err(_elapsed) => tracing::debug!("load beacon not published in time"),
            }
            if leaving {
                return;
            }
        }
    });
}

struct Beacon {
    identity: Identity,
    roles: BTreeMap<Role, u64>,
    sources: Sources,
    /// By role, up to the last beacon.
    refused: BTreeMap<Role, u64>,
    /// As [`Beacon::written`] found them for the last beacon.
    written: [WriteTotals; 2],
}

impl Beacon {
    fn now(&mut self) -> wire::LoadBeacon {
        let calls = &self.sources.calls;
        let sessions = self.sources.sessions.as_ref();
        let sessions = sessions.map_or(0, |open| u64::try_from(open.get()).unwrap_or(0));
        let loads = self.roles.iter().map(|(&role, &capacity)| {
            let refused = refused(calls, role);
            let before = self.refused.insert(role, refused).unwrap_or(0);
            let load = self.sources.overload.load(role).unwrap_or_else(|| Load {
                in_flight: services(role).iter().map(|service| calls.in_flight(service)).sum(),
                queued: 0,
                refused: refused.saturating_sub(before),
                capacity,
            });
            wire::RoleLoad {
                role: wire_role(role).into(),
                in_flight: load.in_flight,
                queued: load.queued,
                refused: load.refused,
                capacity_seats: load.capacity,
                sessions: if role == Role::Gateway { sessions } else { 0 },
            }
        });
        let loads = loads.collect();
        let [identity_writes, mailbox_writes] = self.written();
        wire::LoadBeacon {
            process_id: self.identity.process.0.to_vec().into(),
            name: self.identity.name.clone(),
            roles: loads,
            resident_bytes: memory::resident_bytes(),
            sent_at_us: self.sources.clock.now().as_micros(),
            verification: self.sources.registration.as_ref().map(|role| verification(role.capacity())),
            leaving: false,
            identity_writes,
            mailbox_writes,
        }
    }

    /// Since it was asked last.
    fn written(&mut self) -> [Option<wire::StoreWrites>; 2] {
        let Some(writes) = &self.sources.writes else { return [None, None] };
        let now = [Written::Identity, Written::Mailbox].map(|of| writes.totals(of));
        let before = std::mem::replace(&mut self.written, now);
        std::array::from_fn(|of| Some(since(now[of], before[of])))
    }
}

fn since(now: WriteTotals, before: WriteTotals) -> wire::StoreWrites {
    wire::StoreWrites {
        finished: now.finished.saturating_sub(before.finished),
        failed: now.failed.saturating_sub(before.failed),
        seconds: now.took.saturating_sub(before.took).as_secs_f64(),
        under_way: now.under_way,
    }
}

fn verification(capacity: Capacity) -> wire::VerificationCapacity {
    let bound = |rate: f64| rate.is_finite().then_some(rate);
    let countries = capacity.countries.into_iter().map(|country| wire::CountryCapacity {
        country: country.country.into(),
        sign_ups: country.sign_ups,
        paid_per_second: bound(country.paid),
        shared_paid_per_second: bound(country.paid_shared),
    });
    let places = capacity.places.into_iter().map(|(place, count)| wire::PlaceCount {
        place: place.0,
        codes: count.codes,
        proofs: count.proofs,
        out: count.out,
    });
    wire::VerificationCapacity {
        codes_per_second: bound(capacity.providers),
        paid_per_second: bound(capacity.paid),
        shared_paid_per_second: bound(capacity.paid_shared),
        codes: capacity.codes,
        sign_ups: capacity.sign_ups,
        queued: capacity.queued as u64,
        aside: capacity.aside,
        countries: countries.collect(),
        places: places.collect(),
    }
}

/// Calls that were turned away and will come again. At the gateway, `RESOURCE_EXHAUSTED` is nearly always the quota of
/// a person: more gateways would not let more of those through.
fn refused(calls: &ServerMetrics, role: Role) -> u64 {
    let codes: &[Code] = match role {
        Role::Gateway => &[Code::Unavailable],
        _ => &[Code::Unavailable, Code::ResourceExhausted],
    };
    let of_service = |service| codes.iter().map(move |code| calls.ended_with(service, *code));
    services(role).iter().copied().flat_map(of_service).sum()
}

const fn services(role: Role) -> &'static [&'static str] {
    match role {
        Role::Gateway => &[
            "spillway.v1.SignUp",
            "spillway.v1.Devices",
            "spillway.v1.Account",
            "spillway.v1.Keys",
            "spillway.v1.Contacts",
            "spillway.v1.Messages",
        ],
        Role::Registration => &["spillway.internal.v1.Registration"],
        Role::Directory => &["spillway.internal.v1.Directory"],
        Role::Mailbox => &["spillway.internal.v1.Mailbox"],
        Role::Control => &["spillway.internal.v1.Control"],
    }
}

const fn wire_role(role: Role) -> wire::Role {
    match role {
        Role::Gateway => wire::Role::Gateway,
        Role::Registration => wire::Role::Registration,
        Role::Directory => wire::Role::Directory,
        Role::Mailbox => wire::Role::Mailbox,
        Role::Control => wire::Role::Control,
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use spillway_api::internal::v1::LookupRequest;
    use spillway_api::internal::v1::directory_client::DirectoryClient;
    use spillway_bus::{Event, LocalBus, Subscription};
    use spillway_rpc::{Server, ServerConfig};
    use spillway_types::TestClock;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::config::OverloadConfig;

    const BOUND: Duration = Duration::from_secs(10);

    /// A directory whose database is away.
    #[derive(Debug)]
    struct Away;

    #[tonic::async_trait]
    impl wire::directory_server::Directory for Away {
        async fn lookup(
            &self,
            _request: tonic::Request<LookupRequest>,
        ) -> Result<tonic::Response<wire::LookupResponse>, tonic::Status> {
            Err(tonic::Status::unavailable("away"))
        }
    }

    async fn next(beacons: &mut dyn Subscription) -> wire::LoadBeacon {
        let event = timeout(BOUND, beacons.next()).await.expect("a beacon comes");
        let Some(Event::Hint(hint)) = event else { panic!("expected a hint, got {event:?}") };
        wire::LoadBeacon::decode(hint).unwrap()
    }

    fn refused(beacon: &wire::LoadBeacon, role: wire::Role) -> u64 {
        beacon.roles.iter().find(|load| load.role() == role).unwrap().refused
    }

    #[test]
    fn each_write_is_told_once_and_what_waits_as_long_as_it_waits() {
        let totals = |finished, failed, millis, under_way| WriteTotals {
            finished,
            failed,
            took: Duration::from_millis(millis),
            under_way,
        };
        let told = since(totals(15, 3, 2_500, 7), totals(10, 3, 500, 40));
        let expected = wire::StoreWrites { finished: 5, failed: 0, seconds: 2.0, under_way: 7 };
        assert_eq!(told, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_tells_its_load_once_a_second() {
        let (bus, tasks, clock) = (Arc::new(LocalBus::new()), Tasks::new(), TestClock::default());
        let calls = ServerMetrics::new(&Registry::new());
        let server = Server::new(ServerConfig::default(), "directory", &calls)
            .add_service(wire::directory_server::DirectoryServer::new(Away));
        let mut directory = DirectoryClient::new(server.in_process());
        let mut beacons = bus.subscribe(Subject::Load).await.unwrap();
        let identity = Identity { process: HolderId([7; 16]), name: "é".repeat(NAME_BYTES_MAX) };
        let roles = BTreeMap::from([(Role::Directory, 10), (Role::Mailbox, 20)]);
        let overload = Overload::new(OverloadConfig::default(), &Registry::new());
        let clock_of = Arc::new(clock.clone());
        let sources =
            Sources { calls, clock: clock_of, overload, registration: None, sessions: None, writes: None };
        start(identity, roles, bus.clone(), sources, &tasks);

        let first = next(&mut *beacons).await;
        assert_eq!((&first.process_id[..], first.name.len()), (&[7; 16][..], NAME_BYTES_MAX - 1));
        assert_eq!(first.sent_at_us, clock.now().as_micros());
        let seats: Vec<_> = first.roles.iter().map(|load| (load.role(), load.capacity_seats)).collect();
        assert_eq!(seats, [(wire::Role::Directory, 10), (wire::Role::Mailbox, 20)]);
        assert_eq!(refused(&first, wire::Role::Directory), 0);

        for _ in 0..3 {
            directory.lookup(LookupRequest::default()).await.unwrap_err();
        }
        let start = Instant::now();
        let second = next(&mut *beacons).await;
        assert!(start.elapsed() > Duration::from_millis(900));
        assert_eq!(refused(&second, wire::Role::Directory), 3);
        assert_eq!(refused(&second, wire::Role::Mailbox), 0);
        let third = next(&mut *beacons).await;
        assert_eq!(refused(&third, wire::Role::Directory), 0, "each refusal is told once");
        assert!(!third.leaving);
        tasks.close_and_wait(BOUND).await.unwrap();
        assert!(next(&mut *beacons).await.leaving, "it says goodbye");
    }
}
