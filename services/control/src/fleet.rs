//! The processes of the fleet, as their beacons tell. Bounded, and forgets who is silent.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use spillway_api::FieldError;
use spillway_api::internal::v1 as wire;
use spillway_store::leases::HolderId;
use spillway_types::Timestamp;
use tokio::time::Instant;

use crate::codes::{Bounds, Codes};
use crate::role::{ROLES, Role};

/// The longest name of a host in DNS.
const NAME_BYTES_MAX: usize = 253;

/// What a process has said last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) roles: BTreeMap<Role, Load>,
    /// What codes it can send, if it sends any.
    pub(crate) codes: Option<Codes>,
    pub(crate) resident_bytes: u64,
    pub(crate) heard_at: Instant,
    /// How far its clock is ahead of this process's, less what the beacon was under way. The mailbox role's promises
    /// rest on clocks that agree within seconds, so an operator must be able to see them.
    pub(crate) clock_ahead_us: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Load {
    pub(crate) in_flight: u64,
    pub(crate) queued: u64,
    pub(crate) refused: u64,
    pub(crate) capacity_seats: u64,
}

/// All processes of a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Total {
    pub(crate) processes: u32,
    pub(crate) demand: u64,
    pub(crate) capacity_seats: u64,
}

pub(crate) type Totals = BTreeMap<Role, Total>;

/// A beacon that cannot be counted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BeaconError {
    #[error("a load beacon cannot be read")]
    Malformed(#[from] FieldError),
    #[error("there are more processes than are counted")]
    Full,
}

#[derive(Debug)]
pub(crate) struct Fleet {
    processes: Mutex<HashMap<HolderId, Process>>,
    processes_max: usize,
    silence: Duration,
}

impl Load {
    /// Refused calls count, so that shedding load does not look like having none.
    pub(crate) const fn demand(&self) -> u64 {
        self.in_flight.saturating_add(self.queued).saturating_add(self.refused)
    }
}

impl Fleet {
    pub(crate) fn new(processes_max: usize, silence: Duration) -> Self {
        Self { processes: Mutex::default(), processes_max, silence }
    }

    /// `now` by both clocks of this process.
    pub(crate) fn heard(
        &self,
        beacon: wire::LoadBeacon,
        now: Instant,
        wall: Timestamp,
    ) -> Result<(), BeaconError> {
        let id = process_id(&beacon.process_id)?;
        if beacon.name.len() > NAME_BYTES_MAX {
            return Err(FieldError::new("name", format!("is longer than {NAME_BYTES_MAX} bytes")).into());
        }
        let clock_ahead_us = i128::from(beacon.sent_at_us) - i128::from(wall.as_micros());
        let process = Process {
            roles: beacon.roles.iter().filter_map(load).collect(),
            codes: beacon.verification.map(Codes::try_from).transpose()?,
            name: beacon.name,
            resident_bytes: beacon.resident_bytes,
            heard_at: now,
            clock_ahead_us: i64::try_from(clock_ahead_us)
                .map_err(|_| FieldError::new("sent_at_us", "is not a time"))?,
        };
        let full = self.with(now, |processes| {
            let full = processes.len() >= self.processes_max && !processes.contains_key(&id);
            if !full {
                processes.insert(id, process);
            }
            full
        });
        if full { Err(BeaconError::Full) } else { Ok(()) }
    }

    /// Every role, also those without a process.
    pub(crate) fn totals(&self, now: Instant) -> Totals {
        let mut totals: Totals = ROLES.map(|role| (role, Total::default())).into();
        self.with(now, |processes| {
            for (role, load) in processes.values().flat_map(|process| &process.roles) {
                let total = totals.entry(*role).or_default();
                total.processes += 1;
                total.demand = total.demand.saturating_add(load.demand());
                total.capacity_seats = total.capacity_seats.saturating_add(load.capacity_seats);
            }
        });
        totals
    }

    /// What the codes that can be sent allow, and where codes go that nobody types, as those say who can be heard.
    pub(crate) fn codes(&self, now: Instant) -> (Bounds, Vec<wire::PlaceCount>) {
        let all = self.with(now, |processes| {
            let parts = processes.values().filter_map(|process| process.codes.as_ref());
            parts.fold(None, |all: Option<Codes>, part| {
                let mut all = all.unwrap_or_default();
                all.add(part);
                Some(all)
            })
        });
        all.map_or((Bounds::UNKNOWN, Vec::new()), |codes| (codes.bounds(), codes.places()))
    }

    /// By name, and by id where names are the same.
    pub(crate) fn processes(&self, now: Instant) -> Vec<(HolderId, Process)> {
        let mut processes: Vec<_> = self
            .with(now, |processes| processes.iter().map(|(id, process)| (*id, process.clone())).collect());
        processes.sort_by(|(id, process), (other_id, other)| {
            (&process.name, id.0).cmp(&(&other.name, other_id.0))
        });
        processes
    }

    pub(crate) fn name(&self, id: HolderId, now: Instant) -> Option<String> {
        self.with(now, |processes| processes.get(&id).map(|process| process.name.clone()))
    }

