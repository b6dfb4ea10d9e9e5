//! The processes of the fleet, as their beacons tell. Bounded, and forgets who is silent.
//!
//! Who falls silent without having said that he leaves may be dead, or alive and unheard: counted apart for some minutes, so that
//! whoever decides by the number of processes knows how much of the fleet it does not hear.

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
use crate::store_room::StoreLoad;

/// The longest name of a host in DNS.
const NAME_BYTES_MAX: usize = 253;

/// So long a process that has fallen silent may still be alive. As long as Kubernetes looks back by default before it scales
/// down, so what was silent for longer is gone for everybody.
const MAY_BE_ALIVE: Duration = Duration::from_secs(300);

/// What a process has said last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) roles: BTreeMap<Role, Load>,
    /// What codes it can send, if it sends any.
    pub(crate) codes: Option<Codes>,
    /// How its writes fare, if it has a store.
    pub(crate) store: Option<StoreLoad>,
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
    pub(crate) sessions: u64,
}

/// All processes of a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Total {
    pub(crate) processes: u32,
    /// Of whom nothing is heard, and who did not say that they leave.
    pub(crate) silent: u32,
    pub(crate) demand: u64,
    pub(crate) capacity_seats: u64,
    pub(crate) sessions: u64,
}

/// How far the clocks of a role's processes are from this process's: the one that is furthest behind, and the one that is furthest ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) behind_us: i64,
    pub(crate) ahead_us: i64,
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
    table: Mutex<Table>,
    processes_max: usize,
    silence: Duration,
}

#[derive(Debug, Default)]
struct Table {
    processes: HashMap<HolderId, Process>,
    silent: HashMap<HolderId, Silent>,
    heard_at: Option<Instant>,
    /// Since when there was no time at which nobody was heard.
    listening_since: Option<Instant>,
}

/// A process of which nothing is heard any more.
#[derive(Debug)]
struct Silent {
    name: String,
    roles: Vec<Role>,
    since: Instant,
}

impl Load {
    /// Refused calls count, so that shedding load does not look like having none.
    pub(crate) const fn demand(&self) -> u64 {
        self.in_flight.saturating_add(self.queued).saturating_add(self.refused)
    }
}

impl Fleet {
    pub(crate) fn new(processes_max: usize, silence: Duration) -> Self {
        Self { table: Mutex::default(), processes_max, silence }
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
            store: StoreLoad::told(&beacon)?,
            codes: beacon.verification.map(Codes::try_from).transpose()?,
            name: beacon.name,
            resident_bytes: beacon.resident_bytes,
            heard_at: now,
            clock_ahead_us: i64::try_from(clock_ahead_us)
                .map_err(|_| FieldError::new("sent_at_us", "is not a time"))?,
        };
        let leaving = beacon.leaving;
        let full = self.with(now, |table| {
            table.listen(now, self.silence);
            table.silent.remove(&id);
            if leaving {
                table.processes.remove(&id);
                return false;
            }
            let known = table.processes.contains_key(&id);
            if !known {
                // Started again after a crash: the one before is not alive.
                table.silent.retain(|_, silent| silent.name != process.name);
            }
            let full = table.processes.len() >= self.processes_max && !known;
            if !full {
                table.processes.insert(id, process);
            }
            full
        });
        if full { Err(BeaconError::Full) } else { Ok(()) }
    }

    /// Every role, also those without a process.
    pub(crate) fn totals(&self, now: Instant) -> Totals {
        let mut totals: Totals = ROLES.map(|role| (role, Total::default())).into();
        self.with(now, |table| {
            for (role, load) in table.processes.values().flat_map(|process| &process.roles) {
                totals.entry(*role).or_default().add(load);
            }
            for role in table.silent.values().flat_map(|silent| &silent.roles) {
                totals.entry(*role).or_default().silent += 1;
            }
        });
        totals
    }

    /// Of roles with a process. Before the silent ones are forgotten they count as they were heard last.
    pub(crate) fn clocks(&self, now: Instant) -> BTreeMap<Role, Clocks> {
        let mut clocks = BTreeMap::<Role, Clocks>::new();
        self.with(now, |table| {
            for process in table.processes.values() {
                let us = process.clock_ahead_us;
                for role in process.roles.keys() {
                    let clock = clocks.entry(*role).or_insert(Clocks { behind_us: us, ahead_us: us });
                    clock.behind_us = clock.behind_us.min(us);
                    clock.ahead_us = clock.ahead_us.max(us);
                }
            }
        });
        clocks
    }

    /// One role, of those processes whose names `counts` takes.
    pub(crate) fn total(&self, role: Role, counts: impl Fn(&str) -> bool, now: Instant) -> Total {
        let mut total = Total::default();
        self.with(now, |table| {
            let heard = table.processes.values().filter(|process| counts(&process.name));
            heard.filter_map(|process| process.roles.get(&role)).for_each(|load| total.add(load));
            let silent = table.silent.values().filter(|silent| counts(&silent.name));
            total.silent = silent.filter(|silent| silent.roles.contains(&role)).count() as u32;
        });
        total
    }

    /// For how long processes have been heard without a pause in which nobody was: after a start, or while the bus was away, that
    /// somebody is not heard says nothing yet.
    pub(crate) fn listening(&self, now: Instant) -> Option<Duration> {
        self.with(now, |table| {
            let since = table.listening_since.filter(|_| !table.processes.is_empty())?;
            Some(now.saturating_duration_since(since))
        })
    }

    /// What the codes that can be sent allow, and where codes go that nobody types, as those say who can be heard.
    pub(crate) fn codes(&self, now: Instant) -> (Bounds, Vec<wire::PlaceCount>) {
        let all = self.with(now, |table| {
            let parts = table.processes.values().filter_map(|process| process.codes.as_ref());
            parts.fold(None, |all: Option<Codes>, part| {
                let mut all = all.unwrap_or_default();
                all.add(part);
                Some(all)
            })
        });
        all.map_or((Bounds::UNKNOWN, Vec::new()), |codes| (codes.bounds(), codes.places()))
    }

    /// How writes to the store fare, as those say who can be heard and have one.
    pub(crate) fn store(&self, now: Instant) -> Option<StoreLoad> {
        self.with(now, |table| {
            let parts = table.processes.values().filter_map(|process| process.store);
            parts.reduce(|mut all, part| {
                all.add(&part);
                all
            })
        })
    }

    /// By name, and by id where names are the same.
    pub(crate) fn processes(&self, now: Instant) -> Vec<(HolderId, Process)> {
        let mut processes: Vec<_> = self
            .with(now, |table| table.processes.iter().map(|(id, process)| (*id, process.clone())).collect());
        processes.sort_by(|(id, process), (other_id, other)| {
            (&process.name, id.0).cmp(&(&other.name, other_id.0))
        });
        processes
    }

    pub(crate) fn name(&self, id: HolderId, now: Instant) -> Option<String> {
        self.with(now, |table| table.processes.get(&id).map(|process| process.name.clone()))
    }

    /// With the silent ones gone.
    fn with<T>(&self, now: Instant, look: impl FnOnce(&mut Table) -> T) -> T {
        // Nothing under this lock leaves the maps half changed.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.forget(now, self.silence, self.processes_max);
        look(&mut table)
    }
}

