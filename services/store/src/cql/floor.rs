//! What the driver alone can do, for measurements of what we put on top of it.

use std::sync::Arc;

use scylla::client::PoolSize;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::prepared::PreparedStatement;
use spillway_types::MailboxId;

use super::config::Config;
use super::{failure, mailboxes};
use crate::mailboxes::StoredMessage;
use crate::{OpenError, StoreError};

/// Inserts messages by one prepared statement and the driver's own settings. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RawInserts {
    session: Arc<Session>,
    insert: PreparedStatement,
}

impl RawInserts {
    /// Needs the schema. Of `config`, the contact points, the prefix and the number of connections count.
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        config.check()?;
        let session = SessionBuilder::new()
            .known_nodes(&config.contact_points)
            .pool_size(PoolSize::PerHost(config.connections_per_host))
            .build()
            .await
            .map_err(|error| failure::connect(config, error))?;
        let cql = mailboxes::insert(&config.keyspaces().mailbox);
        let insert = session.prepare(cql.as_str()).await.map_err(|error| failure::prepare(&cql, error))?;
        Ok(Self { session: Arc::new(session), insert })
    }

    /// The same row as a put of the store makes.
    pub async fn insert(&self, mailbox: MailboxId, message: &StoredMessage) -> Result<(), StoreError> {
        let row = mailboxes::row(mailbox, message);
        self.session.execute_unpaged(&self.insert, row).await.map(drop).map_err(failure::unavailable)
    }

    /// Removes the keyspaces.
    pub async fn drop_keyspaces(&self, config: &Config) -> Result<(), StoreError> {
        let keyspaces = config.keyspaces();
        for keyspace in [keyspaces.identity, keyspaces.mailbox] {
            let cql = format!("DROP KEYSPACE {keyspace}");
            self.session.query_unpaged(cql, ()).await.map_err(failure::unavailable)?;
        }
        Ok(())
    }
}
