//! The arithmetic of a plan: arrivals, connections, descriptors, ports, bytes and memory.

use std::fmt;
use std::time::Duration;

use super::{Machine, Rude};
use crate::curve::Curve;
use crate::load::{FAN_OUT, Load, Op};

/// What a sign-up takes without the waits of people: some round trips to a service that is not busy.
const SIGN_UP_LATENCY: Duration = Duration::from_millis(150);
/// What a send, a look-up or a return takes from a service that is not busy.
const CALL_LATENCY: Duration = Duration::from_millis(10);
/// Descriptors of the load tool beside its connections: the runtime, the run folder, streams of codes and orders.
const OWN_DESCRIPTORS: u64 = 64;
/// Those of a service beside its connections: its store, which keeps files open, its ports, its log.
const SERVER_DESCRIPTORS: u64 = 512;
/// One person's phone here, assumed: 28 KiB that an HTTP/2 connection allocates at once (16 to write, 8 to read, 4 for HPACK), and as much
/// again for the session and what is under way.
const CLIENT_BYTES: u64 = 64 * 1024;
/// The same person in a service on this machine, assumed: three times the 31 kB of an idle session (`cargo xtask bench`), because
/// connections keep what they once needed.
const SERVER_BYTES: u64 = 96 * 1024;
/// Histograms of the operations, by phase and second.
const FIGURES_BYTES: u64 = 64 * 1024 * 1024;
/// A send on the way up and down with its frames, beside the content: addresses, identifiers, HTTP/2.
const SEND_OVERHEAD: f64 = 300.0;
/// Of a sign-up: keys, codes, an address book of 50 numbers, and frames.
const SIGN_UP_BYTES: f64 = 6_000.0;
/// Of a look-up of 50 numbers, and of opening a session.
const LOOK_UP_BYTES: f64 = 1_500.0;
/// How long a closed connection keeps its port: Linux reuses it after a second on loopback (`tcp_tw_reuse` 2), and after a minute elsewhere.
const LOOPBACK_REUSE: Duration = Duration::from_secs(1);
const TIME_WAIT: Duration = Duration::from_secs(60);

/// What is there beside the load.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// Existing users with a device each.
    pub people: u32,
    pub content_bytes: usize,
    /// How long newcomers stay once they are in.
    pub linger: Duration,
    /// Newcomers let in a second, where that is known.
    pub admit_per_s: Option<f64>,
    /// The service is started for the run, on this machine.
    pub own_server: bool,
    pub loopback: bool,
    pub rude: Rude,
}

