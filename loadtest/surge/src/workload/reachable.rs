//! Whether there is a service.

use std::time::Duration;

use spillway_api::v1::GetStatusRequest;
use spillway_api::v1::status_client::StatusClient;
use spillway_client::{Client, ClientConfig};
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Endpoint;

/// The time a person is willing to wait for an error.
const ANSWERS_WITHIN: Duration = Duration::from_millis(4_500);

/// Whether a Spillway answers at an address.
pub async fn is_reachable(address: &str) -> bool {
    timeout(ANSWERS_WITHIN, answers(address)).await.unwrap_or(false)
}

async fn answers(address: &str) -> bool {
    if Client::connect(address, ClientConfig::default()).await.is_err() {
        return false;
    }
    let Ok(endpoint) = Endpoint::from_shared(address.to_owned()) else { return false };
    // With TLS, a connection alone is proof enough.
    if endpoint.uri().scheme_str() != Some("http") {
        return true;
    }
    // Whatever takes connections and says nothing, or speaks something else, is not the service.
    let Ok(channel) = endpoint.connect().await else { return false };
    match StatusClient::new(channel).get(GetStatusRequest {}).await {
        Ok(_) => true,
        // Who refuses it is there. Who does not know it speaks gRPC, and is another service or another port.
        Err(status) => !matches!(
            status.code(),
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Unknown
                | Code::Internal
                | Code::Unimplemented
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;

    /// Takes every connection, and says this.
    async fn says(words: &'static [u8]) -> (JoinSet<()>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut kept = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(words).await.unwrap();
                kept.push(stream);
            }
        });
        (tasks, address)
    }

    #[tokio::test]
    async fn who_says_nothing_or_something_else_is_no_service() {
        assert!(!is_reachable("http://127.0.0.1:1").await);
        assert!(!is_reachable("nonsense").await);
        let (_mute, address) = says(b"").await;
        assert!(!is_reachable(&address).await, "it takes connections");
        let (_other, address) = says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        assert!(!is_reachable(&address).await, "it speaks HTTP/1");
    }
}
