use std::time::Duration;

use spillway_api::internal::v1::{LookupRequest, LookupResponse};
use spillway_types::{AccountId, NumberMac, PhoneNumber};
use tonic::{Code, Request};

use super::*;
use crate::fake::{FakeStore, Process};

const ALICE: &str = "+4930123456";
const BOB: &str = "+14155550123";

/// A process whose filter is complete.
async fn process(store: &FakeStore) -> Process {
    let process = Process::start(store.clone());
    process.until_built().await;
    process
}

impl Process {
    fn mac(&self, number: &str) -> NumberMac {
        self.pepper.mac(&PhoneNumber::parse(number).unwrap())
    }

    /// As if a registration process had done it that this one hears.
    async fn register(&self, number: &str) -> AccountId {
        let account = AccountId::random();
        self.hint(self.mac(number)).await;
        self.store.set(self.mac(number), Some(account));
        account
    }

    async fn find(&self, numbers: &[&str]) -> Vec<(String, AccountId)> {
        self.directory.lookup(text(numbers), false).await.unwrap().matches
    }
}

fn text(numbers: &[&str]) -> Vec<String> {
    numbers.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn finds_who_is_there_in_the_order_of_the_question() {
    let process = process(&FakeStore::default()).await;
    let (alice, bob) = (process.register(ALICE).await, process.register(BOB).await);
    let found = process.find(&[BOB, "+4930999999", ALICE, BOB]).await;
    let bob = || (BOB.to_owned(), bob);
    assert_eq!(found, [bob(), (ALICE.to_owned(), alice), bob()]);
}

#[tokio::test(start_paused = true)]
async fn malformed_and_impossible_numbers_do_not_sink_the_rest() {
    let process = process(&FakeStore::default()).await;
    let alice = process.register(ALICE).await;
    let found = process.find(&["", "112", "+49 30 123456", "+19995550123", "mum", ALICE, "+"]).await;
    assert_eq!(found, [(ALICE.to_owned(), alice)]);
    assert_eq!(process.directory.metrics.counts(), (5, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn strangers_do_not_reach_the_store() {
    let store = FakeStore::default();
    let process = process(&store).await;
    process.register(ALICE).await;
    let book: Vec<String> = (0..1_000).map(|i| format!("+4930{i:07}")).collect();
    assert_eq!(process.directory.lookup(book.clone(), false).await.unwrap(), Found::default());
    assert_eq!(store.numbers_read(), 0, "with one entry nobody is taken for another");
    process.find(&[ALICE]).await;
    assert_eq!(store.numbers_read(), 1);
    assert_eq!(process.directory.metrics.verdicts(), [1_000, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn without_a_filter_the_store_is_asked_about_everybody() {
    let store = FakeStore::default();
    store.fail_walks(true);
    let process = Process::start(store.clone());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let alice = process.register(ALICE).await;
    assert_eq!(process.find(&[ALICE, BOB]).await, [(ALICE.to_owned(), alice)]);
    assert_eq!(process.directory.metrics.verdicts(), [0, 0, 0, 2]);
    assert!(!process.health.is_ready(), "its first filter is not finished");
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert!(process.health.is_ready(), "it serves without one");
    store.fail_walks(false);
    process.until_built().await;
    assert_eq!(process.find(&[ALICE, BOB]).await, [(ALICE.to_owned(), alice)]);
    assert_eq!(process.directory.metrics.verdicts(), [1, 1, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn to_spare_the_store_what_only_it_knows_is_left_open() {
    let store = FakeStore::default();
    let process = process(&store).await;
    process.register(ALICE).await;
    let request = LookupRequest { numbers: text(&[BOB, "mum", ALICE, "+4930999999"]), spare_store: true };
    let answer = spillway_api::internal::v1::directory_server::Directory::lookup(
        &process.directory,
        Request::new(request),
    );
    let LookupResponse { matches, open } = answer.await.unwrap().into_inner();
    assert_eq!((matches, open), (Vec::new(), vec![2]));
    assert_eq!(store.numbers_read(), 0);
    // Without a filter, everything that could be a number is open.
    store.fail_log(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let found = process.directory.lookup(text(&[BOB, "mum", ALICE]), true).await.unwrap();
    assert_eq!(found, Found { matches: Vec::new(), open: vec![0, 2] });
}

#[tokio::test(start_paused = true)]
async fn an_empty_book_is_answered() {
    assert_eq!(process(&FakeStore::default()).await.find(&[]).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_numbers_are_the_limit() {
    let process = process(&FakeStore::default()).await;
    let book = |count: u32| (0..count).map(|i| format!("+4930{i:07}")).collect::<Vec<_>>();
    assert_eq!(process.directory.lookup(book(1_000), false).await.unwrap(), Found::default());
    let request = Request::new(LookupRequest { numbers: book(1_001), spare_store: false });
    // Through the service, for the code.
    let status = spillway_api::internal::v1::directory_server::Directory::lookup(&process.directory, request);
    assert_eq!(status.await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn who_hides_is_gone_at_once_and_who_shows_himself_is_found() {
    let store = FakeStore::default();
    let process = process(&store).await;
    let alice = process.register(ALICE).await;
    for _ in 0..3 {
        assert_eq!(process.find(&[ALICE]).await, [(ALICE.to_owned(), alice)]);
        store.set(process.mac(ALICE), None);
        assert_eq!(process.find(&[ALICE]).await, []);
        store.set(process.mac(ALICE), Some(alice));
    }
}

/// Ten million numbers of nobody, and 100,000 people who are there.
#[tokio::test(start_paused = true)]
async fn of_a_scrapers_ten_million_numbers_one_in_a_hundred_reaches_the_store_at_the_most() {
    const PEOPLE: u64 = 100_000;
    const CALLS: u64 = 10_000;
    let store = FakeStore::default();
    let number = |n: u64| format!("+49{n:010}");
    let pepper = crate::fake::pepper();
    for n in 0..PEOPLE {
        let mac = pepper.mac_of_text(&number(n)).unwrap();
        store.set(mac, Some(AccountId::random()));
    }
    let process = process(&store).await;
    for call in 0..CALLS {
        let from = PEOPLE + call * 1_000;
        let found =
            process.directory.lookup((from..from + 1_000).map(number).collect(), false).await.unwrap();
        assert_eq!(found.matches, []);
    }
    let reached = store.numbers_read() as f64 / (CALLS * 1_000) as f64;
    println!("{:.3} % of a scraper's numbers reached the store", 100.0 * reached);
    assert!(reached < 0.01, "{reached}");
    assert_eq!(process.find(&[&number(7)]).await.len(), 1, "and everybody is found all the same");
}