/// What a run needs at its highest.
#[derive(Clone, Debug, PartialEq)]
pub struct Needs {
    /// By operation: arrivals in all, most in a second, and how many are under way at once (rate × latency).
    pub operations: Vec<OpNeeds>,
    pub duration: Duration,
    pub people: u64,
    /// Newcomers who are there at once: on their way in, and for a while after it.
    pub newcomers: u64,
    /// And who wait for their turn, when it is known how many are let in.
    pub waiting: u64,
    /// Connections that people of cohorts have beside the one that everybody has.
    pub of_cohorts: u64,
    /// Seconds that a newcomer is there.
    pub stay_s: f64,
    /// Connections that the load tool has open.
    pub connections: u64,
    /// Of the load tool, which is the process that has most.
    pub descriptors: u64,
    /// Of the service, when it is started for the run.
    pub server_descriptors: Option<u64>,
    pub ports: u64,
    /// Connections closed a second, whose ports rest for a while.
    pub closed_per_s: f64,
    pub wire_bytes: u64,
    pub memory_bytes: u64,
    /// Connections are carried through this process, to make them slow.
    pub through_proxy: bool,
    rest_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpNeeds {
    pub op: Op,
    pub total: f64,
    pub peak_per_s: f64,
    pub latency: Duration,
    pub in_flight: f64,
}

/// Why a plan cannot be run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this machine cannot run that: {arithmetic}")]
pub struct NotEnough {
    arithmetic: String,
}

impl Needs {
    pub fn of(load: &Load, around: &Surroundings) -> Self {
        let second = Duration::from_secs(1);
        let peak = |op| load.curve(op).map_or(0.0, |curve| curve.highest_mean_per_s(second));
        let slow = load.behaviour.slow.iter().map(|slow| slow.by).max().unwrap_or_default();
        let stay = stay(load, around.linger) + slow;
        let latency = |op| if op == Op::SignUp { stay } else { CALL_LATENCY + slow };
        let operations: Vec<_> = load
            .curves()
            .map(|(op, curve)| {
                let (peak_per_s, latency) = (peak(op), latency(op));
                let in_flight = at_once(curve, latency);
                OpNeeds { op, total: curve.total(), peak_per_s, latency, in_flight }
            })
            .collect();
        let newcomers = load.curve(Op::SignUp).map_or(0.0, |curve| at_once(curve, stay));
        // A sum that is a whole number but for its last digit is that number.
        let newcomers = (newcomers - 1e-6).ceil() as u64;
        let waiting = waiting(load, around.admit_per_s);
        let people = u64::from(around.people);
        let connections = people + newcomers + waiting + around.rude.connections;
        let through_proxy = !load.behaviour.slow.is_empty();
        // A connection that is carried through ends here twice more: where it comes in, and where it goes on.
        let ends = if through_proxy { 3 } else { 1 };
        let closed_per_s = peak(Op::SignUp) + peak(Op::Reconnect) + peak(Op::Flap) + around.rude.closed_per_s;
        let rest = if around.loopback { LOOPBACK_REUSE } else { TIME_WAIT };
        let resting = (closed_per_s * rest.as_secs_f64()).ceil() as u64;
        let total = |op| load.curve(op).map_or(0.0, Curve::total);
        let sends = total(Op::Send) + total(Op::FanOut) * FAN_OUT as f64 + 2.0 * total(Op::SignUp);
        let look_ups = total(Op::Discover) + total(Op::Reconnect) + total(Op::Flap) + total(Op::Wake);
        let wire = sends * 2.0 * (around.content_bytes as f64 + SEND_OVERHEAD)
            + total(Op::SignUp) * SIGN_UP_BYTES
            + look_ups * LOOK_UP_BYTES;
        let of_person = CLIENT_BYTES + if around.own_server { SERVER_BYTES } else { 0 };
        Self {
            operations,
            duration: load.duration(),
            people,
            newcomers,
            waiting,
            of_cohorts: around.rude.connections,
            stay_s: stay.as_secs_f64(),
            connections,
            descriptors: connections * ends + OWN_DESCRIPTORS,
            server_descriptors: around.own_server.then_some(connections + SERVER_DESCRIPTORS),
            ports: connections * ends.min(2) + resting,
            closed_per_s,
            wire_bytes: wire as u64,
            memory_bytes: FIGURES_BYTES + connections * of_person,
            through_proxy,
            rest_s: rest.as_secs(),
        }
    }

    /// # Errors
    ///
    /// With the arithmetic, when the machine has less of something than the plan needs.
    pub fn check(&self, machine: &Machine) -> Result<(), NotEnough> {
        let refuse = |arithmetic| Err(NotEnough { arithmetic });
        let connections = self.connections_in_words();
        if let Some(limit) = machine.descriptors
            && self.descriptors > limit
        {
            let ends =
                if self.through_proxy { ", three ends of each because answers are made late," } else { "" };
            return refuse(format!(
                "it needs {} descriptors ({connections}{ends} and {OWN_DESCRIPTORS} more), and `ulimit -n` is {limit}. \
                 Raise it with `ulimit -n {}`, or lower the rate or --existing",
                self.descriptors,
                self.descriptors.next_multiple_of(1_024),
            ));
        }
        if let (Some(limit), Some(needed)) = (machine.descriptors, self.server_descriptors)
            && needed > limit
        {
            return refuse(format!(
                "the service that is started for the run needs {needed} descriptors ({connections} and \
                 {SERVER_DESCRIPTORS} for its store), and `ulimit -n` is {limit}. Raise it with `ulimit -n {}`",
                needed.next_multiple_of(1_024),
            ));
        }
        if let Some(ports) = machine.ports
            && self.ports > ports
        {
            return refuse(format!(
                "it needs {} local ports ({connections}, and {:.0} a second that rest for {} s after they are closed), and \
                 net.ipv4.ip_local_port_range has {ports}. Widen the range, or lower the rate or --existing",
                self.ports, self.closed_per_s, self.rest_s,
            ));
        }
        if let Some(available) = machine.memory_bytes
            && self.memory_bytes > available
        {
            return refuse(format!(
                "it needs about {} of memory ({connections} at some {} KiB each), and {} are available",
                bytes(self.memory_bytes),
                (self.memory_bytes - FIGURES_BYTES) / 1024 / self.connections.max(1),
                bytes(available),
            ));
        }
        Ok(())
    }

