use prometheus::Registry;
use spillway_chassis::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::NatsConfig;
use super::*;
use crate::conformance;

const MANY: NonZeroUsize = NonZeroUsize::new(100).unwrap();
const REDELIVERY: Duration = Duration::from_secs(1);
/// Nothing here takes this long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A stream that no other test has. Deleted at the end of the test.
struct Fresh {
    servers: String,
    prefix: String,
    tasks: Tasks,
}

impl Fresh {
    fn new() -> Self {
        let servers = std::env::var("SPILLWAY_TEST_NATS").expect(
            "SPILLWAY_TEST_NATS is not set: run `cargo xtask test`, which starts what the tests need",
        );
        let prefix = format!("work-{:016x}", rand::random::<u64>());
        Self { servers, prefix, tasks: Tasks::new() }
    }

    /// A queue as another process would have it.
    async fn queue_with(&self, config: JetStreamWorkConfig) -> JetStreamWorkQueue {
        let nats = NatsConfig {
            servers: self.servers.split(',').map(str::to_owned).collect(),
            prefix: self.prefix.clone(),
            ..NatsConfig::default()
        };
        let nats = Nats::new(nats, "registration", &Registry::new(), &self.tasks).unwrap();
        let queue = JetStreamWorkQueue::connect(&nats, "verification", config).await.unwrap();
        timeout(PATIENCE, queue.state().wait_for(ConnectionState::is_connected)).await.unwrap().unwrap();
        queue
    }

    async fn queue(&self) -> JetStreamWorkQueue {
        let config = JetStreamWorkConfig { redelivery: REDELIVERY, ..JetStreamWorkConfig::default() };
        self.queue_with(config).await
    }

    /// A queue whose stream exists.
    async fn ready(&self) -> JetStreamWorkQueue {
        let queue = self.queue().await;
        queue.consumer().await.unwrap();
        queue
    }
}

async fn take(queue: &JetStreamWorkQueue) -> Vec<Item> {
    timeout(PATIENCE, queue.take(MANY)).await.expect("an item is given out").unwrap()
}

async fn offer(queue: &JetStreamWorkQueue, payload: &'static str) {
    queue.offer(b"key", Bytes::from_static(payload.as_bytes())).await.unwrap();
}

