//! Who may ask about how many numbers, and what the ladder leaves of it.

use std::time::Duration;

use spillway_admission::{Limit, LimitOverride, QuotaConfig, Signals, Steering};
use spillway_api::{Reason, Refusal, v1};
use spillway_gateway::{Config, DiscoverConfig};
use tonic::Response;

use super::support::{Known, Node, as_device, assert_refused, refusal};

/// Numbers of nobody and, one in ten, of somebody.
fn book(from: u64, count: u64) -> Vec<String> {
    (from..from + count).map(|n| format!("+49{n:010}")).collect()
}

async fn discover(node: &Node, by: &Known, numbers: Vec<String>) -> Result<v1::DiscoverResponse, Refusal> {
    let request = as_device(by, v1::DiscoverRequest { numbers });
    node.contacts().discover(request).await.map(Response::into_inner).map_err(refusal)
}

async fn at_rung(node: &Node, rung: u8) {
    node.hop.admission().steer(Steering::Set(rung));
    tokio::time::sleep(Duration::from_millis(100)).await;
    node.hop.tick(&Signals::default());
    assert_eq!(node.hop.admission().rung(), rung);
}

#[tokio::test(start_paused = true)]
async fn a_number_costs_a_permit_once_and_the_answer_says_what_is_left() {
    let mut quotas = QuotaConfig::default();
    quotas.set(Limit::Discover, LimitOverride { burst: Some(300), ..LimitOverride::default() });
    let node = Node::with(Config::default(), quotas);
    let asking = node.account(1).remove(0);
    let numbers = || vec!["+4930123456".to_owned(), "+4930123457".to_owned()];
    for _ in 0..3 {
        let answer = discover(&node, &asking, numbers()).await.unwrap();
        let found: Vec<_> = answer.matches.into_iter().map(|found| found.number).collect();
        assert_eq!((found, answer.quota_left), (vec!["+4930123457".to_owned()], 298));
        assert_eq!((answer.postponed.len(), answer.retry_after), (0, None));
    }
    assert_refused(discover(&node, &asking, book(0, 1_001)).await, Reason::InvalidArgument);
    // The same number twice in a call is one number.
    let twice = [book(0, 200), book(0, 200)].concat();
    assert_eq!(discover(&node, &asking, twice).await.unwrap().matches.len(), 40);
    assert_refused(discover(&node, &asking, book(200, 100)).await, Reason::Quota);
    // What was refused was not told, and costs what it would have cost.
    assert_eq!(discover(&node, &asking, book(200, 98)).await.unwrap().quota_left, 0);
    assert_refused(discover(&node, &asking, book(298, 1)).await, Reason::Quota);
    // An address book that was asked about before is compared all the same, in whatever order.
    let mut again = book(0, 298);
    again.reverse();
    assert_eq!(discover(&node, &asking, again).await.unwrap().matches.len(), 30);
    assert_eq!(node.metric("spillway_gateway_discover_numbers_total", &["new"]), 300.0);
}

#[tokio::test(start_paused = true)]
async fn another_account_pays_for_itself() {
    let node = Node::start();
    let (anna, ben) = (node.account(1).remove(0), node.account(1).remove(0));
    assert_eq!(discover(&node, &anna, book(0, 500)).await.unwrap().quota_left, 49_500);
    assert_eq!(discover(&node, &ben, book(0, 500)).await.unwrap().quota_left, 49_500);
    assert_eq!(discover(&node, &anna, book(400, 200)).await.unwrap().quota_left, 49_400);
}

#[tokio::test(start_paused = true)]
async fn who_got_no_answer_asks_again_for_nothing() {
    let node = Node::start();
    let asking = node.account(1).remove(0);
    node.directory.state().failures = 1;
    assert_refused(discover(&node, &asking, book(0, 100)).await, Reason::Unavailable);
    let answer = discover(&node, &asking, book(0, 100)).await.unwrap();
    assert_eq!((answer.matches.len(), answer.quota_left), (10, 49_900));
}

