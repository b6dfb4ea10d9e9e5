use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::*;

const LANE: LaneId = LaneId(7);
const LIMITS: Limits = Limits { rows: 8, bytes: 1_000 };

#[derive(Clone, Copy, Debug)]
struct Numbered {
    number: u32,
    bytes: usize,
}

impl Row for Numbered {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Takes a while for each request, and keeps what it was sent.
#[derive(Clone, Default)]
struct Database(Arc<Inner>);

#[derive(Default)]
struct Inner {
    takes: Mutex<Vec<Duration>>,
    requests: Mutex<Vec<Vec<u32>>>,
    written: Mutex<HashSet<u32>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    fails: AtomicU32,
}

impl Database {
    fn taking(takes: Duration) -> Self {
        let database = Self::default();
        database.0.takes.lock().unwrap().push(takes);
        database
    }

    fn requests(&self) -> Vec<Vec<u32>> {
        self.0.requests.lock().unwrap().clone()
    }

    fn sizes(&self) -> Vec<usize> {
        self.requests().iter().map(Vec::len).collect()
    }
}

impl Writer for Database {
    type Row = Numbered;

    async fn write(&self, rows: &[Numbered]) -> Result<(), StoreError> {
        let Self(inner) = self;
        let numbers: Vec<_> = rows.iter().map(|row| row.number).collect();
        let request = {
            let mut requests = inner.requests.lock().unwrap();
            requests.push(numbers.clone());
            requests.len() - 1
        };
        let under_way = inner.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        inner.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        let takes = {
            let takes = inner.takes.lock().unwrap();
            takes[request % takes.len()]
        };
        sleep(takes).await;
        inner.under_way.fetch_sub(1, Ordering::SeqCst);
        if inner.fails.load(Ordering::SeqCst) == request as u32 + 1 {
            return Err(StoreError::Unavailable(Arc::new(std::io::Error::other("a node is gone"))));
        }
        inner.written.lock().unwrap().extend(numbers);
        Ok(())
    }
}

fn row(number: u32) -> Numbered {
    Numbered { number, bytes: 10 }
}

fn together(database: &Database, limits: Limits) -> Arc<Together<Database>> {
    Arc::new(Together::new(database.clone(), limits))
}

/// All at once; the results by number.
async fn all(
    together: &Arc<Together<Database>>,
    rows: impl IntoIterator<Item = Numbered>,
) -> Vec<Result<(), StoreError>> {
    let mut writes = JoinSet::new();
    for row in rows {
        let together = Arc::clone(together);
        writes.spawn(async move { (row.number, together.write(LANE, row).await) });
    }
    let mut results = writes.join_all().await;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[tokio::test(start_paused = true)]
async fn on_a_quiet_day_every_row_goes_at_once_and_by_itself() {
    let database = Database::taking(Duration::from_millis(2));
    let together = together(&database, LIMITS);
    let began = Instant::now();
    for number in 0..4 {
        together.write(LANE, row(number)).await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::from_millis(8));
    assert_eq!(database.sizes(), [1; 4]);
    assert!(all(&together, (4..8).map(row)).await.iter().all(Result::is_ok));
    assert_eq!(database.sizes(), [1; 8]);
    assert!(together.lanes.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_four_requests_are_under_way_goes_together() {
    let database = Database::taking(Duration::from_millis(2));
    let together = together(&database, LIMITS);
    let began = Instant::now();
    assert!(all(&together, (0..10).map(row)).await.iter().all(Result::is_ok));
    assert_eq!(database.sizes(), [1, 1, 1, 1, 6]);
    assert_eq!(began.elapsed(), Duration::from_millis(4));
}

#[tokio::test(start_paused = true)]
async fn a_full_request_waits_for_no_place() {
    let database = Database::taking(Duration::from_secs(1));
    let together = together(&database, LIMITS);
    let began = Instant::now();
    assert!(all(&together, (0..4 + 8 * 20).map(row)).await.iter().all(Result::is_ok));
    assert_eq!(database.sizes().iter().filter(|rows| **rows == 8).count(), 20);
    assert_eq!(database.0.most_under_way.load(Ordering::SeqCst), 24);
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_node_that_is_slow() {
    let database = Database::taking(Duration::from_secs(2));
    let together = together(&database, LIMITS);
    let began = Instant::now();
    assert!(all(&together, (0..7).map(row)).await.iter().all(Result::is_ok));
    assert_eq!(database.sizes(), [1, 1, 1, 1, 3]);
    // The timer counts whole milliseconds, from the next one on.
    assert!(began.elapsed() <= Duration::from_secs(2) + LINGER + Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_request_holds_no_more_bytes_than_it_may_and_large_rows_go_alone() {
    let database = Database::taking(Duration::from_millis(2));
    let together = together(&database, LIMITS);
    let large = (4..20).map(|number| Numbered { number, bytes: 300 });
    let larger = Numbered { number: 20, bytes: 1_001 };
    let rows = (0..4).map(row).chain(large).chain([larger]);
    assert!(all(&together, rows).await.iter().all(Result::is_ok));
    let requests = database.requests();
    assert!(requests.iter().all(|rows| rows.len() <= 3), "{requests:?}");
    assert!(requests.iter().any(|rows| rows.len() == 3), "{requests:?}");
    assert!(requests.contains(&vec![20]), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_is_that_of_all_in_the_request_and_of_nobody_else() {
    let database = Database::taking(Duration::from_millis(2));
    database.0.fails.store(5, Ordering::SeqCst);
    let together = together(&database, LIMITS);
    let results = all(&together, (0..12).map(row)).await;
    let failed = |result: &Result<(), StoreError>| matches!(result, Err(StoreError::Unavailable(_)));
    assert_eq!(results.iter().filter(|result| failed(result)).count(), 8);
    assert!(results[..4].iter().all(Result::is_ok));
    assert!(together.lanes.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_led_and_was_given_up_leaves_the_others_to_send_for_themselves() {
    let database = Database::taking(Duration::from_millis(20));
    let together = together(&database, LIMITS);
    let mut writes = JoinSet::new();
    let mut handles = Vec::new();
    for number in 0..12 {
        let together = Arc::clone(&together);
        handles.push(writes.spawn(async move { together.write(LANE, row(number)).await.map(|()| number) }));
        tokio::task::yield_now().await;
    }
    // The leader is the fifth. Its request is under way when it is given up.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(database.sizes(), [1, 1, 1, 1, 8]);
    handles[4].abort();
    let mut written = HashSet::new();
    while let Some(ended) = writes.join_next().await {
        match ended {
            Ok(result) => assert!(written.insert(result.unwrap())),
            Err(error) => assert!(error.is_cancelled()),
        }
    }
    assert_eq!(written.len(), 11);
    assert!(written.is_subset(&database.0.written.lock().unwrap()));
    assert_eq!(database.sizes()[5..], [1; 7]);
    assert!(together.lanes.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn with_one_row_a_request_nobody_waits() {
    let database = Database::taking(Duration::from_millis(2));
    let together = together(&database, Limits { rows: 1, ..LIMITS });
    assert!(all(&together, (0..100).map(row)).await.iter().all(Result::is_ok));
    assert_eq!(database.sizes(), [1; 100]);
}

#[tokio::test(start_paused = true)]
async fn lanes_do_not_mix() {
    let database = Database::taking(Duration::from_millis(2));
    let together = together(&database, LIMITS);
    let mut writes = JoinSet::new();
    for number in 0..64 {
        let together = Arc::clone(&together);
        writes.spawn(async move { together.write(LaneId(u64::from(number % 2)), row(number)).await });
    }
    assert!(writes.join_all().await.iter().all(Result::is_ok));
    let requests = database.requests();
    assert!(requests.iter().all(|rows| rows.iter().all(|number| number % 2 == rows[0] % 2)), "{requests:?}");
    assert!(requests.iter().any(|rows| rows.len() == 8), "{requests:?}");
}

#[derive(Clone, Copy, Debug)]
struct Caller {
    comes_at: u64,
    patience: Option<u64>,
    lane: u64,
    bytes: usize,
}

fn callers() -> impl Strategy<Value = Vec<Caller>> {
    let caller = (0..40_u64, proptest::option::weighted(0.3, 0..15_u64), 0..3_u64, 1..1_200_usize);
    let caller =
        caller.prop_map(|(comes_at, patience, lane, bytes)| Caller { comes_at, patience, lane, bytes });
    proptest::collection::vec(caller, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever comes and goes: everybody gets an answer, none is told that a row is written which is not, no request is
    /// larger than it may be, and nothing is left.
    #[test]
    fn whoever_is_told_ok_is_written(callers in callers(), takes in proptest::collection::vec(1..30_u64, 1..9)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let database = Database::default();
            database.0.takes.lock().unwrap().extend(takes.iter().map(|ms| Duration::from_millis(*ms)));
            let together = together(&database, LIMITS);
            let mut writes = JoinSet::new();
            for (number, caller) in (0..).zip(callers.clone()) {
                let together = Arc::clone(&together);
                writes.spawn(async move {
                    sleep(Duration::from_millis(caller.comes_at)).await;
                    let write = together.write(LaneId(caller.lane), Numbered { number, bytes: caller.bytes });
                    match caller.patience {
                        Some(ms) => timeout(Duration::from_millis(ms), write).await.ok().map(|result| (number, result)),
                        None => Some((number, write.await)),
                    }
                });
            }
            let most = Duration::from_millis(40 + 2 * 30) + LINGER * 2;
            let answers = timeout(most, writes.join_all()).await.expect("everybody is answered in time");
            let written = database.0.written.lock().unwrap().clone();
            for (number, result) in answers.into_iter().flatten() {
                assert!(result.is_ok() && written.contains(&number), "{number}");
            }
            for rows in database.requests() {
                let bytes = rows.iter().map(|number| callers[*number as usize].bytes);
                assert!(rows.len() == 1 || rows.len() <= LIMITS.rows && bytes.sum::<usize>() <= LIMITS.bytes, "{rows:?}");
            }
            assert!(together.lanes.lock().is_empty());
        });
    }
}
