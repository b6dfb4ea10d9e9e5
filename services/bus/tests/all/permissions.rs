//! `deploy/nats/permissions.conf` on a real server: each role can do what it needs, and not what is another's.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event as ClientEvent};
use bytes::Bytes;
use futures::StreamExt;
use nkeys::KeyPair;
use prometheus::Registry;
use spillway_bus::nats::hints::LinkState;
use spillway_bus::nats::{ConnectionState, JetStreamWorkConfig, JetStreamWorkQueue, Nats, NatsConfig};
use spillway_bus::work::WorkQueue;
use spillway_bus::{Bus, BusError, Event, Subject};
use spillway_chassis::Tasks;
use spillway_types::MailboxId;
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use crate::hints::{Process, next};
use crate::server::Own;

const BOUND: Duration = Duration::from_secs(10);
const ROLES: [&str; 5] = ["gateway", "mailbox", "registration", "directory", "control"];

/// A server, and a key for each role.
struct Fleet {
    server: Own,
    keys: TempDir,
}

/// A role's connection by a general client, and what the server told it not to do.
struct Member {
    client: Client,
    errors: Mutex<mpsc::Receiver<String>>,
}

impl Fleet {
    async fn start() -> Self {
        let keys = tempfile::tempdir().unwrap();
        let mut variables = vec![("SPILLWAY_NATS_NAME".to_owned(), "own".to_owned())];
        for role in ROLES {
            let pair = KeyPair::new_user();
            std::fs::write(keys.path().join(role), pair.seed().unwrap()).unwrap();
            variables.push((format!("SPILLWAY_NKEY_{}", role.to_uppercase()), pair.public_key()));
        }
        std::fs::write(keys.path().join("stranger"), KeyPair::new_user().seed().unwrap()).unwrap();
        Self { server: Own::start(&variables).await, keys }
    }

    fn key_file(&self, role: &str) -> PathBuf {
        self.keys.path().join(role)
    }

    async fn member(&self, role: &str) -> Member {
        let (errors_in, errors) = mpsc::channel(16);
        let seed = std::fs::read_to_string(self.key_file(role)).unwrap();
        let client = ConnectOptions::with_nkey(seed)
            .custom_inbox_prefix(format!("_INBOX.{role}.1"))
            .event_callback(move |event| {
                let errors = errors_in.clone();
                async move {
                    if let ClientEvent::ServerError(error) = event {
                        errors.send(error.to_string()).await.ok();
                    }
                }
            })
            .connect(self.server.address())
            .await
            .unwrap();
        Member { client, errors: Mutex::new(errors) }
    }

    fn config(&self, role: &str) -> NatsConfig {
        let servers = vec![self.server.address().to_owned()];
        NatsConfig { servers, nkey: Some(self.key_file(role)), ..NatsConfig::default() }
    }

    fn hints(&self, role: &str) -> Process {
        Process::start(&self.config(role))
    }
}

impl Member {
    /// Until the server says that it does not permit something with this subject.
    async fn denied(&self, subject: &str) {
        let mut errors = self.errors.lock().await;
        let quoted = format!("\"{}\"", subject.to_lowercase());
        let denial = async {
            loop {
                let error = errors.recv().await.unwrap().to_lowercase();
                if error.contains("permissions violation") && error.contains(&quoted) {
                    return;
                }
            }
        };
        assert!(timeout(BOUND, denial).await.is_ok(), "{subject} is permitted");
    }
}

#[tokio::test]
async fn requests_reach_their_service_and_answers_their_caller() {
    let fleet = Fleet::start().await;
    for (caller, service) in [
        ("gateway", "mailbox"),
        ("gateway", "registration"),
        ("gateway", "directory"),
        ("gateway", "control"),
        ("registration", "mailbox"),
    ] {
        let (calling, serving) = (fleet.member(caller).await, fleet.member(service).await);
        let calls = format!("rpc.{service}.*.*");
        let mut requests = serving.client.queue_subscribe(calls, service.into()).await.unwrap();
        let cancel = format!("rpc.{service}.cancel");
        let mut cancels = serving.client.subscribe(cancel.clone()).await.unwrap();
        // What a worker says to itself comes back after the server has taken its subscriptions.
        serving.client.publish(cancel.clone(), Bytes::from_static(b"own")).await.unwrap();
        timeout(BOUND, cancels.next()).await.expect("a worker hears itself").unwrap();

        let answer = async {
            let request = requests.next().await.unwrap();
            serving.client.publish(request.reply.unwrap(), request.payload).await.unwrap();
        };
        let request = calling.client.request(format!("rpc.{service}.do.3f"), Bytes::from_static(b"x"));
        let (answer, ()) = timeout(BOUND, async { tokio::join!(request, answer) })
            .await
            .unwrap_or_else(|_| panic!("{caller} has no answer from {service}"));
        assert_eq!(answer.unwrap().payload, "x");

        calling.client.publish(cancel, Bytes::from_static(b"callers")).await.unwrap();
        timeout(BOUND, cancels.next()).await.expect("a worker hears of callers that left").unwrap();
    }
}

