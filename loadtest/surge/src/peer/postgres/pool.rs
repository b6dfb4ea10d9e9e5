//! A few connections for everybody.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex as Lock, PoisonError};

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, SimpleQueryMessage, Socket, Statement,
};

use super::mailbox::READ_AT_ONCE;
use crate::peer::PeerError;

#[derive(Debug)]
pub(super) struct Pool {
    config: Config,
    schema: String,
    slots: Vec<Mutex<Option<Arc<Prepared>>>>,
    next: AtomicUsize,
    /// What drives the connections.
    tasks: Lock<JoinSet<()>>,
}

/// A connection that knows the statements of a mailbox.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) client: Client,
    pub(super) statements: Statements,
}

#[derive(Debug)]
pub(super) struct Statements {
    pub(super) sign_up: Statement,
    pub(super) log_in: Statement,
    pub(super) send: Statement,
    pub(super) read: Statement,
    pub(super) delete: Statement,
}

impl Pool {
    /// Connects when the connections are needed.
    pub(super) fn new(config: Config, schema: String, size: usize) -> Self {
        let slots = (0..size).map(|_| Mutex::default()).collect();
        Self { config, schema, slots, next: AtomicUsize::new(0), tasks: Lock::default() }
    }

    /// The next one in turn, connected again if it broke.
    pub(super) async fn get(&self) -> Result<Arc<Prepared>, PeerError> {
        let turn = self.next.fetch_add(1, Relaxed) % self.slots.len();
        let mut slot = self.slots[turn].lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.client.is_closed()) {
            return Ok(connection.clone());
        }
        let client = self.client().await?;
        let prepared = self.prepare(&client).await.map_err(|error| failed("prepare statements", error))?;
        let connection = Arc::new(Prepared { client, statements: prepared });
        *slot = Some(connection.clone());
        Ok(connection)
    }

    async fn prepare(&self, client: &Client) -> Result<Statements, tokio_postgres::Error> {
        let schema = &self.schema;
        let statement = async |text: &str| client.prepare(&text.replace("{}", schema)).await;
        let read = format!(
            "SELECT place, id, content FROM {{}}.mail WHERE receiver = $1 ORDER BY place LIMIT {READ_AT_ONCE}"
        );
        Ok(Statements {
            sign_up: statement("INSERT INTO {}.account (person) VALUES ($1) ON CONFLICT DO NOTHING").await?,
            log_in: statement("SELECT person FROM {}.account WHERE person = $1").await?,
            send: statement("INSERT INTO {}.mail (receiver, id, content) VALUES ($1, $2, $3)").await?,
            read: statement(&read).await?,
            delete: statement("DELETE FROM {}.mail WHERE receiver = $1 AND place = $2").await?,
        })
    }

    /// A connection of its own, driven in the background.
    pub(super) async fn client(&self) -> Result<Client, PeerError> {
        let (client, connection) = self.connection().await?;
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        Ok(client)
    }

    /// One that nobody drives yet.
    pub(super) async fn connection(&self) -> Result<(Client, Connection<Socket, NoTlsStream>), PeerError> {
        self.config.connect(NoTls).await.map_err(|error| failed("connect to PostgreSQL", error))
    }

    /// Statements without an answer, on a connection of their own.
    pub(super) async fn run(&self, statements: &str) -> Result<(), PeerError> {
        let client = self.client().await?;
        client.batch_execute(statements).await.map_err(|error| failed("make tables", error))
    }

    /// The columns of the first row.
    pub(super) async fn first(&self, query: &str) -> Result<Vec<Option<String>>, PeerError> {
        let client = self.client().await?;
        let messages = client.simple_query(query).await.map_err(|error| failed("read settings", error))?;
        let row = messages.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let columns = |row: tokio_postgres::SimpleQueryRow| {
            (0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect()
        };
        row.map(columns).ok_or_else(|| PeerError::failed("read settings", "protocol", "no row came"))
    }
}

/// Drives a connection and says of whom it was notified, until it ends.
pub(super) async fn notifications(
    mut connection: Connection<Socket, NoTlsStream>,
    mut notified: impl FnMut(&str),
) -> Result<(), tokio_postgres::Error> {
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message? {
            notified(notification.payload());
        }
    }
    Ok(())
}

/// Under the reason that the server gives, where it is one of those that a load brings out.
pub(super) fn failed(doing: &'static str, error: tokio_postgres::Error) -> PeerError {
    let reason = match error.code() {
        Some(code) => of_server(code),
        None if error.is_closed() => "closed",
        None => "connection",
    };
    match reason {
        TOO_MANY => PeerError::refused(doing, reason, error),
        _ => PeerError::failed(doing, reason, error),
    }
}

const TOO_MANY: &str = "TOO_MANY_CONNECTIONS";

fn of_server(code: &SqlState) -> &'static str {
    let known = [
        (SqlState::TOO_MANY_CONNECTIONS, TOO_MANY),
        (SqlState::INVALID_PASSWORD, "password"),
        (SqlState::INVALID_AUTHORIZATION_SPECIFICATION, "authorization"),
        (SqlState::INSUFFICIENT_PRIVILEGE, "privilege"),
        (SqlState::ADMIN_SHUTDOWN, "shutdown"),
        (SqlState::CANNOT_CONNECT_NOW, "starting"),
        (SqlState::DISK_FULL, "disk_full"),
        (SqlState::QUERY_CANCELED, "cancelled"),
    ];
    known.iter().find(|(known, _)| known == code).map_or("sql", |(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_counted_under_its_name() {
        assert_eq!(of_server(&SqlState::TOO_MANY_CONNECTIONS), TOO_MANY);
        assert_eq!(of_server(&SqlState::from_code("57P01")), "shutdown");
        assert_eq!(of_server(&SqlState::UNDEFINED_TABLE), "sql");
    }
}
