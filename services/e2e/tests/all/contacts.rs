//! Address books: who is found, who is not, and what overload leaves of it.

use std::time::Duration;

use spillway_api::{Reason, v1};
use tonic::Request;

use super::desk::population;
use super::overload::{at_rung, ladder};
use super::support::{Node, Person, eventually};

/// Within this, whoever shows or hides himself is found or not, at every process.
const MINUTE: Duration = Duration::from_secs(60);

fn number(person: &Person) -> String {
    population().person(person.index).number
}

/// An address book of people of whom only these are there.
fn book_with(people: &[&Person]) -> Vec<String> {
    let strangers = (0..200).map(|n| format!("+49151{n:08}"));
    strangers.chain(people.iter().map(|person| number(person))).collect()
}

async fn discovery(by: &Person, of: &[&Person]) -> v1::DiscoverResponse {
    by.client.discovery(&by.identity, book_with(of)).await.unwrap()
}

async fn finds(by: &Person, of: &Person) -> bool {
    let answer = discovery(by, &[of]).await;
    let accounts: Vec<_> = answer.matches.iter().map(|found| found.account_id.to_vec()).collect();
    assert!(accounts.is_empty() || accounts == [of.account().as_bytes().to_vec()], "somebody else was found");
    !accounts.is_empty()
}

async fn set_discoverable(person: &Person, discoverable: bool) {
    let mut request = Request::new(v1::SetDiscoverableRequest { discoverable });
    person.identity.authorize(request.metadata_mut());
    person.client.account().set_discoverable(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_to_be_found_is_found_and_nobody_else() {
    let mut node = Node::start("contacts", &[]).await;
    let [alice, bob] = node.people().await;
    set_discoverable(&bob, true).await;
    assert!(finds(&alice, &bob).await, "his number was announced before the answer");
    for _ in 0..3 {
        set_discoverable(&bob, false).await;
        assert!(!finds(&alice, &bob).await);
        set_discoverable(&bob, true).await;
        assert!(finds(&alice, &bob).await);
    }
    let answer = discovery(&alice, &[&bob]).await;
    assert_eq!(answer.quota_left, 50_000 - 201, "what was asked about before costs nothing");
    let strangers = node.metric("spillway_directory_filter_numbers_total", "absent").await;
    assert!(strangers >= 8.0 * 200.0 * 0.99, "{strangers} strangers were kept from the store");

    node.kill().await;
    node.start_again().await;
    let (alice, bob) = (node.again(&alice).await, node.again(&bob).await);
    assert!(finds(&alice, &bob).await);
    set_discoverable(&bob, false).await;
    assert!(!finds(&alice, &bob).await);
    let began = tokio::time::Instant::now();
    node.kill().await;
    node.start_again().await;
    let alice = node.again(&alice).await;
    assert!(!finds(&alice, &bob).await);
    assert!(began.elapsed() < MINUTE);
    eventually("the filter is complete", || async {
        node.metric("spillway_directory_filter_layers", "").await == 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_overload_discovery_and_keys_get_cheaper_before_it_stops() {
    let node = Node::start("contacts-ladder", &[]).await;
    let [alice, bob] = node.people().await;
    set_discoverable(&bob, true).await;
    let has_one_time = async || {
        let keys = alice.client.fetch_keys(&alice.identity, bob.account()).await.unwrap();
        assert!(keys.devices[0].last_resort.is_some());
        keys.devices[0].one_time.is_some()
    };
    let mut seen = Vec::new();
    for rung in [0, 2, 3, 2, 0] {
        ladder(&node, &["set", &rung.to_string()]).await;
        at_rung(&node, rung, true).await;
        let found = match alice.client.discovery(&alice.identity, book_with(&[&bob])).await {
            Ok(answer) if answer.postponed.is_empty() => answer.matches.len(),
            Ok(answer) => {
                assert_eq!((answer.postponed, answer.matches), (vec![number(&bob)], Vec::new()));
                assert!(answer.retry_after.is_some_and(|pause| (60..=120).contains(&pause.seconds)));
                20
            }
            Err(error) => {
                let refusal = error.refusal().unwrap();
                assert_eq!(refusal.reason, Reason::Overload);
                assert!(refusal.retry_after.unwrap() >= Duration::from_secs(120));
                30
            }
        };
        seen.push((rung, found, has_one_time().await));
    }
    assert_eq!(seen, [(0, 1, true), (2, 20, false), (3, 30, false), (2, 20, false), (0, 1, true)]);
    ladder(&node, &["auto"]).await;
}
