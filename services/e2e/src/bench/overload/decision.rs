//! How long it takes to decide that a call is refused: by itself, without reading or answering it.
//!
//! On as many threads as there are processors, one call after the other on each, with a tier that the ladder has closed, while the
//! controllers tick as they do in a server. What taking the time costs is in it.

use std::num::NonZero;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use prometheus::Registry;
use spillway_admission::{
    Admission, AdmissionConfig, AdmissionMetrics, Arrival, Call, Kind, Level, Refusal, Seat, Signals,
    Steering, TICK, Tier, User, Waiter,
};
use tokio::time::Instant;

use crate::bench::table::{Row, Target};

pub(crate) const ROW: &str = "decision to refuse, p99";

const LASTS: Duration = Duration::from_secs(2);
/// Between two ticks of the controllers each thread decides about so many.
const BATCH: u64 = 1_000;

/// Nobody waits here.
struct Nobody;

impl Waiter for Nobody {
    fn admitted(self, seat: Seat<Self>) -> Result<(), Seat<Self>> {
        Err(seat)
    }

    fn refused(self, _: Refusal) {}
}

pub(crate) fn row() -> Result<Row> {
    let metrics = AdmissionMetrics::register(&Registry::new(), "decision")?;
    let admission = Admission::<Nobody>::new(AdmissionConfig::default(), metrics)?;
    // All but acks, resumes and sends are closed. Nothing opens them for a moment, as the gate's own decisions would.
    admission.steer(Steering::Set(4));
    let began = Instant::now();
    let tick = || admission.tick(began.elapsed(), &Signals::default());
    tick();
    thread::sleep(TICK);
    tick();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut all = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3)?;
    thread::scope(|scope| {
        let admission = &admission;
        let begin = |thread| scope.spawn(move || decide(admission, began, thread));
        let deciders: Vec<_> = (0..threads as u64).map(begin).collect();
        while began.elapsed() < LASTS {
            thread::sleep(TICK);
            tick();
        }
        for decider in deciders {
            all.add(decider.join().ok().context("a thread panicked")??)?;
        }
        anyhow::Ok(())
    })?;
    eprintln!(
        "{} decisions to refuse on {threads} threads: p50 {} ns, p99 {} ns, p99.9 {} ns",
        all.len(),
        all.value_at_quantile(0.5),
        all.value_at_quantile(0.99),
        all.value_at_quantile(0.999),
    );
    Ok(Row::value(ROW, all.value_at_quantile(0.99) as f64, "ns", Target::AtMost(1_000.0)))
}

fn decide(admission: &Admission<Nobody>, began: Instant, thread: u64) -> Result<Histogram<u64>> {
    let mut times = Histogram::new_with_bounds(1, 1_000_000_000, 3)?;
    let mut user = thread << 32;
    while began.elapsed() < LASTS {
        for _ in 0..BATCH {
            user += 1;
            let now = began.elapsed();
            let call = Call {
                level: Level::new(Tier::Background, user as u8),
                kind: Kind::new(0),
                seats: 1,
                user: User(user.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
                flow: None,
                deadline: now + Duration::from_secs(1),
            };
            let started = Instant::now();
            let arrival = admission.arrive(now, &call, || Nobody);
            times.saturating_record((started.elapsed().as_nanos() as u64).max(1));
            ensure!(matches!(arrival, Arrival::Refused(_)), "a call was let in though the ladder forbids it");
        }
    }
    Ok(times)
}