#[tokio::test]
async fn hints_reach_those_whom_they_concern() {
    let fleet = Fleet::start().await;
    let processes = ROLES.map(|role| (role, fleet.hints(role)));
    for (_, process) in &processes {
        process.wait_connected().await;
    }
    let of = |name: &str| &processes.iter().find(|(role, _)| *role == name).unwrap().1.bus;
    let mailbox = Subject::Mailbox(MailboxId::random());
    let everybody = ROLES.as_slice();
    for (subject, publishers, subscribers) in [
        (mailbox, &["mailbox", "gateway"][..], &["gateway"][..]),
        (Subject::AccountChanged, &["registration"], &["gateway"]),
        (Subject::NumberListed, &["registration"], &["directory"]),
        (Subject::Load, everybody, &["control"]),
        (Subject::Control, &["control"], everybody),
    ] {
        for subscriber in subscribers {
            let mut subscription = of(subscriber).subscribe(subject).await.unwrap();
            for publisher in publishers {
                let hint = Bytes::copy_from_slice(publisher.as_bytes());
                of(publisher).publish(subject, hint.clone()).await.unwrap();
                assert_eq!(next(&mut *subscription).await, Event::Hint(hint), "{publisher} to {subscriber}");
            }
        }
    }
}

#[tokio::test]
async fn registration_works_through_its_queue() {
    let fleet = Fleet::start().await;
    let (tasks, registry) = (Tasks::new(), Registry::new());
    let nats = Nats::new(fleet.config("registration"), "registration", &registry, &tasks).unwrap();
    let queue =
        JetStreamWorkQueue::connect(&nats, "verification", JetStreamWorkConfig::default()).await.unwrap();
    let mut state = queue.state();
    timeout(BOUND, state.wait_for(ConnectionState::is_connected)).await.expect("the key is known").unwrap();

    // Taking makes the stream; until then an offer fails.
    let offered = async {
        while queue.offer(b"key", Bytes::from_static(b"x")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let exchange = async { tokio::join!(queue.take(NonZeroUsize::MIN), offered).0 };
    let mut items = timeout(Duration::from_secs(30), exchange).await.expect("an item comes").unwrap();
    assert_eq!(items[0].payload, "x");
    items.remove(0).done().await;
    let emptied = async {
        while queue.depth().await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, emptied).await.expect("the acknowledgement is permitted");
}

#[tokio::test]
async fn nobody_hears_what_is_not_for_them() {
    let fleet = Fleet::start().await;
    for (role, subjects) in [
        (
            "gateway",
            &[
                ">",
                "rpc.>",
                "rpc.mailbox.*.*",
                "_INBOX.>",
                "_INBOX.mailbox.>",
                "ctl.load",
                "ev.dir",
                "work.>",
            ][..],
        ),
        (
            "mailbox",
            &["d.>", "d.*.*", "ev.acct", "_INBOX.gateway.>", "rpc.registration.*.*", "rpc.mailbox.*.*"],
        ),
        ("registration", &["d.>", "rpc.mailbox.*.*", "_INBOX.gateway.>", "work.>", "$JS.>"]),
        ("directory", &["d.>", "rpc.>", "_INBOX.registration.>", "ev.acct"]),
        ("control", &["d.>", "rpc.>", "_INBOX.gateway.>", "ev.acct"]),
    ] {
        let member = fleet.member(role).await;
        for subject in subjects {
            let _subscription = member.client.subscribe(*subject).await.unwrap();
            member.denied(subject).await;
        }
    }
}

#[tokio::test]
async fn nobody_says_what_is_not_theirs() {
    let fleet = Fleet::start().await;
    const DELETE: &str = "$JS.API.STREAM.DELETE.verification";
    for (role, subjects) in [
        (
            "gateway",
            &["ev.acct", "ev.dir", "ctl.state", "_INBOX.gateway.1.x", "work.verification.ab", DELETE][..],
        ),
        (
            "mailbox",
            &["ev.acct", "ctl.state", "rpc.registration.do.1", "rpc.mailbox.append.1", "_INBOX.gateway.1.x"],
        ),
        (
            "registration",
            &["d.0.ab", "ctl.state", DELETE, "$JS.API.STREAM.PURGE.verification", "_INBOX.gateway.1.x"],
        ),
        ("directory", &["d.0.ab", "ev.acct", "ev.dir", "rpc.mailbox.append.1"]),
        ("control", &["d.0.ab", "ev.acct", "rpc.mailbox.append.1"]),
    ] {
        let member = fleet.member(role).await;
        for subject in subjects {
            member.client.publish(*subject, Bytes::new()).await.unwrap();
            member.denied(subject).await;
        }
    }
}

#[tokio::test]
async fn a_refused_subscription_fails_and_the_others_go_on() {
    let fleet = Fleet::start().await;
    let process = fleet.hints("mailbox");
    process.wait_connected().await;
    let mut control = process.bus.subscribe(Subject::Control).await.unwrap();
    let refused = timeout(BOUND, process.bus.subscribe(Subject::Mailbox(MailboxId::random()))).await.unwrap();
    assert!(matches!(refused, Err(BusError::Refused)));
    assert_eq!(process.bus.interest(), 1);

    let holder = fleet.hints("control");
    holder.wait_connected().await;
    holder.bus.publish(Subject::Control, Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(next(&mut *control).await, Event::Hint(Bytes::from_static(b"x")));
}

#[tokio::test]
async fn an_unknown_key_is_told_apart_from_an_unreachable_server() {
    let fleet = Fleet::start().await;
    let says = |expected: &'static str| {
        move |state: &LinkState| match state {
            LinkState::Disconnected { why } => why.contains(expected),
            LinkState::Connected => false,
        }
    };
    fleet.hints("stranger").wait(says("Authorization Violation")).await;
    let nobody = NatsConfig { servers: vec!["127.0.0.1:1".into()], ..NatsConfig::default() };
    Process::start(&nobody).wait(says("127.0.0.1:1: cannot connect")).await;
}