    /// With the silent ones gone.
    fn with<T>(&self, now: Instant, look: impl FnOnce(&mut HashMap<HolderId, Process>) -> T) -> T {
        // Nothing under this lock leaves the map half changed.
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.retain(|_, process| now.saturating_duration_since(process.heard_at) < self.silence);
        look(&mut processes)
    }
}

pub(crate) fn process_id(bytes: &[u8]) -> Result<HolderId, FieldError> {
    let bytes = bytes.try_into();
    bytes.map(HolderId).map_err(|_| FieldError::new("process_id", "must have 16 bytes"))
}

fn load(role: &wire::RoleLoad) -> Option<(Role, Load)> {
    let load = Load {
        in_flight: role.in_flight,
        queued: role.queued,
        refused: role.refused,
        capacity_seats: role.capacity_seats,
    };
    Role::from_wire(role.role()).map(|role| (role, load))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::beacon;

    const SILENCE: Duration = Duration::from_secs(5);
    const WALL: Timestamp = Timestamp::from_millis(1_610_722_800_000);

    fn total(processes: u32, demand: u64, capacity_seats: u64) -> Total {
        Total { processes, demand, capacity_seats }
    }

    #[test]
    fn roles_are_added_up_and_refused_calls_are_demand() {
        let (fleet, now) = (Fleet::new(10, SILENCE), Instant::now());
        let both = [wire::Role::Gateway, wire::Role::Mailbox];
        fleet.heard(beacon(1, "a", &both, [1, 2, 3, 10]), now, WALL).unwrap();
        fleet.heard(beacon(2, "b", &both[..1], [4, 0, 0, 10]), now, WALL).unwrap();
        // The newest counts, not all.
        fleet.heard(beacon(2, "b", &both[..1], [5, 0, 0, 10]), now, WALL).unwrap();
        let totals = fleet.totals(now);
        assert_eq!(totals[&Role::Gateway], total(2, 11, 20));
        assert_eq!(totals[&Role::Mailbox], total(1, 6, 10));
        assert_eq!(totals[&Role::Directory], Total::default());
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let (fleet, start) = (Fleet::new(10, SILENCE), Instant::now());
        let later = start + Duration::from_secs(1);
        fleet.heard(beacon(1, "a", &[wire::Role::Gateway], [1; 4]), start, WALL).unwrap();
        fleet.heard(beacon(2, "b", &[wire::Role::Gateway], [1; 4]), later, WALL).unwrap();
        let names = |now| fleet.processes(now).into_iter().map(|(_, process)| process.name).collect();
        let almost: Vec<_> = names(start + SILENCE - Duration::from_micros(1));
        assert_eq!(almost, ["a", "b"]);
        let after: Vec<_> = names(start + SILENCE);
        assert_eq!(after, ["b"]);
        assert_eq!(fleet.totals(start + SILENCE)[&Role::Gateway].processes, 1);
    }

    #[test]
    fn the_table_is_bounded_and_silence_makes_room() {
        let (fleet, start) = (Fleet::new(2, SILENCE), Instant::now());
        let heard = |id, now| fleet.heard(beacon(id, "p", &[wire::Role::Gateway], [1; 4]), now, WALL);
        assert_eq!(
            [heard(1, start), heard(2, start), heard(3, start)],
            [Ok(()), Ok(()), Err(BeaconError::Full)]
        );
        let later = start + Duration::from_secs(4);
        assert_eq!(heard(1, later), Ok(()), "a known one is not turned away");
        assert_eq!(heard(3, start + SILENCE), Ok(()), "2 has been silent");
    }

    #[test]
    fn what_cannot_be_right_is_refused_and_what_is_newer_is_left_out() {
        let (fleet, now) = (Fleet::new(10, SILENCE), Instant::now());
        let good = beacon(1, "a", &[wire::Role::Gateway], [u64::MAX; 4]);
        let short = wire::LoadBeacon { process_id: vec![1; 15].into(), ..good.clone() };
        let long = wire::LoadBeacon { name: "n".repeat(NAME_BYTES_MAX + 1), ..good.clone() };
        for bad in [short, long] {
            assert!(matches!(fleet.heard(bad, now, WALL), Err(BeaconError::Malformed(_))));
        }
        let mut newer = good;
        newer.roles.push(wire::RoleLoad { role: 99, ..wire::RoleLoad::default() });
        fleet.heard(newer, now, WALL).unwrap();
        assert_eq!(fleet.totals(now)[&Role::Gateway], total(1, u64::MAX, u64::MAX));
    }

    #[test]
    fn a_wrong_clock_shows() {
        let (fleet, now) = (Fleet::new(10, SILENCE), Instant::now());
        let sent_at_us = WALL.saturating_sub(Duration::from_secs(3)).as_micros();
        fleet.heard(wire::LoadBeacon { sent_at_us, ..beacon(1, "a", &[], [0; 4]) }, now, WALL).unwrap();
        assert_eq!(fleet.processes(now)[0].1.clock_ahead_us, -3_000_000);
    }
}
