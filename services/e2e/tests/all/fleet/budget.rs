//! Money for codes, in the store that two registration processes share.

use std::net::SocketAddr;
use std::time::Duration;

use spillway_api::v1;
use spillway_client::Client;
use spillway_fleet::Role;
use spillway_types::{Clock, PhoneNumber, SystemClock};
use tokio::time::{Instant, sleep};

use super::super::desk::population;
use super::super::support::{PATIENCE, connect, metric};
use super::site::{Running, Site, http};

/// Of one code, in millionths.
const COST: u64 = 50_000;
/// What is left of the day's amount pays for about so many.
const CODES: u64 = 90;
const DAY_US: u64 = 86_400_000_000;
/// Nothing more is sent when nothing has been for so long: money is given back, and borrowed, within it.
const STILL_FOR: Duration = Duration::from_secs(4);
/// The first of those who sign up, in the population.
const FIRST: u64 = 60_000;

struct Payers {
    fleet: Running,
    client: Client,
    admins: Vec<SocketAddr>,
    signed_up: u64,
}

impl Payers {
    /// Two registration processes, with `day` millionths to spend in a day of the calendar.
    async fn start(day: u64) -> Self {
        let site = Site::new("fleet-budget").await;
        let mut spec = site.spec();
        (spec.gateways, spec.registrations) = (1, 2);
        let paid = format!(
            "[[registration.providers]]\nname = \"paid\"\ncost = {{ default = {COST} }}\n[registration.budget]\nday = {day}\n"
        );
        spec.role_settings.insert(Role::Registration, toml::from_str(&paid).unwrap());
        let mut fleet = Running::start(site, spec).await;
        let admins = fleet.of_role(Role::Registration).filter_map(|node| node.endpoint("admin")).collect();
        let client = connect(&fleet.gateway(0)).await;
        Self { fleet, client, admins, signed_up: 0 }
    }

    /// Codes that a process has handed over.
    async fn sent(&self, process: usize) -> u64 {
        let admin = http(self.admins[process]);
        metric(&admin, "spillway_verification_codes_total", "outcome=\"accepted\"").await as u64
    }

    async fn sign_up(&mut self, people: u64) {
        for index in self.signed_up..self.signed_up + people {
            let number = PhoneNumber::parse(&population().person(FIRST + index).number).unwrap();
            self.client.start_verification(&number, v1::Transport::Sms).await.unwrap();
        }
        self.signed_up += people;
    }

    /// What each of these processes has sent, once they send no more.
    async fn at_rest(&self, processes: &[usize]) -> Vec<u64> {
        let (until, mut since) = (Instant::now() + PATIENCE, Instant::now());
        let mut before = Vec::new();
        loop {
            let mut sent = Vec::new();
            for process in processes {
                sent.push(self.sent(*process).await);
            }
            if sent != before {
                (before, since) = (sent, Instant::now());
            } else if since.elapsed() >= STILL_FOR {
                return before;
            }
            assert!(Instant::now() < until, "codes are sent without end: {before:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A register that nobody has written yet counts what has passed of the day as spent.
fn day_that_pays_for(codes: u64) -> u64 {
    let now = SystemClock.now().as_micros();
    let left_us = DAY_US - now % DAY_US;
    (u128::from(codes * COST) * u128::from(DAY_US) / u128::from(left_us)) as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_spend_what_there_is_and_a_death_costs_a_share() {
    // In the last minutes of a day little is left of it, and the next one brings as much again.
    while DAY_US - SystemClock.now().as_micros() % DAY_US < 150_000_000 {
        sleep(Duration::from_secs(1)).await;
    }
    let day = day_that_pays_for(CODES);
    let mut payers = Payers::start(day).await;
    payers.sign_up(CODES / 3).await;
    let before = payers.at_rest(&[0, 1]).await;
    assert_eq!(before.iter().sum::<u64>(), CODES / 3, "all are paid for: {before:?}");
    // Which of them has borrowed is not up to the test: whoever has sent has.
    let dies = usize::from(before[1] > before[0]);
    let name = {
        let node = payers.fleet.of_role(Role::Registration).nth(dies).expect("there are two");
        node.kill().await.unwrap();
        node.name().to_owned()
    };
    // Twice what is left.
    payers.sign_up(CODES * 4 / 3).await;
    let after = payers.at_rest(&[1 - dies]).await[0];
    let spent = before[dies] + after;
    let share = (day / 64).div_ceil(COST);
    println!(
        "{name} sent {}, the other one {after}: {spent} of {CODES}, a share pays for {share}",
        before[dies]
    );
    assert!(spent <= CODES, "{spent} codes were sent, and {CODES} were paid for");
    // A process keeps two shares at most; who is left needs a whole code's money for a code.
    assert!(spent + 2 * share + 1 >= CODES, "{} were lost with a process", CODES - spent);
}
