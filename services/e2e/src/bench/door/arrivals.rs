//! Twenty thousand people who come to two gateways within twenty seconds. One of the gateways is killed meanwhile.
//!
//! Everything but the rate A is seen at the devices: when they asked, what they were told, when their turn came. Nobody has to compute
//! for his place, because this process would have to do it for all of them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use spillway_client::{Client, ClientConfig, DeviceSecret, Place, Standing};
use spillway_fleet::{Fleet, FleetSpec, Role};
use surge::admin::Admin;
use surge::room::{Room, RoomFigures};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use crate::bench::Options;
use crate::bench::table::{Row, Target};

const PEOPLE: u64 = 20_000;
const COME_WITHIN: Duration = Duration::from_secs(20);
const KILLED_AFTER: Duration = Duration::from_secs(8);
/// Sign-ups a second that are let in, so that the last one waits for some two minutes.
const RATE: f64 = 150.0;
/// One in eight takes a place and never comes back for it.
const LEAVES: u64 = 8;
const CONNECTIONS: usize = 16;
/// After an error that was not mended by repeating the call.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Ten times what 87 % of them take at that rate would be too much of a wait for a result.
const EVERYBODY_IN_WITHIN: Duration = Duration::from_secs(300);

/// What all devices share.
struct Crowd {
    clients: Vec<Client>,
    room: Arc<Room>,
    /// When a place was asked for, and its number.
    places: Mutex<Vec<(Duration, u64)>>,
    started: Instant,
}

pub(crate) async fn rows(options: &Options, back_ends: &Path) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut spec = FleetSpec::each(&options.server, back_ends, 1, 1, 1);
    spec.gateways = 2;
    spec.settings = toml::from_str(&format!(
        "telemetry.level = 'warn'\n[gateway.room]\nproof_of_work = false\n[control.room]\nsign_ups_per_second = {RATE:.1}"
    ))?;
    let mut fleet = Fleet::start(spec, folder.path()).await.context("the fleet does not start")?;
    let addresses: Vec<_> = fleet.public_addresses().iter().map(|at| format!("http://{at}")).collect();
    let admin: Vec<_> = fleet.of_role(Role::Control).filter_map(|node| node.endpoint("admin")).collect();
    let admin =
        Admin::new(admin.iter().map(ToString::to_string).collect::<Vec<_>>().iter().map(String::as_str))?;

    let started = Instant::now();
    let crowd = Arc::new(Crowd {
        clients: connect(&addresses).await?,
        room: Room::new(started),
        places: Mutex::default(),
        started,
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(admin.clone().watch());
    let mut people = JoinSet::new();
    for n in 0..PEOPLE {
        people.spawn(Arc::clone(&crowd).person(n));
    }
    sleep_until(started + KILLED_AFTER).await;
    let gateway = fleet.of_role(Role::Gateway).nth(1).context("there are two gateways")?;
    gateway.kill().await?;
    eprintln!("killed {}", gateway.name());
    let seats = timeout(EVERYBODY_IN_WITHIN, seats_until_all_are_in(&admin, &mut people)).await;
    let seats = seats.context("not everybody was let in in time")??;
    fleet.shutdown().await?;

    let figures = RoomFigures::of(&crowd.room.ended(), &seats);
    eprintln!("{figures:#?}");
    ensure!(figures.failed == 0 && figures.places_lost == 0, "somebody lost his place");
    let known = |value: Option<f64>, what| value.with_context(|| format!("{what} is not known"));
    let estimates = &figures.estimates;
    Ok(vec![
        Row::value(
            "arrivals: overtaking, a gateway killed",
            figures.overtaking_ms / 1e3,
            "s",
            Target::AtMost(2.0),
        ),
        Row::value("arrivals: kendall tau of arrival and order", crowd.tau(), "", Target::AtLeast(0.999)),
        Row::value(
            "arrivals: estimate error",
            known(estimates.mape_ratio, "the error")?,
            "",
            Target::AtMost(0.15),
        ),
        Row::value(
            "arrivals: waits inside the range",
            known(estimates.inside_ratio, "the share")?,
            "",
            Target::AtLeast(0.75),
        ),
        Row::value(
            "arrivals: seats used",
            known(figures.seats_used_ratio, "the use")?,
            "",
            Target::AtLeast(0.97),
        ),
        Row::value(
            "arrivals: over-admission",
            known(figures.over_admission_ratio, "it")?,
            "",
            Target::AtMost(0.01),
        ),
    ])
}

/// What control means to let in each second, until everybody is in.
async fn seats_until_all_are_in(admin: &Admin, people: &mut JoinSet<()>) -> Result<Vec<Option<f64>>> {
    let mut seats = vec![None; KILLED_AFTER.as_secs() as usize];
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        while let Some(ended) = people.try_join_next() {
            ended?;
        }
        if people.is_empty() {
            return Ok(seats);
        }
        let seen = admin.seen();
        seats.push(seen.filter(|seen| !seen.frozen).and_then(|seen| seen.rate_per_s));
    }
}

/// Half of them to each gateway, and to the other when theirs is gone.
async fn connect(addresses: &[String]) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for n in 0..CONNECTIONS {
        let mut addresses = addresses.to_vec();
        let first = n % addresses.len().max(1);
        addresses.rotate_left(first);
        clients.push(Client::connect(&addresses.join(","), ClientConfig::default()).await?);
    }
    Ok(clients)
}

impl Crowd {
    async fn person(self: Arc<Self>, n: u64) {
        sleep_until(self.started + COME_WITHIN.mul_f64(n as f64 / PEOPLE as f64)).await;
        let client = &self.clients[n as usize % self.clients.len()];
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        let secret = DeviceSecret::from_bytes(&bytes);
        let asked = self.started.elapsed();
        let stays = !n.is_multiple_of(LEAVES);
        let mut visit = stays.then(|| self.room.visit());
        let mut place: Option<Place> = None;
        loop {
            let standing = match &mut place {
                Some(place) => client.poll(&secret, place).await,
                None => client.enter(&secret).await.map(|(taken, standing)| {
                    self.note(asked, &taken);
                    place = Some(taken);
                    standing
                }),
            };
            let Ok(standing) = standing else {
                sleep(AGAIN_AFTER).await;
                continue;
            };
            // Who leaves has taken his place.
            let Some(visitor) = &mut visit else { return };
            visitor.has_place();
            match standing {
                Standing::Waiting(wait) => {
                    if let Some(range) = wait.range {
                        visitor.told(range);
                    }
                    sleep(wait.poll_after).await;
                }
                Standing::Admitted(admission) => {
                    visit.take().expect("looked at above").admitted(admission.turn_came());
                    return;
                }
                Standing::Over => {
                    visitor.lost_place();
                    place = None;
                }
            }
        }
    }

    fn note(&self, asked: Duration, place: &Place) {
        // The ticket's layout is in `waiting_room/src/ticket.rs`.
        let number =
            place.ticket().get(4..12).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.extend(number.map(|number| (asked, number)));
    }

    /// Kendall's, of when people asked and the numbers that they got.
    fn tau(&self) -> f64 {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner).clone();
        places.sort_unstable_by_key(|(_, number)| *number);
        spillway_simulator::room::kendall_tau(places.into_iter().map(|(asked, _)| asked).collect())
    }
}
