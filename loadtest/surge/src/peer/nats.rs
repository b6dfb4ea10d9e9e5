//! NATS JetStream as a mailbox service: one stream of files, one subject for each mailbox, one consumer for each person, who acknowledges.
//!
//! The stream is a work queue, so what was acknowledged is gone, as it is with Spillway. A publication carries the message's id, by which the server recognises it
//! for two minutes when it is published again. Everybody has a connection of their own.

mod mailbox;
mod monitor;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use async_nats::{ConnectOptions, ServerAddr};
use async_trait::async_trait;

use super::{Address, Class, Durability, Peer, PeerError, Session, Terms};
use mailbox::{Inbox, Outbox};
use monitor::Syncs;

/// How long the server remembers ids of publications. Its own default.
const RECOGNISES: Duration = Duration::from_secs(120);
/// A message that was handed to a connection that broke comes again after so long. The server's own default is 30 s, longer than a run waits
/// in the end for what is on its way.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// As long as Spillway's client waits for a connection, and for an answer.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const ANSWER_MAX: Duration = Duration::from_secs(30);

pub(super) struct Nats {
    server: ServerAddr,
    /// For what is nobody's own.
    jetstream: Context,
    stream: String,
    terms: Terms,
}

impl Nats {
    pub(super) async fn connect(address: &Address, run: u64, admin: &[String]) -> Result<Self, PeerError> {
        let server = address
            .url_for("nats")
            .parse()
            .map_err(|error| PeerError::failed("read the address", "address", error))?;
        let jetstream = connected(&server).await?;
        let stream = format!("SURGE_{run:016x}");
        let config = Config {
            name: stream.clone(),
            subjects: vec![subject(&stream, "*")],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            num_replicas: 1,
            duplicate_window: RECOGNISES,
            ..Config::default()
        };
        let made = jetstream.get_or_create_stream(config).await;
        made.map_err(|error| PeerError::failed("make a JetStream stream", "stream", error))?;
        let version = jetstream.client().server_info().version;
        let syncs = match admin.first() {
            Some(monitor) => Some(monitor::syncs(monitor).await?),
            None => None,
        };
        Ok(Self { server, jetstream, stream, terms: terms(&version, syncs) })
    }
}

#[async_trait]
impl Peer for Nats {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The person's consumer, which is all the account that there is.
    async fn sign_up(&self, index: u32) -> Result<(), PeerError> {
        let consumer = pull::Config {
            durable_name: Some(format!("person-{index}")),
            filter_subject: subject(&self.stream, index),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            ..pull::Config::default()
        };
        let made = self.jetstream.create_consumer_on_stream(consumer, &self.stream).await;
        made.map(|_| ()).map_err(|error| PeerError::failed("make a consumer", "consumer", error))
    }

    async fn open(&self, index: u32) -> Result<Session, PeerError> {
        let jetstream = connected(&self.server).await?;
        let consumer: PullConsumer = jetstream
            .get_consumer_from_stream(format!("person-{index}"), &self.stream)
            .await
            .map_err(|error| PeerError::failed("find the consumer", "consumer", error))?;
        let messages = consumer.messages().await;
        let messages = messages.map_err(|error| PeerError::failed("ask for mail", "pull", error))?;
        Ok(Session {
            outgoing: Arc::new(Outbox::new(jetstream, self.stream.clone())),
            incoming: Box::new(Inbox::new(messages)),
        })
    }

    /// With it go its consumers.
    async fn clear(&self, _: u32) -> Result<(), PeerError> {
        let deleted = self.jetstream.delete_stream(&self.stream).await;
        deleted.map(|_| ()).map_err(|error| PeerError::failed("delete the stream", "stream", error))
    }
}

impl fmt::Debug for Nats {
    /// Without the address, which may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("stream", &self.stream).finish_non_exhaustive()
    }
}

async fn connected(server: &ServerAddr) -> Result<Context, PeerError> {
    let options = ConnectOptions::new().connection_timeout(CONNECT_MAX).request_timeout(Some(ANSWER_MAX));
    let client = options.connect(server.clone()).await;
    let client = client.map_err(|error| PeerError::failed("connect to NATS", "connect", error))?;
    Ok(jetstream::ContextBuilder::new().timeout(ANSWER_MAX).ack_timeout(ANSWER_MAX).build(client))
}

fn subject(stream: &str, mailbox: impl fmt::Display) -> String {
    format!("surge.{stream}.{mailbox}")
}

fn terms(version: &str, syncs: Option<Syncs>) -> Terms {
    let durability = match syncs {
        Some(Syncs::Always) => {
            Durability { class: Class::D2, words: "file storage, sync_interval: always".to_owned() }
        }
        Some(Syncs::Every(interval)) => {
            let words = format!(
                "file storage, synced every {} s and not before an acknowledgement",
                interval.as_secs()
            );
            Durability { class: Class::D1, words }
        }
        None => {
            let words = "file storage; the server does not tell a client its sync_interval, which is 2 min where nobody set it, so that an \
                         acknowledged message is not synced yet. --admin with its monitoring address (http_port) reads it";
            Durability { class: Class::D1, words: words.to_owned() }
        }
    };
    Terms {
        system: format!("nats-server {version}, JetStream, one replica"),
        durability,
        acknowledged: "the stream's acknowledgement of the publication".to_owned(),
        delivery: "a durable pull consumer for each person, from which messages stream; acknowledged one by one, and then deleted \
                   (work queue)"
            .to_owned(),
        connections: "one for each person".to_owned(),
        does_not: [
            "know people: whoever is connected may read and write every mailbox",
            "authenticate each person",
            "check a message or a device",
            "recognise a message that is sent again after 2 min",
            "bound a mailbox",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_syncs_always_is_d2() {
        let class = |syncs| terms("2.14.5", syncs).durability.class;
        assert_eq!(class(Some(Syncs::Always)), Class::D2);
        assert_eq!(class(Some(Syncs::Every(Duration::from_secs(120)))), Class::D1);
        assert_eq!(class(None), Class::D1, "what is not told is not believed");
        let words = terms("2.14.5", Some(Syncs::Every(Duration::from_secs(10)))).durability.words;
        assert!(words.contains("every 10 s"), "{words}");
    }

    #[tokio::test]
    async fn nats_keeps_the_rules_of_a_peer() {
        let servers = std::env::var("SPILLWAY_TEST_NATS").expect(
            "SPILLWAY_TEST_NATS is not set: run `cargo xtask test`, which starts what the tests need",
        );
        let first = servers.split(',').next().unwrap();
        let address = format!("nats://{}", first.trim_start_matches("nats://"));
        crate::peer::conformance::keeps_the_rules(&address, true).await;
    }
}
