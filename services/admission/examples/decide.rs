//! How long a refusal by the gate takes: `cargo run --release -p spillway-admission --example decide`.
//!
//! Prints p50 and p99 of a decision: one by one, with the two readings of the clock that cost about as much; in batches of
//! 32, alone and with a second thread that is refused too; and the same for a call that is admitted and finishes.

// The one place that measures real time.
#![allow(clippy::disallowed_types)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use prometheus::Registry;
use spillway_admission::{
    Admission, AdmissionConfig, AdmissionMetrics, Arrival, Call, Kind, Level, Outcome, Refusal, Seat,
    Signals, Steering, TICK, Tier, User, Waiter,
};

struct Nobody;

impl Waiter for Nobody {
    fn admitted(self, seat: Seat<Self>) -> Result<(), Seat<Self>> {
        Err(seat)
    }

    fn refused(self, _: Refusal) {}
}

const BATCH: u32 = 32;
const MEASUREMENTS: usize = 200_000;

fn main() {
    let metrics = AdmissionMetrics::register(&Registry::new(), "bench").expect("a fresh registry");
    let admission = Admission::<Nobody>::new(AdmissionConfig::default(), metrics).expect("the default works");
    admission.tick(Duration::ZERO, &Signals::default());
    // Background is refused from now on; acks are not.
    admission.steer(Steering::Set(1));
    admission.tick(TICK, &Signals::default());

    print("refused, clock included", &measure(&admission, Tier::Background, 1));
    print("refused", &measure(&admission, Tier::Background, BATCH));
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| measure(&admission, Tier::Background, BATCH));
        let one = measure(&admission, Tier::Background, BATCH);
        (one, other.join().expect("the other thread"))
    });
    print("refused, two threads", &[one, two].concat());
    print("admitted and finished", &measure(&admission, Tier::Ack, BATCH));
}

/// Nanoseconds of a decision, for each of many batches.
fn measure(admission: &Admission<Nobody>, tier: Tier, batch: u32) -> Vec<f64> {
    let now = TICK * 2;
    let mut user = 1u64;
    let mut times = Vec::with_capacity(MEASUREMENTS);
    for _ in 0..MEASUREMENTS {
        let start = Instant::now();
        for _ in 0..batch {
            user = user.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let level = Level::new(tier, (user >> 57) as u8);
            let deadline = now + Duration::from_secs(5);
            let call =
                Call { level, kind: Kind::default(), seats: 1, user: User(user), flow: None, deadline };
            match black_box(admission.arrive(now, &call, || Nobody)) {
                Arrival::Run(seat) => seat.finish(now, Outcome::Served),
                Arrival::Queued(_) | Arrival::Refused(_) => {}
            }
        }
        times.push(start.elapsed().as_nanos() as f64 / f64::from(batch));
    }
    times
}

fn print(what: &str, times: &[f64]) {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |quantile: f64| sorted[(sorted.len() as f64 * quantile) as usize];
    println!("{what:26} p50 {:6.0} ns   p99 {:6.0} ns   p99.9 {:6.0} ns", at(0.5), at(0.99), at(0.999));
}
