//! What a service that stands still looks like to an open-loop load tool.

use std::sync::Arc;
use std::time::Duration;

use spillway_types::Guid;
use surge::curve::Curve;
use surge::pacer::Pacer;
use surge::schedule::{Arrivals, Schedule};
use surge::stats::{Operation, Outcome, Phase, Stats};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::support::{NO_SEND_QUOTA, Node};

const SEND: Operation = Operation("send");
const STALL: Duration = Duration::from_secs(5);
const SEED: u64 = 7;

/// A closed loop would have one slow sample; every arrival that was planned during the stall has waited for its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_seconds_of_stall_are_in_every_arrival_of_them() {
    println!("seed {SEED}");
    // The burst after the stall is not to be refused, because refusals are not timed.
    let node = Node::start("stall", &[NO_SEND_QUOTA, ("ADMISSION__GATEWAY__MODE", "shadow")]).await;
    let (anna, bert) = (node.person(1).await, node.person(2).await);
    anna.reaches(&bert).await;
    node.server.signal("STOP").await.unwrap();
    let started = Instant::now();
    let stats = Stats::new(started, vec![Phase { name: "stall", from: Duration::ZERO }]);
    let curve = Curve::constant(100.0, STALL + Duration::from_millis(100)).unwrap();
    let mut pacer =
        Pacer::start(started, Schedule::new((), Arc::new(curve), Arrivals::Uniform, SEED)).unwrap();
    let mut sends = JoinSet::new();
    let mut stands_still = true;
    loop {
        tokio::select! {
            due = pacer.next() => {
                let Some(due) = due else { break };
                let (stats, anna, bert) = (stats.clone(), anna.clone(), bert.clone());
                sends.spawn(async move {
                    let timer = stats.start(SEND, due.planned);
                    let message = bert.message(Guid::random(), "while it stood still");
                    let sent = anna.client.send(&anna.identity, message).await;
                    timer.finish(if sent.is_ok() { Outcome::Ok } else { Outcome::Failed("send") });
                });
            }
            () = sleep_until(started + STALL), if stands_still => {
                node.server.signal("CONT").await.unwrap();
                stands_still = false;
            }
        }
    }
    while let Some(sent) = sends.join_next().await {
        sent.unwrap();
    }
    let totals = stats.totals(SEND);
    assert!(totals.response.count() >= 500, "{} samples, {:?}", totals.response.count(), totals.reasons);
    let p99 = totals.response.quantile_ms(0.99).unwrap();
    assert!(p99 >= 4_900.0, "p99 {p99} ms");
    let p50 = totals.response.quantile_ms(0.5).unwrap();
    assert!(p50 >= 2_400.0, "half of the arrivals were planned in the first half of the stall: p50 {p50} ms");
}
