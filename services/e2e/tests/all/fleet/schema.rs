use std::process::Output;

use futures::future::join_all;
use spillway_store::cql::schema::VERSION;

use super::site::Site;

fn printed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_planned_applied_and_applied_again() {
    let site = Site::new("schema").await;
    let plan = printed(&site.run(&["schema", "plan"]).await, 0);
    assert!(plan.contains("no schema, to do:"), "{plan}");
    let tables = plan.matches("CREATE TABLE IF NOT EXISTS").count();
    assert!(
        tables > 5 && plan.contains(&format!("CREATE KEYSPACE IF NOT EXISTS {}_mailbox", site.prefix)),
        "{plan}"
    );
    let status = printed(&site.run(&["schema", "status"]).await, 1);
    assert!(status.contains("version 0, this program needs"), "a plan does nothing: {status}");

    let applied = printed(&site.run(&["schema", "apply"]).await, 0);
    assert!(
        applied.contains("applied 1: ") && applied.contains(&format!("applied {VERSION}: ")),
        "{applied}"
    );
    let status = printed(&site.run(&["schema", "status"]).await, 0);
    assert!(
        status.contains(&format!("version {VERSION}, this program needs {VERSION}"))
            && status.contains("mailboxes ("),
        "{status}"
    );
    for action in ["plan", "apply"] {
        let nothing = printed(&site.run(&["schema", action]).await, 0);
        assert!(nothing.contains(&format!("version {VERSION}, nothing to do")), "{nothing}");
        assert_eq!(nothing.lines().count(), 1, "{nothing}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_applied_by_several_at_once() {
    let site = Site::new("at-once").await;
    let all = join_all((0..4).map(|_| site.run(&["schema", "apply"]))).await;
    for applied in &all {
        printed(applied, 0);
    }
    printed(&site.run(&["schema", "status"]).await, 0);
}