/// Ten million numbers from one account, and somebody honest in between.
#[tokio::test(start_paused = true)]
async fn a_scraper_gets_what_everybody_gets_and_troubles_nobody() {
    let remembered = DiscoverConfig { remembered_max: 1 << 18, ..DiscoverConfig::default() };
    let node = Node::with(Config { discover: remembered, ..Config::default() }, QuotaConfig::default());
    let (scraper, honest) = (node.account(1).remove(0), node.account(1).remove(0));
    let mut answered = 0;
    for call in 0..10_000 {
        match discover(&node, &scraper, book(1_000_000 + 1_000 * call, 1_000)).await {
            Ok(_) => answered += 1_000,
            Err(refused) => {
                assert_eq!(refused.reason, Reason::Quota);
                // A number comes back in ten minutes, so a thousand do in a week.
                assert!(refused.retry_after.is_some_and(|pause| pause > Duration::from_secs(6 * 24 * 3_600)));
            }
        }
        if call % 2_000 == 0 {
            let answer = discover(&node, &honest, book(0, 500)).await.unwrap();
            assert_eq!(answer.matches.len(), 50);
            assert!(answer.quota_left >= 49_500, "{} are left", answer.quota_left);
        }
    }
    assert_eq!(answered, 50_000);
    assert_eq!(node.directory.state().asked, 50_000 + 5 * 500, "nothing else reached the directory");
}

#[tokio::test(start_paused = true)]
async fn the_ladder_makes_discovery_cheaper_and_then_puts_it_off() {
    let node = Node::start();
    let asking = node.account(1).remove(0);
    let range = |refused: Option<Duration>, from: u64| {
        let pause = refused.expect("it says when to come back").as_secs();
        assert!((from..=2 * from).contains(&pause), "{pause} s");
    };
    let postponed: Vec<_> = book(0, 100).into_iter().filter(|number| number.ends_with('7')).collect();
    // Up and down: each rung does the same whichever way it was reached.
    for rung in [0, 1, 2, 3, 2, 1, 0] {
        at_rung(&node, rung).await;
        let outcome = discover(&node, &asking, book(0, 100)).await;
        match rung {
            0 | 1 => {
                let answer = outcome.unwrap();
                assert_eq!((answer.matches.len(), answer.postponed.len()), (10, 0), "at rung {rung}");
                assert_eq!((answer.quota_left, answer.retry_after), (49_900, None));
            }
            2 => {
                let answer = outcome.unwrap();
                assert_eq!((answer.matches.len(), &answer.postponed), (0, &postponed));
                assert_eq!(answer.quota_left, 49_900, "what is put off costs nothing more");
                let pause = answer.retry_after.unwrap();
                range(Some(Duration::from_secs(pause.seconds.try_into().unwrap())), 60);
            }
            _ => range(assert_refused(outcome, Reason::Overload).retry_after, 120),
        }
    }
    assert_eq!(node.metric("spillway_gateway_discover_pauses_total", &[]), 1.0);
    assert_eq!(node.metric("spillway_gateway_discover_numbers_total", &["postponed"]), 20.0);
}

#[tokio::test(start_paused = true)]
async fn what_is_put_off_is_paid_for_once_so_that_nobody_learns_from_it_for_nothing() {
    let node = Node::start();
    let asking = node.account(1).remove(0);
    at_rung(&node, 2).await;
    let answer = discover(&node, &asking, book(0, 100)).await.unwrap();
    assert_eq!((answer.postponed.len(), answer.quota_left), (10, 49_900));
    at_rung(&node, 0).await;
    let answer = discover(&node, &asking, answer.postponed).await.unwrap();
    assert_eq!((answer.matches.len(), answer.quota_left), (10, 49_900));
    at_rung(&node, 3).await;
    assert_refused(discover(&node, &asking, book(100, 100)).await, Reason::Overload);
    at_rung(&node, 0).await;
    assert_eq!(
        discover(&node, &asking, Vec::new()).await.unwrap().quota_left,
        49_900,
        "a refusal costs nothing"
    );
}