impl Table {
    fn forget(&mut self, now: Instant, silence: Duration, silent_max: usize) {
        let Self { processes, silent, .. } = self;
        silent.retain(|_, silent| now.saturating_duration_since(silent.since) < MAY_BE_ALIVE);
        processes.retain(|id, process| {
            let heard = now.saturating_duration_since(process.heard_at) < silence;
            if !heard && silent.len() < silent_max {
                let (name, roles) =
                    (std::mem::take(&mut process.name), process.roles.keys().copied().collect());
                silent.insert(*id, Silent { name, roles, since: process.heard_at });
            }
            heard
        });
    }

    fn listen(&mut self, now: Instant, silence: Duration) {
        let paused = self.heard_at.is_none_or(|at| now.saturating_duration_since(at) >= silence);
        if paused || self.listening_since.is_none() {
            self.listening_since = Some(now);
        }
        self.heard_at = Some(now);
    }
}

impl Total {
    fn add(&mut self, load: &Load) {
        self.processes += 1;
        self.demand = self.demand.saturating_add(load.demand());
        self.capacity_seats = self.capacity_seats.saturating_add(load.capacity_seats);
        self.sessions = self.sessions.saturating_add(load.sessions);
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
        sessions: role.sessions,
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
        Total { processes, demand, capacity_seats, ..Total::default() }
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
    fn who_falls_silent_may_be_alive_and_who_leaves_is_not() {
        let (fleet, start) = (Fleet::new(10, SILENCE), Instant::now());
        let gateway = [wire::Role::Gateway];
        let silent = |now| fleet.totals(now)[&Role::Gateway].silent;
        for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
            fleet.heard(beacon(id, name, &gateway, [1; 4]), start, WALL).unwrap();
        }
        let goodbye = wire::LoadBeacon { leaving: true, ..beacon(1, "a", &gateway, [1; 4]) };
        fleet.heard(goodbye, start, WALL).unwrap();
        let total = fleet.totals(start)[&Role::Gateway];
        assert_eq!((total.processes, total.silent), (2, 0));
        assert_eq!(silent(start + SILENCE), 2);
        assert_eq!(fleet.total(Role::Gateway, |name| name == "b", start + SILENCE).silent, 1);
        // One was started again, and one was only unheard.
        let later = start + SILENCE * 2;
        fleet.heard(beacon(9, "b", &gateway, [1; 4]), later, WALL).unwrap();
        assert_eq!(silent(later), 1);
        fleet.heard(beacon(3, "c", &gateway, [1; 4]), later, WALL).unwrap();
        assert_eq!(silent(later), 0);
        assert_eq!(silent(later + MAY_BE_ALIVE - Duration::from_micros(1)), 2);
        assert_eq!(silent(later + MAY_BE_ALIVE), 0);
    }

    #[test]
    fn after_a_pause_in_which_nobody_was_heard_listening_begins_anew() {
        let (fleet, start) = (Fleet::new(10, SILENCE), Instant::now());
        let hear = |now| fleet.heard(beacon(1, "a", &[wire::Role::Gateway], [1; 4]), now, WALL).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(fleet.listening(start), None);
        (0..10).for_each(|n| hear(start + second * n));
        assert_eq!(fleet.listening(start + second * 10), Some(second * 10));
        assert_eq!(fleet.listening(start + second * 15), None, "nobody is heard");
        hear(start + second * 20);
        assert_eq!(fleet.listening(start + second * 21), Some(second));
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
        assert_eq!(fleet.clocks(now), BTreeMap::new(), "it has no role");
        let told = |id, ahead: u64| {
            let sent_at_us = WALL.saturating_add(Duration::from_secs(ahead)).as_micros();
            wire::LoadBeacon { sent_at_us, ..beacon(id, "g", &[wire::Role::Gateway], [0; 4]) }
        };
        for (id, ahead) in [(2, 0), (3, 2), (4, 1)] {
            fleet.heard(told(id, ahead), now, WALL).unwrap();
        }
        let clocks = Clocks { behind_us: 0, ahead_us: 2_000_000 };
        assert_eq!(fleet.clocks(now), BTreeMap::from([(Role::Gateway, clocks)]));
    }
}
