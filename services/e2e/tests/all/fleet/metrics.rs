use super::super::support::{eventually, get};
use super::super::watch::{
    Exposition, has_listened, is_of_a_budget, is_of_the_embedded_store, is_of_tls, not_on_the_page, unknown,
};
use super::site::http;
use super::whole_path::Pair;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_exposes_what_rules_and_dashboards_ask_for() {
    let pair = Pair::at_two_gateways("fleet-metrics", 1_000).await;
    pair.alice.reaches(&pair.bob).await;
    let pages = || async {
        let mut exposed = Exposition::default();
        for admin in pair.fleet.admin_addresses() {
            exposed.add(&get(&http(admin), "/metrics").await.1);
        }
        exposed
    };
    eventually("the control role has figures", || async { has_listened(&pages().await) }).await;
    let is_here = |name: &str| !is_of_the_embedded_store(name) && !is_of_a_budget(name) && !is_of_tls(name);
    assert_eq!(unknown(&pages().await, is_here), [""; 0]);
    for admin in pair.fleet.admin_addresses() {
        let text = get(&http(admin), "/metrics").await.1;
        assert_eq!(not_on_the_page(&text).await, [""; 0]);
    }
}
