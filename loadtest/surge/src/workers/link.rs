//! The load tool's own connection to NATS. Not the bus of the service, neither its code nor its server: what is measured must not carry the
//! measurement.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Message, Subscriber};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;

use super::Login;

/// A run that cannot be told of within that is told of by the folders alone.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// What the processes of a Spillway say to each other every second.
const OF_THE_SERVICE: [&str; 4] = ["ctl.load", "ctl.state", "*.ctl.load", "*.ctl.state"];
/// Twice as long as the service is ever silent on its own bus.
const LISTEN: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("`{address}` is no address of a NATS server, such as nats://127.0.0.1:4222")]
    Address {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read the credentials in {}", path.display())]
    Credentials {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no NATS server answers at {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error(
        "the NATS server at {address} does not take this user: say who you are with --nats-creds FILE, or with nats://USER@HOST:PORT and the password in \
         NATS_PASSWORD"
    )]
    NotAllowed { address: String },
    #[error(
        "`{0}` cannot be the name of a run: it is part of NATS subjects, so letters, digits, `-` and `_` only"
    )]
    Name(String),
    #[error("nobody answers on {subject}")]
    NoAnswer { subject: String },
    #[error("what came on {subject} is not what this version of surge says; do all have the same version?")]
    Malformed {
        subject: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot send on {subject}: {reason}")]
    Send { subject: String, reason: String },
    #[error(
        "the NATS server at {address} is the bus of a Spillway: {subject} is in use there. Workers on it would load what they measure; name a server \
         of their own, or at least an account of their own"
    )]
    Bus { address: String, subject: String },
}

/// A connection for one run. Clones share it.
#[derive(Clone, Debug)]
pub struct Link {
    client: Client,
    run: String,
    address: String,
}

impl Link {
    /// Connects, and goes on trying for `patience`.
    ///
    /// # Errors
    ///
    /// When the name or an address is none, the credentials cannot be read, or no server is there.
    pub(crate) async fn connect(login: &Login, run: &str, patience: Duration) -> Result<Self, LinkError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if run.is_empty() || !run.bytes().all(fits) {
            return Err(LinkError::Name(run.to_owned()));
        }
        let address = login.shown();
        let until = Instant::now() + patience;
        loop {
            // Below the run, so that an account needs no other permission.
            let options = ConnectOptions::new()
                .name(format!("surge {run}"))
                .custom_inbox_prefix(format!("lt.{run}.inbox"))
                .request_timeout(Some(ANSWER_MAX));
            // The library takes from here, and not from the address, who asks.
            match login.into(options).await?.connect(login.servers()).await {
                Ok(client) => return Ok(Self { client, run: run.to_owned(), address }),
                Err(error) if error.kind() == ConnectErrorKind::AuthorizationViolation => {
                    return Err(LinkError::NotAllowed { address });
                }
                Err(error) if Instant::now() >= until => {
                    return Err(LinkError::Unreachable { address, reason: error.to_string() });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Without a password.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the server is there, as far as is known. The library looks for it again and again while it is not.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn subject(&self, tail: &str) -> String {
        format!("lt.{}.{tail}", self.run)
    }

    /// # Errors
    ///
    /// When the connection is over.
    pub async fn subscribe(&self, tail: &str) -> Result<Subscriber, LinkError> {
        let subject = self.subject(tail);
        let failed = |error: &dyn std::fmt::Display| LinkError::Send {
            subject: subject.clone(),
            reason: error.to_string(),
        };
        let subscriber = self.client.subscribe(subject.clone()).await.map_err(|error| failed(&error))?;
        // From here on nothing is missed that is sent after this.
        self.client.flush().await.map_err(|error| failed(&error))?;
        Ok(subscriber)
    }

    /// Says it; whether anybody hears it is not known.
    ///
    /// # Errors
    ///
    /// When the connection is over, or the message is too large.
    pub async fn tell(&self, tail: &str, what: &(impl Serialize + Sync)) -> Result<(), LinkError> {
        let subject = self.subject(tail);
        let sent = self.client.publish(subject.clone(), encode(what)).await;
        sent.map_err(|error| LinkError::Send { subject, reason: error.to_string() })
    }

    /// Asks once.
    ///
    /// # Errors
    ///
    /// When no answer comes within 2 s, or it is not understood.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        tail: &str,
        what: &(impl Serialize + Sync),
    ) -> Result<T, LinkError> {
        let subject = self.subject(tail);
        let Ok(answer) = self.client.request(subject.clone(), encode(what)).await else {
            return Err(LinkError::NoAnswer { subject });
        };
        decode(&answer)
    }

    /// Asks until there is an answer, or for so long.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub async fn insist<T: DeserializeOwned>(
        &self,
        tail: &str,
        what: &(impl Serialize + Sync),
        patience: Duration,
    ) -> Result<T, LinkError> {
        let until = Instant::now() + patience;
        loop {
            match self.ask(tail, what).await {
                Err(LinkError::NoAnswer { .. }) if Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                answered_or_late => return answered_or_late,
            }
        }
    }

    /// Answers a question. Who asked asks again when the answer is lost.
    pub async fn answer(&self, question: &Message, what: &(impl Serialize + Sync)) {
        if let Some(reply) = question.reply.clone()
            && let Err(error) = self.client.publish(reply, encode(what)).await
        {
            tracing::debug!(%error, "an answer was not sent");
        }
    }

    /// Listens whether a Spillway uses the server as its bus. Without permission to listen there, it cannot be told and is not.
    ///
    /// # Errors
    ///
    /// When one does.
    pub async fn refuse_bus_of_a_service(&self) -> Result<(), LinkError> {
        let mut heard = tokio_stream::StreamMap::new();
        for subject in OF_THE_SERVICE {
            let subscriber = self.client.subscribe(subject).await;
            let failed = |reason: String| LinkError::Send { subject: subject.to_owned(), reason };
            heard.insert(subject, subscriber.map_err(|error| failed(error.to_string()))?);
        }
        match timeout(LISTEN, heard.next()).await {
            Ok(Some((_, message))) => {
                Err(LinkError::Bus { address: self.address.clone(), subject: message.subject.to_string() })
            }
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// What is on its way is sent.
    pub async fn flush(&self) {
        // A connection that is over has nothing on its way.
        timeout(ANSWER_MAX, self.client.flush()).await.ok();
    }
}

fn encode(what: &impl Serialize) -> bytes::Bytes {
    serde_json::to_vec(what).expect("what surge says has only names and numbers").into()
}

/// What a message says.
///
/// # Errors
///
/// When it is not what this version says.
pub(super) fn decode<T: DeserializeOwned>(message: &Message) -> Result<T, LinkError> {
    serde_json::from_slice(&message.payload)
        .map_err(|source| LinkError::Malformed { subject: message.subject.to_string(), source })
}

#[cfg(test)]
mod tests;
