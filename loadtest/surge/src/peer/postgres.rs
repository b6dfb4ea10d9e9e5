//! PostgreSQL as a mailbox service: a table of mail, from which a row is deleted when its message was acknowledged.
//!
//! This process is what a gateway would be: [`POOL`] connections for everybody, on which people's statements take turns, because a server process for
//! each person is not how anybody runs it. An `INSERT` is its own transaction and a send is acknowledged when it has committed, with the flush that
//! `synchronous_commit` stands for; many connections share one flush.
//!
//! Who is to receive is told with `NOTIFY` after the commit, and not in its transaction: there, PostgreSQL takes a lock of the whole cluster that is held
//! over the flush (`PreCommit_Notify`), so that no two commits would share one. A notification that is lost delays mail until the next look, once a
//! second.

mod mailbox;
mod pool;
mod wakes;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::Config;

use super::{Address, Class, Durability, Peer, PeerError, Session, Terms};
use mailbox::{Inbox, Outbox};
use pool::{Pool, failed};
use wakes::Wakes;

/// Connections that statements take turns on: enough that a flush is shared by many, well below the 100 that a server takes unless it is
/// told otherwise.
const POOL: usize = 32;

#[derive(Debug)]
pub(super) struct Postgres {
    pool: Arc<Pool>,
    wakes: Arc<Wakes>,
    schema: String,
    terms: Terms,
}

/// What a server says about when it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    version: String,
    fsync: String,
    synchronous_commit: String,
    full_page_writes: String,
    wal_sync_method: String,
    commit_delay: String,
}

impl Postgres {
    pub(super) async fn connect(address: &Address, run: u64) -> Result<Self, PeerError> {
        let wrong = |error: tokio_postgres::Error| PeerError::failed("read the address", "address", error);
        let mut config: Config = address.url_for("postgres").parse().map_err(wrong)?;
        config.application_name("surge");
        let schema = format!("surge_{run:016x}");
        let pool = Arc::new(Pool::new(config, schema.clone(), POOL));
        let settings = settings(&pool).await?;
        let terms = terms(&settings);
        pool.run(&format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE IF NOT EXISTS {schema}.account (person int PRIMARY KEY);
             CREATE TABLE IF NOT EXISTS {schema}.mail (
                 receiver int NOT NULL, place bigserial, id bytea NOT NULL, content bytea NOT NULL, PRIMARY KEY (receiver, place)
             );"
        ))
        .await?;
        let wakes = Arc::new(Wakes::start(&pool, &schema));
        Ok(Self { pool, wakes, schema, terms })
    }
}

#[async_trait]
impl Peer for Postgres {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn sign_up(&self, index: u32) -> Result<(), PeerError> {
        let (connection, person) = (self.pool.get().await?, mailbox::number(index));
        let insert = &connection.statements.sign_up;
        connection
            .client
            .execute(insert, &[&person])
            .await
            .map(|_| ())
            .map_err(|error| failed("sign up", error))
    }

    async fn open(&self, index: u32) -> Result<Session, PeerError> {
        let (connection, person) = (self.pool.get().await?, mailbox::number(index));
        let known = connection.client.query_opt(&connection.statements.log_in, &[&person]).await;
        if known.map_err(|error| failed("log in", error))?.is_none() {
            return Err(PeerError::refused("log in", "NO_ACCOUNT", "there is no such account"));
        }
        Ok(Session {
            outgoing: Arc::new(Outbox::new(self.pool.clone(), self.wakes.clone())),
            incoming: Box::new(Inbox::new(self.pool.clone(), self.wakes.hear(index), person)),
        })
    }

    async fn clear(&self, _: u32) -> Result<(), PeerError> {
        self.pool.run(&format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema)).await
    }
}

async fn settings(pool: &Pool) -> Result<Settings, PeerError> {
    let row = pool
        .first(
            "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'), \
             current_setting('full_page_writes'), current_setting('wal_sync_method'), current_setting('commit_delay')",
        )
        .await?;
    let [version, fsync, synchronous_commit, full_page_writes, wal_sync_method, commit_delay] =
        std::array::from_fn(|column| row.get(column).cloned().flatten().unwrap_or_default());
    Ok(Settings { version, fsync, synchronous_commit, full_page_writes, wal_sync_method, commit_delay })
}

fn terms(settings: &Settings) -> Terms {
    let waits = settings.synchronous_commit != "off";
    let (class, words) = match (settings.fsync.as_str(), waits) {
        ("on", true) => (Class::D2, "a commit is flushed before it is answered"),
        (_, true) => (Class::D1, "a commit is written before it is answered, and never synced"),
        (_, false) => (
            Class::D0,
            "a commit is answered before it is written: a crash of the server may lose up to three wal_writer_delay of them",
        ),
    };
    let words = format!(
        "{words} (synchronous_commit={}, fsync={}, full_page_writes={}, wal_sync_method={}, commit_delay={})",
        settings.synchronous_commit,
        settings.fsync,
        settings.full_page_writes,
        settings.wal_sync_method,
        settings.commit_delay
    );
    Terms {
        system: format!("PostgreSQL {}", settings.version),
        durability: Durability { class, words },
        acknowledged: "the end of the INSERT's own transaction".to_owned(),
        delivery: "NOTIFY after the commit wakes the receiver, who reads his rows; a DELETE for each message that was taken".to_owned(),
        connections: format!(
            "{} for all: {POOL} that statements take turns on, one that notifies and one that listens; not one for each person, because \
             each is a process of the server",
            POOL + 2
        ),
        does_not: [
            "speak with phones: this process is the gateway, and its cost is in no figure of the server",
            "authenticate each person",
            "check a message or a device",
            "recognise a message that is sent again",
            "bound a mailbox",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(fsync: &str, synchronous_commit: &str) -> Class {
        let settings = Settings {
            version: "15.18".to_owned(),
            fsync: fsync.to_owned(),
            synchronous_commit: synchronous_commit.to_owned(),
            full_page_writes: "on".to_owned(),
            wal_sync_method: "fdatasync".to_owned(),
            commit_delay: "0".to_owned(),
        };
        let terms = terms(&settings);
        let said = format!("synchronous_commit={synchronous_commit}");
        assert!(terms.durability.words.contains(&said), "{terms:?}");
        terms.durability.class
    }

    #[test]
    fn durability_is_what_the_settings_make_it() {
        assert_eq!(class("on", "on"), Class::D2);
        assert_eq!(class("on", "local"), Class::D2);
        assert_eq!(class("on", "off"), Class::D0);
        assert_eq!(class("off", "on"), Class::D1);
        assert_eq!(class("off", "off"), Class::D0);
    }

    #[tokio::test]
    #[ignore = "needs a PostgreSQL: SPILLWAY_TEST_PG=pg://user:password@127.0.0.1/database, see docs/peers.md"]
    async fn postgresql_keeps_the_rules_of_a_peer() {
        let target = std::env::var("SPILLWAY_TEST_PG").expect("SPILLWAY_TEST_PG names a PostgreSQL");
        crate::peer::conformance::keeps_the_rules(&target, false).await;
    }
}