    fn connections_in_words(&self) -> String {
        let mut words = format!("{} connections: {} existing users", self.connections, self.people);
        if self.newcomers > 0 {
            words.push_str(&format!(" + {} newcomers within {:.1} s", self.newcomers, self.stay_s));
        }
        if self.waiting > 0 {
            words.push_str(&format!(" + {} who wait for their turn", self.waiting));
        }
        if self.of_cohorts > 0 {
            words.push_str(&format!(" + {} more of cohorts", self.of_cohorts));
        }
        words
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  operation    arrivals   most a second   under way = rate × latency")?;
        for of in &self.operations {
            writeln!(
                f,
                "  {:<10} {:>10.0} {:>15.1}   {:.0} = {:.1}/s × {:.0} ms",
                of.op.name(),
                of.total,
                of.peak_per_s,
                of.in_flight,
                if of.latency.is_zero() { 0.0 } else { of.in_flight / of.latency.as_secs_f64() },
                of.latency.as_secs_f64() * 1e3,
            )?;
        }
        writeln!(f, "\n  {}", self.connections_in_words())?;
        writeln!(f, "  descriptors  {}", self.descriptors)?;
        if let Some(server) = self.server_descriptors {
            writeln!(f, "               {server} of the service that is started")?;
        }
        writeln!(f, "  local ports  {}", self.ports)?;
        writeln!(f, "  memory       about {}", bytes(self.memory_bytes))?;
        writeln!(f, "  on the wire  about {}", bytes(self.wire_bytes))?;
        write!(f, "  lasts        {:.0} s", self.duration.as_secs_f64())
    }
}

/// The most arrivals within any time of that length, about: windows begin at its multiples and halfway between.
fn at_once(curve: &Curve, length: Duration) -> f64 {
    let half = length / 2;
    let from_start = curve.highest_mean_per_s(length);
    let shifted = curve.after(half).highest_mean_per_s(length);
    from_start.max(shifted) * length.as_secs_f64()
}

fn stay(load: &Load, linger: Duration) -> Duration {
    let behaviour = &load.behaviour;
    let code = behaviour.code_delay.map_or(Duration::ZERO, |delay| delay.median * 2);
    let typing = behaviour.type_after.map_or(Duration::ZERO, |(_, latest)| latest);
    SIGN_UP_LATENCY + linger + code + typing
}

/// The longest that a queue before so many a second gets.
fn waiting(load: &Load, admit_per_s: Option<f64>) -> u64 {
    let (Some(admit), Some(curve)) = (admit_per_s, load.curve(Op::SignUp)) else { return 0 };
    let tick = (load.duration() / 2_000).max(Duration::from_millis(100));
    let (mut queue, mut longest, mut at) = (0.0_f64, 0.0_f64, Duration::ZERO);
    while at < load.duration() {
        let come = curve.count_between(at, at + tick);
        queue = (queue + come - admit * tick.as_secs_f64()).max(0.0);
        longest = longest.max(queue);
        at += tick;
    }
    longest.ceil() as u64
}

pub(crate) fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        _ if count >= 1e9 => format!("{:.1} GB", count / 1e9),
        _ if count >= 1e6 => format!("{:.1} MB", count / 1e6),
        _ => format!("{:.0} kB", count / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Expression;
    use crate::load::BaseRates;

    const AROUND: Surroundings = Surroundings {
        people: 300,
        content_bytes: 512,
        linger: Duration::from_secs(2),
        admit_per_s: None,
        own_server: true,
        loopback: true,
        rude: Rude { connections: 0, closed_per_s: 0.0 },
    };
    const AMPLE: Machine =
        Machine { descriptors: Some(20_000), ports: Some(28_232), memory_bytes: Some(8 << 30) };

    fn needs(text: &str, around: &Surroundings) -> Needs {
        let rates = BaseRates { sign_up: 10.0, send: 100.0, discover: 5.0, people: 300.0, offline: 0.0 };
        Needs::of(&Expression::parse(text).unwrap().load(&rates).unwrap(), around)
    }

    #[test]
    fn under_way_is_rate_times_latency() {
        let needs = needs("30s@100", &AROUND);
        assert_eq!(needs.operations[0].total, 3_000.0);
        assert!((needs.operations[0].in_flight - 215.0).abs() < 1e-6, "{needs}");
        assert_eq!((needs.newcomers, needs.waiting, needs.connections), (215, 0, 515));
        assert_eq!(needs.descriptors, 515 + OWN_DESCRIPTORS);
        assert_eq!(needs.check(&AMPLE), Ok(()));
        assert!(needs.to_string().contains("215 = 100.0/s × 2150 ms"), "{needs}");
    }

    #[test]
    fn a_plan_that_is_too_large_is_refused_with_its_arithmetic() {
        let around = Surroundings { people: 19_900, ..AROUND };
        let refusal = |text, around: &Surroundings, machine: &Machine| {
            needs(text, around).check(machine).unwrap_err().to_string()
        };
        let text = refusal("30s@100", &around, &AMPLE);
        assert!(text.contains("20179 descriptors") && text.contains("`ulimit -n` is 20000"), "{text}");
        assert!(text.contains("19900 existing users + 215 newcomers within 2.1 s"), "{text}");
        assert!(text.contains("`ulimit -n 20480`"), "{text}");
        let text = refusal("30s@1", &around, &Machine { descriptors: Some(20_000), ..AMPLE });
        assert!(text.contains("for its store"), "{text}");
        let few_ports = Machine { ports: Some(400), ..AMPLE };
        assert!(refusal("30s@100", &AROUND, &few_ports).contains("615 local ports"));
        let elsewhere = Surroundings { loopback: false, ..AROUND };
        assert!(needs("30s@100", &elsewhere).ports > 6_000, "closed ports rest for a minute");
        let small = Machine { memory_bytes: Some(1 << 20), ..AMPLE };
        assert!(refusal("30s@100", &AROUND, &small).contains("of memory"));
        assert_eq!(needs("30s@100", &around).check(&Machine::default()), Ok(()), "nothing is known");
    }

    #[test]
    fn the_rude_need_connections_of_their_own() {
        let rude = Rude { connections: 700, closed_per_s: 50.0 };
        let needs = needs("send(30s@100)", &Surroundings { rude, ..AROUND });
        assert_eq!((needs.connections, needs.ports), (1_000, 1_050));
        let small = Machine { descriptors: Some(512), ..AMPLE };
        let text = needs.check(&small).unwrap_err().to_string();
        assert!(text.contains("1000 connections: 300 existing users + 700 more of cohorts"), "{text}");
    }

    #[test]
    fn who_waits_has_a_connection_and_late_answers_need_more_of_them() {
        let room = Surroundings { admit_per_s: Some(40.0), ..AROUND };
        assert_eq!(needs("10s@100", &room).waiting, 600);
        assert_eq!(needs("10s@30", &room).waiting, 0);
        let slow = needs("retry-amplify", &AROUND);
        assert_eq!(slow.descriptors, 3 * 300 + OWN_DESCRIPTORS);
        assert!(slow.through_proxy);
    }
}
