use spillway_store::OpenError;
use spillway_store::cql::schema::{VERSION, apply, plan, status};
use tokio::task::JoinSet;

use super::{open, session, with_keyspaces};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_made_once_however_many_apply_it_and_never_goes_back() {
    with_keyspaces(|config| async move {
        let missing = open(&config).await.unwrap_err();
        assert!(matches!(missing, OpenError::NoSchema { .. }), "{missing:?}");
        assert!(!missing.is_transient());
        let planned = plan(&config).await.unwrap();
        assert_eq!((planned.found, planned.steps.len()), (None, VERSION as usize));
        assert_eq!(status(&config).await.unwrap().found(), None, "planning changes nothing");

        let mut pods = JoinSet::new();
        for _ in 0..3 {
            let config = config.clone();
            pods.spawn(async move { apply(&config).await.unwrap() });
        }
        assert!(pods.join_all().await.iter().any(|done| done.steps == planned.steps));
        let status = status(&config).await.unwrap();
        assert_eq!((status.found(), status.needed), (Some(VERSION), VERSION));
        assert_eq!(status.applied.len(), VERSION as usize);
        assert!(apply(&config).await.unwrap().steps.is_empty());
        open(&config).await.unwrap();

        let versions = format!("{}_identity.schema_version", config.keyspace_prefix);
        let change = async |cql: String| {
            session().await.query_unpaged(cql, ()).await.unwrap();
        };
        let newer = VERSION + 1;
        change(format!("INSERT INTO {versions} (name, step, what, applied_at) VALUES ('spillway', {newer}, 'x', 0) IF NOT EXISTS")).await;
        for refused in [open(&config).await.unwrap_err(), apply(&config).await.unwrap_err()] {
            assert!(matches!(refused, OpenError::NewerSchema { found, .. } if found == newer), "{refused:?}");
        }
        for step in [newer, VERSION] {
            change(format!("DELETE FROM {versions} WHERE name = 'spillway' AND step = {step} IF EXISTS")).await;
        }
        let older = open(&config).await.unwrap_err();
        assert!(matches!(older, OpenError::OlderSchema { needed: VERSION, .. }), "{older:?}");
        assert!(older.to_string().contains("spillway schema apply"));
        // As an apply that was interrupted leaves it.
        assert_eq!(apply(&config).await.unwrap().steps.len(), 1);

        change(format!("DROP TABLE {}_mailbox.mailbox_cursor", config.keyspace_prefix)).await;
        let damaged = open(&config).await.unwrap_err();
        assert!(matches!(&damaged, OpenError::Statement { cql, .. } if cql.contains("mailbox_cursor")), "{damaged:?}");
    })
    .await;
}
