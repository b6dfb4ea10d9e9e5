//! What the client library alone can do, for measurements of what we put on top of it.

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;
use spillway_chassis::Tasks;

use super::{ConnectError, ConnectionState, Nats};

/// The library's own requests, answered by the library's own responder, each over a connection of its own.
#[derive(Clone, Debug)]
pub struct RawRequests {
    client: Client,
    subject: async_nats::Subject,
}

impl RawRequests {
    /// Answers each request with its own payload. Waits until NATS is reached.
    ///
    /// # Errors
    ///
    /// When the settings of NATS are wrong.
    pub async fn open(nats: &Nats, subject: &str, tasks: &Tasks) -> Result<Self, ConnectError> {
        let client = connected(nats).await?;
        let responder = connected(nats).await?;
        let subject = async_nats::Subject::from(subject.to_owned());
        let mut requests =
            responder.queue_subscribe(subject.clone(), "floor".to_owned()).await.expect("a valid subject");
        let cancelled = tasks.cancelled();
        let answers = responder.clone();
        let answer = async move {
            while let Some(request) = requests.next().await {
                if let Some(reply) = request.reply {
                    drop(answers.publish(reply, request.payload).await);
                }
            }
        };
        tasks.spawn("nats floor", async move {
            tokio::select! {
                () = answer => {}
                () = cancelled => {}
            }
        });
        // A request over another connection could overtake the subscription and find nobody; this one is behind it.
        let behind = responder.request(subject.clone(), Bytes::new()).await;
        behind.expect("the responder has subscribed before it asked");
        Ok(Self { client, subject })
    }

    /// The answer's payload; `None` when there was none.
    pub async fn ask(&self, payload: Bytes) -> Option<Bytes> {
        self.client.request(self.subject.clone(), payload).await.ok().map(|answer| answer.payload)
    }
}

async fn connected(nats: &Nats) -> Result<Client, ConnectError> {
    let mut connection = nats.connect("floor").await?;
    let up = connection.state.wait_for(ConnectionState::is_connected).await;
    up.expect("somebody watches a connection as long as its client lives");
    Ok(connection.client)
}
