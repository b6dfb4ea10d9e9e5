use tokio::task::JoinSet;
use tokio::time;

use super::*;

const SEND: Operation = Operation("send");

fn stats() -> Arc<Stats> {
    let phase = |name, s| Phase { name, from: Duration::from_secs(s) };
    Stats::new(Instant::now(), vec![phase("before", 0), phase("surge", 10)])
}

fn about(latency: &Latency, quantile: f64, expected_ms: f64) {
    let seen = latency.quantile_ms(quantile).unwrap();
    assert!((seen - expected_ms).abs() <= expected_ms / 500.0, "{seen} is not {expected_ms}");
}

#[tokio::test(start_paused = true)]
async fn response_service_and_lag_are_three_things() {
    let stats = stats();
    let planned = stats.started();
    time::advance(Duration::from_millis(300)).await;
    let timer = stats.start(SEND, planned);
    time::advance(Duration::from_millis(200)).await;
    timer.finish(Outcome::Ok);

    let totals = stats.totals(SEND);
    about(&totals.response, 0.5, 500.0);
    about(&totals.service, 0.5, 200.0);
    about(&totals.lag, 0.5, 300.0);
    assert_eq!((totals.offered, totals.ok), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_no_failure_and_no_service_either() {
    let stats = stats();
    for outcome in [Outcome::Ok, Outcome::Ok, Outcome::Refused("QUOTA"), Outcome::Failed("unavailable")] {
        stats.start(SEND, stats.started()).finish(outcome);
    }
    let totals = stats.totals(SEND);
    assert_eq!((totals.success_ratio(), totals.served_ratio()), (Some(2.0 / 3.0), Some(0.5)));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_collects_is_counted_and_not_kept() {
    let stats = Stats::of_totals(Instant::now(), "setup");
    for second in 0..100 {
        let at = stats.started() + Duration::from_secs(second);
        stats.record(SEND, at, at, at + Duration::from_millis(50), Outcome::Ok);
    }
    let totals = stats.totals(SEND);
    assert_eq!((totals.offered, totals.ok, totals.response.count()), (100, 100, 100));
    assert!(stats.collect_all().is_empty());
}

/// Five seconds of stall at 100 a second: open-loop records show it, a closed loop would have one sample.
#[tokio::test(start_paused = true)]
async fn a_stall_shows_in_every_arrival_planned_during_it() {
    let stats = stats();
    let timers: Vec<_> = (0..500)
        .map(|k| stats.started() + Duration::from_millis(10 * k))
        .map(|planned| (planned, stats.started() + Duration::from_secs(5)))
        .collect();
    for (planned, ended) in timers {
        stats.record(SEND, planned, planned, ended, Outcome::Ok);
    }
    let response = stats.totals(SEND).response;
    assert_eq!(response.count(), 500);
    assert!(response.quantile_ms(0.99).unwrap() >= 4_900.0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_timer_is_a_failure_at_its_elapsed_time() {
    let stats = stats();
    let timer = stats.start(SEND, Instant::now());
    time::advance(Duration::from_secs(700)).await;
    drop(timer);
    let totals = stats.totals(SEND);
    assert_eq!((totals.offered, totals.failed), (1, 1));
    assert_eq!(totals.reasons, BTreeMap::from([(CANCELLED, 1)]));
    about(&totals.response, 1.0, 600_000.0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_counted_but_does_not_flatter_the_latency() {
    let stats = stats();
    stats.start(SEND, Instant::now()).finish(Outcome::Refused("overloaded"));
    let totals = stats.totals(SEND);
    assert_eq!((totals.refused, totals.response.count(), totals.lag.count()), (1, 0, 1));
    assert_eq!(totals.reasons, BTreeMap::from([("overloaded", 1)]));
}

#[tokio::test(start_paused = true)]
async fn phases_go_by_planned_time() {
    let stats = stats();
    let before_surge = stats.started() + Duration::from_secs(9);
    let ended = stats.started() + Duration::from_secs(12);
    stats.record(SEND, before_surge, before_surge, ended, Outcome::Ok);
    stats.record(SEND, ended, ended, ended, Outcome::Ok);
    about(&stats.totals_in(SEND, "before").response, 0.99, 3_000.0);
    assert_eq!(stats.totals_in(SEND, "surge").ok, 1);
    assert_eq!(stats.totals_in(SEND, "no such phase").offered, 0);
    assert_eq!(stats.totals(SEND).ok, 2);
}

#[tokio::test(start_paused = true)]
async fn seconds_count_offers_when_planned_and_answers_when_ended() {
    let stats = stats();
    let planned = stats.started() + Duration::from_millis(900);
    let ended = stats.started() + Duration::from_millis(2_100);
    stats.record(SEND, planned, planned, ended, Outcome::Ok);

    let first = stats.collect(stats.started() + Duration::from_secs(2));
    assert_eq!(first.keys().copied().collect::<Vec<_>>(), [(0, SEND)]);
    assert_eq!((first[&(0, SEND)].offered, first[&(0, SEND)].ok), (1, 0));
    let rest = stats.collect_all();
    assert_eq!((rest[&(2, SEND)].offered, rest[&(2, SEND)].ok), (0, 1));
    about(&rest[&(2, SEND)].response, 0.5, 1_200.0);
    assert!(stats.collect_all().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_between_tasks_and_the_collector() {
    let stats = stats();
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let stats = Arc::clone(&stats);
        tasks.spawn(async move {
            for k in 0..1_000u64 {
                let planned = stats.started() + Duration::from_millis(k);
                stats.record(SEND, planned, planned, planned, Outcome::Ok);
                tokio::task::yield_now().await;
            }
        });
    }
    let mut ok = 0;
    while !tasks.is_empty() {
        ok += stats
            .collect(stats.started() + Duration::from_secs(1))
            .values()
            .map(|second| second.ok)
            .sum::<u64>();
        tasks.join_next().await.unwrap().unwrap();
    }
    ok += stats.collect_all().values().map(|second| second.ok).sum::<u64>();
    assert_eq!((ok, stats.totals(SEND).ok), (8_000, 8_000));
}
