//! Several gateways of one service, where no balancer stands in front of them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rand::Rng as _;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::connect::ConnectError;

/// Where a service can be reached: at least one `http://host:port`.
#[derive(Clone, Debug)]
pub(crate) struct Addresses(Arc<[Endpoint]>);

impl Addresses {
    /// Addresses separated by commas.
    pub(crate) fn parse(text: &str) -> Result<Self, ConnectError> {
        let endpoints = text.split(',').map(|address| endpoint(address.trim())).collect::<Result<_, _>>()?;
        Ok(Self(endpoints))
    }

    /// Changes the settings of the connection.
    pub(crate) fn map(self, change: impl Fn(Endpoint) -> Endpoint) -> Self {
        Self(self.0.iter().cloned().map(change).collect())
    }

    pub(crate) async fn connect(self, bound: Duration) -> Result<Channel, tonic::transport::Error> {
        match &*self.0 {
            [endpoint] => endpoint.connect().await,
            several => {
                // The first gives the settings and the name in requests; the connection goes to any of them.
                let settings = several[0].clone();
                settings.connect_with_connector(service_fn(move |_| self.clone().any(bound))).await
            }
        }
    }

    pub(crate) fn connect_lazy(self, bound: Duration) -> Channel {
        match &*self.0 {
            [endpoint] => endpoint.connect_lazy(),
            several => {
                let settings = several[0].clone();
                settings.connect_with_connector_lazy(service_fn(move |_| self.clone().any(bound)))
            }
        }
    }

    /// From a random one on, so that a gateway that went away does not send everybody to its neighbour.
    async fn any(self, bound: Duration) -> io::Result<TokioIo<TcpStream>> {
        let first = rand::rng().random_range(0..self.0.len());
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for at in 0..self.0.len() {
            let uri = self.0[(first + at) % self.0.len()].uri();
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let connecting = TcpStream::connect((host, uri.port_u16().unwrap_or(80)));
            match tokio::time::timeout(bound, connecting).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(TokioIo::new(stream));
                }
                Ok(Err(error)) => last = error,
                Err(late) => last = late.into(),
            }
        }
        Err(last)
    }
}

fn endpoint(address: &str) -> Result<Endpoint, ConnectError> {
    let wrong = || ConnectError::Address(address.to_owned());
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| wrong())?;
    if endpoint.uri().host().is_none() || endpoint.uri().scheme().is_none() {
        return Err(wrong());
    }
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn each_address_must_be_one() {
        assert_eq!(Addresses::parse("http://127.0.0.1:1, http://[::1]:2").unwrap().0.len(), 2);
        for wrong in ["", "127.0.0.1:1", "http://127.0.0.1:1,", "http://127.0.0.1:1,nonsense"] {
            assert!(matches!(Addresses::parse(wrong), Err(ConnectError::Address(_))), "{wrong}");
        }
    }

    #[tokio::test]
    async fn the_next_one_is_tried_when_one_is_gone() {
        let here = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = format!("http://{},http://{}", gone.local_addr().unwrap(), here.local_addr().unwrap());
        drop(gone);
        let addresses = Addresses::parse(&text).unwrap();
        for _ in 0..8 {
            let stream = addresses.clone().any(Duration::from_secs(5)).await.unwrap();
            assert_eq!(stream.inner().peer_addr().unwrap(), here.local_addr().unwrap());
        }
    }
}