async fn until_depth(queue: &JetStreamWorkQueue, depth: u64) {
    let reached = async {
        while queue.depth().await.unwrap() != depth {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("the depth is never {depth}"));
}

#[tokio::test]
async fn conforms() {
    let fresh = Fresh::new();
    let queue = fresh.ready().await;
    conformance::work::all(&queue).await;
    queue.delete().await.unwrap();
}

/// What the module's documentation says about replaced messages, for each way in which the first worker ends.
#[tokio::test]
async fn a_replaced_message_that_is_being_worked_on() {
    let fresh = Fresh::new();
    let queue = fresh.ready().await;
    for ending in ["done", "retry", "death"] {
        offer(&queue, "first").await;
        let first = take(&queue).await.remove(0);
        offer(&queue, "second").await;
        assert_eq!(queue.depth().await.unwrap(), 1, "the first is gone from the stream");
        let second = take(&queue).await.remove(0);
        assert_eq!((&second.payload[..], second.deliveries), (&b"second"[..], 1), "while the first is held");
        match ending {
            "done" => first.done().await,
            "retry" => first.retry_after(Duration::ZERO).await,
            _ => drop(first),
        }
        // Comes after the acknowledgement, on the same connection.
        assert_eq!(queue.depth().await.unwrap(), 1, "{ending} of the first does not take the second away");
        drop(second);
        let again = take(&queue).await;
        let seen: Vec<_> = again.iter().map(|item| (&item.payload[..], item.deliveries)).collect();
        assert_eq!(seen, [(&b"second"[..], 2)], "{ending}: the first does not come again");
        for item in again {
            item.done().await;
        }
        until_depth(&queue, 0).await;
    }
    queue.delete().await.unwrap();
}

#[tokio::test]
async fn several_processes_make_the_stream_at_once() {
    let fresh = Fresh::new();
    let queues = futures::future::join_all((0..8).map(|_| fresh.queue())).await;
    let made = futures::future::join_all(queues.iter().map(JetStreamWorkQueue::consumer)).await;
    for consumer in made {
        consumer.unwrap();
    }
    offer(&queues[0], "payload").await;
    for item in take(&queues[7]).await {
        item.done().await;
    }
    queues[0].delete().await.unwrap();
}

#[tokio::test]
async fn settings_that_changed_are_taken_over() {
    let fresh = Fresh::new();
    fresh.ready().await;
    let config = JetStreamWorkConfig { held_max: 7, items_max: 70, ..JetStreamWorkConfig::default() };
    let queue = fresh.queue_with(config).await;
    let consumer = queue.consumer().await.unwrap();
    assert_eq!(consumer.cached_info().config.max_ack_pending, 7);
    let stream = queue.jetstream.get_stream(&queue.stream).await.unwrap();
    assert_eq!(stream.cached_info().config.max_messages, 70);
    queue.delete().await.unwrap();
}

/// Offers to a stream that is gone fail and are quick about it; the next worker that takes makes it again.
#[tokio::test]
async fn a_lost_stream_is_made_again() {
    let fresh = Fresh::new();
    let queue = fresh.queue().await;
    let early = queue.offer(b"key", Bytes::new()).await.unwrap_err();
    assert!(matches!(early, WorkError::Unavailable(_)), "{early:?}");
    queue.consumer().await.unwrap();

    let (taken, ()) = tokio::join!(biased; queue.take(MANY), async {
        until_depth(&queue, 0).await;
        queue.delete().await.unwrap();
    });
    assert!(matches!(taken, Err(WorkError::Unavailable(_))), "{taken:?}");
    let offers = async {
        while queue.offer(b"key", Bytes::new()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (taken, ()) = tokio::join!(take(&queue), offers);
    assert_eq!(taken.len(), 1);
    queue.delete().await.unwrap();
}

#[tokio::test]
async fn what_is_not_an_item_stops_nobody() {
    let fresh = Fresh::new();
    let queue = fresh.ready().await;
    for token in ["xyz", "abc", "€€"] {
        let subject = format!("{}{token}", queue.subjects);
        queue.jetstream.publish(subject, Bytes::new()).await.unwrap().await.unwrap();
    }
    offer(&queue, "payload").await;
    assert_eq!(take(&queue).await.len(), 1);
    queue.delete().await.unwrap();
}

/// A server that is not there: every call fails at once instead of waiting.
#[tokio::test]
async fn without_a_server_calls_fail_at_once() {
    let config = NatsConfig { servers: vec!["127.0.0.1:9".to_owned()], ..NatsConfig::default() };
    let nats = Nats::new(config, "registration", &Registry::new(), &Tasks::new()).unwrap();
    let config = JetStreamWorkConfig::default();
    let queue = JetStreamWorkQueue::connect(&nats, "verification", config).await.unwrap();
    let started = Instant::now();
    assert!(queue.offer(b"key", Bytes::new()).await.is_err());
    assert!(queue.restore(b"key", Bytes::new()).await.is_err());
    assert!(queue.take(MANY).await.is_err());
    assert!(queue.depth().await.is_err());
    assert!(started.elapsed() < CALL_TIMEOUT);
}

/// A connection that stands and carries nothing: a worker notices, and takes again when it carries.
#[tokio::test]
async fn a_server_that_falls_silent_holds_no_worker() {
    let fresh = Fresh::new();
    let queue = fresh.ready().await;
    let (silence, silent) = watch::channel(false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let behind = Fresh {
        servers: listener.local_addr().unwrap().to_string(),
        prefix: fresh.prefix.clone(),
        tasks: fresh.tasks.clone(),
    };
    let server = fresh.servers.split(',').next().unwrap().trim_start_matches("nats://").to_owned();
    fresh.tasks.spawn("proxy", async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(server).await.unwrap();
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let mut buffer = vec![0; 64 * 1024];
        let requests = tokio::io::copy(&mut from_client, &mut to_server);
        let answers = async {
            while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                if !*silent.borrow() {
                    to_client.write_all(&buffer[..read]).await.unwrap();
                }
            }
        };
        drop(tokio::join!(requests, answers));
    });
    let worker = behind.ready().await;
    silence.send_replace(true);
    let error = timeout(PATIENCE, worker.take(MANY)).await.expect("it gives up").unwrap_err();
    assert!(matches!(error, WorkError::Unavailable(_)), "{error:?}");

    silence.send_replace(false);
    offer(&queue, "payload").await;
    let again = async {
        loop {
            if let Ok(items) = worker.take(MANY).await {
                return items;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, again).await.expect("it takes again").len(), 1);
    queue.delete().await.unwrap();
}
