//! What a run is judged by.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use spillway_waiting_room::CLAIM_WINDOW;

use super::world::{Person, World};

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// By how much somebody came later who got the lower number.
    pub overtaking: Duration,
    /// The same, with those who had to enter again.
    pub overtaking_by_kill: Duration,
    /// Kendall's, of arrival and order.
    pub tau: f64,
    /// Of the middle of what was told, for waits of a minute or more.
    pub mape: f64,
    /// Of the same waits, those that ended inside the range that was told, before it and after it.
    pub inside: f64,
    pub below: f64,
    pub above: f64,
    /// Ranges that were compared.
    pub told: usize,
    /// Of the seats that there were from when the first ones came until the room was empty, those that were taken.
    pub used: f64,
    /// By how much more were called, of those who came, than there were seats; the worst of all times, of the seats so far.
    pub over: f64,
    /// Claims in a minute, compared with its seats: the most, by the time of the claim.
    pub busiest_minute: f64,
    /// In the busiest second.
    pub polls_peak: f64,
    pub polls: u64,
    pub claims: usize,
    /// When the last place was called.
    pub empty_at: Duration,
    /// Claims after the window.
    pub late: usize,
    /// Estimates that were not raised as far as they had risen.
    pub cut: u32,
}

const LEAST_WAIT: f64 = 60.0;
/// The first called need time to hear of it.
const STARTED: Duration = Duration::from_secs(30);

impl Figures {
    pub fn of(world: &World) -> Self {
        let mut by_seq: Vec<&Person> = world.people.iter().filter(|person| person.seq > 0).collect();
        by_seq.sort_by_key(|person| person.seq);
        let first_try: Vec<&Person> = by_seq.iter().copied().filter(|person| !person.again).collect();
        let (mape, below, above, told) = estimates(world);
        let empty_at = called_at(world, by_seq.last().expect("people").seq);
        let (used, over) = seats(world, empty_at);
        Self {
            overtaking: overtaking(&first_try),
            overtaking_by_kill: overtaking(&by_seq),
            tau: tau(&by_seq),
            mape,
            inside: 1.0 - below - above,
            below,
            above,
            told,
            used,
            over,
            busiest_minute: busiest_minute(world, empty_at),
            polls_peak: world.polls.iter().copied().max().unwrap_or(0).into(),
            polls: world.polls.iter().map(|polls| u64::from(*polls)).sum(),
            claims: world.claims.len(),
            empty_at,
            late: world
                .claims
                .iter()
                .filter(|(at, seq)| at.saturating_sub(called_at(world, *seq)) > CLAIM_WINDOW)
                .count(),
            cut: world.rises_cut,
        }
    }
}

fn overtaking(by_seq: &[&Person]) -> Duration {
    let (mut latest, mut most) = (Duration::ZERO, Duration::ZERO);
    for person in by_seq {
        most = most.max(latest.saturating_sub(person.arrived));
        latest = latest.max(person.arrived);
    }
    most
}

fn tau(by_seq: &[&Person]) -> f64 {
    kendall_tau(by_seq.iter().map(|person| person.arrived).collect())
}

/// Kendall's tau of the order that they are in and the order of their times: 1 when these are the same, -1 when one is the other backwards.
pub fn kendall_tau(mut arrivals: Vec<Duration>) -> f64 {
    let pairs = arrivals.len() as f64 * (arrivals.len() as f64 - 1.0) / 2.0;
    1.0 - 2.0 * inversions(&mut arrivals) as f64 / pairs
}

fn inversions(values: &mut [Duration]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(values.len() / 2);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if r == right.len() || (l < left.len() && left[l] <= right[r]) {
            merged.push(left[l]);
            l += 1;
        } else {
            count += (left.len() - l) as u64;
            merged.push(right[r]);
            r += 1;
        }
    }
    values.copy_from_slice(&merged);
    count
}

/// Mean error, and the shares of waits that ended below and above the range.
fn estimates(world: &World) -> (f64, f64, f64, usize) {
    let (mut error, mut below, mut above, mut told) = (0.0, 0usize, 0usize, 0usize);
    for (index, range) in &world.told {
        let called = called_at(world, world.people[*index as usize].seq).as_secs_f64();
        let wait = called - f64::from(range.at);
        if wait < LEAST_WAIT {
            continue;
        }
        let (low, high) = (f64::from(range.low), f64::from(range.high));
        error += ((low + high) / 2.0 - wait).abs() / wait;
        below += usize::from(wait < low);
        above += usize::from(wait > high);
        told += 1;
    }
    let share = |count: usize| count as f64 / told as f64;
    (error / told as f64, share(below), share(above), told)
}

pub(super) fn called_at(world: &World, seq: u64) -> Duration {
    let at = world.frontier.partition_point(|(_, f)| *f < seq);
    world.frontier.get(at).or(world.frontier.last()).map_or(Duration::ZERO, |(at, _)| *at)
}

/// Seats that there were up to a time.
fn seats_until(world: &World, until: Duration) -> f64 {
    let within = world.rates.iter().filter(|(from, _)| *from < until);
    within.map(|(from, rate)| rate * until.saturating_sub(*from).as_secs_f64().min(1.0)).sum()
}

fn seats(world: &World, empty_at: Duration) -> (f64, f64) {
    let taken = world.claims.iter().filter(|(at, _)| *at > STARTED && *at <= empty_at).count();
    let used = taken as f64 / (seats_until(world, empty_at) - seats_until(world, STARTED));
    // By the time of the call, second by second; those who come late take a seat when they come.
    let late = |called: Duration, at: Duration| at.saturating_sub(called) > CLAIM_WINDOW;
    let taken_at = |(at, seq): &(Duration, u64)| {
        Some(called_at(world, *seq)).filter(|called| !late(*called, *at)).unwrap_or(*at)
    };
    let mut calls: Vec<Duration> = world.claims.iter().map(taken_at).collect();
    calls.sort_unstable();
    let mut over = f64::NEG_INFINITY;
    for second in 60..empty_at.as_secs() {
        let until = Duration::from_secs(second);
        let called = calls.partition_point(|at| *at <= until);
        over = over.max(called as f64 / seats_until(world, until) - 1.0);
    }
    (used, over)
}

fn busiest_minute(world: &World, empty_at: Duration) -> f64 {
    let minute = Duration::from_secs(60);
    let mut most: f64 = 0.0;
    for second in (60..empty_at.as_secs()).step_by(5) {
        let until = Duration::from_secs(second);
        let from = until - minute;
        let claims = world.claims.partition_point(|(at, _)| *at <= until)
            - world.claims.partition_point(|(at, _)| *at <= from);
        most = most.max(claims as f64 / (seats_until(world, until) - seats_until(world, from)));
    }
    most
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  overtaking      {:?}, with the kill {:?}", self.overtaking, self.overtaking_by_kill)?;
        writeln!(f, "  tau             {:.5}", self.tau)?;
        writeln!(
            f,
            "  estimates       MAPE {:.1} %, inside {:.1} %, below {:.1} %, above {:.1} %, of {}; {} cut",
            self.mape * 100.0,
            self.inside * 100.0,
            self.below * 100.0,
            self.above * 100.0,
            self.told,
            self.cut,
        )?;
        writeln!(
            f,
            "  seats           used {:.2} %, over {:+.2} %, busiest minute {:.2} %; {} claims, {} late, empty after {:?}",
            self.used * 100.0,
            self.over * 100.0,
            self.busiest_minute * 100.0,
            self.claims,
            self.late,
            self.empty_at,
        )?;
        write!(f, "  polls           {} a second at most, {} in all", self.polls_peak, self.polls)
    }
}
