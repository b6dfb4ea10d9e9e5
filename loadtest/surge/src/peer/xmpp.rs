//! An XMPP server as a mailbox service, such as ejabberd: accounts by in-band registration (XEP-0077), messages of type `chat` between bare addresses,
//! acknowledgements by stream management (XEP-0198).
//!
//! A small client of its own instead of a library: it needs five of XMPP's many extensions, and of those every byte is to be known, because what an
//! acknowledgement means is the question. It speaks without TLS, as all others here, and logs in with SASL PLAIN. A payload is written as base64, which
//! is four thirds of it on the wire.

mod account;
mod element;
mod inquiry;
mod login;
mod session;

use async_trait::async_trait;

use super::{Address, Class, Durability, Peer, PeerError, Session, Terms};
use inquiry::Server;

/// People whose accounts are removed at once.
const AT_ONCE: usize = 16;
/// Of the account that asks the server what it is.
const INQUIRER: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Xmpp {
    names: Names,
    terms: Terms,
}

/// Where the server is, and how a run's people are called there.
#[derive(Clone, Debug)]
pub(super) struct Names {
    host: String,
    port: u16,
    domain: String,
    run: u64,
}

impl Names {
    fn user(&self, index: u32) -> String {
        format!("surge-{:016x}-{index}", self.run)
    }

    fn address(&self, index: u32) -> String {
        format!("{}@{}", self.user(index), self.domain)
    }

    /// The same in every part of a run. The accounts last as long as the run.
    fn password(&self) -> String {
        format!("{:016x}", self.run)
    }
}

impl Xmpp {
    pub(super) async fn connect(address: &Address, run: u64) -> Result<Self, PeerError> {
        let (host, port, path) = (address.host(), address.port(), address.path());
        let domain = if path.is_empty() { host.clone() } else { path };
        let names = Names { host, port, domain, run };
        account::register(&names, INQUIRER).await?;
        let server = inquiry::of(&names, INQUIRER).await;
        account::remove(&names, INQUIRER).await?;
        Ok(Self { terms: terms(&server?), names })
    }
}

#[async_trait]
impl Peer for Xmpp {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn sign_up(&self, index: u32) -> Result<(), PeerError> {
        account::register(&self.names, index).await
    }

    async fn open(&self, index: u32) -> Result<Session, PeerError> {
        let stream = login::log_in(&self.names, index).await?;
        session::begin(stream, self.names.clone()).await
    }

    async fn clear(&self, people: u32) -> Result<(), PeerError> {
        let mut removals = tokio::task::JoinSet::new();
        let mut failed = None;
        for index in 0..people {
            if removals.len() >= AT_ONCE
                && let Some(Ok(Err(error))) = removals.join_next().await
            {
                failed = Some(error);
            }
            let names = self.names.clone();
            removals.spawn(async move { account::remove(&names, index).await });
        }
        while let Some(removed) = removals.join_next().await {
            if let Ok(Err(error)) = removed {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn terms(server: &Server) -> Terms {
    let durability = match server.archives {
        true => Durability {
            class: Class::Unknown,
            words: "the server archives messages (XEP-0313); when an archive is on the disk is a setting of its database that a client is not \
                    told"
                .to_owned(),
        },
        false => Durability {
            class: Class::D0,
            words: "the server has no archive (XEP-0313), so a message for somebody who is online is in memory alone; one for somebody who is \
                    away is kept as its offline storage is set"
                .to_owned(),
        },
    };
    Terms {
        system: format!("{}, XMPP", server.version),
        durability,
        acknowledged: "the server's count of the sender's stanzas (XEP-0198), asked for with each message: it has taken it over, and not \
                       that the receiver has it"
            .to_owned(),
        delivery: "pushed on the receiver's stream; the receiver's count of stanzas (XEP-0198) is sent after each message".to_owned(),
        connections: "one for each person".to_owned(),
        does_not: [
            "recognise a message that is sent again",
            "check a message or a device",
            "carry bytes: a payload is base64 in XML",
            "say after an acknowledgement that a message could not be kept, other than by an error stanza, which counts here as a loss",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_archive_it_is_memory_alone() {
        let terms = |archives| terms(&Server { version: "ejabberd 23.01".to_owned(), archives });
        assert_eq!(terms(false).durability.class, Class::D0);
        assert_eq!(terms(true).durability.class, Class::Unknown);
        assert!(terms(true).system.contains("23.01"));
    }

    #[tokio::test]
    #[ignore = "needs an XMPP server: SPILLWAY_TEST_XMPP=xmpp://127.0.0.1:5222/localhost, see docs/peers.md"]
    async fn an_xmpp_server_keeps_the_rules_of_a_peer() {
        let target = std::env::var("SPILLWAY_TEST_XMPP").expect("SPILLWAY_TEST_XMPP names an XMPP server");
        crate::peer::conformance::keeps_the_rules(&target, false).await;
    }
}
