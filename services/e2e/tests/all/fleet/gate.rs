//! A port that refuses connections until it is opened, and passes them on from then on.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// The way to a server. Connections end when it is dropped.
pub(crate) struct Gate {
    pub(crate) address: String,
    server: String,
    /// Bound, so that nobody else gets the port, and not listening.
    closed: Option<TcpSocket>,
    passing: JoinSet<()>,
}

impl Gate {
    pub(crate) fn closed(server: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        Self { address, server: server.to_owned(), closed: Some(socket), passing: JoinSet::new() }
    }

    pub(crate) fn open(&mut self) {
        let listener = self.closed.take().expect("it is opened once").listen(64).unwrap();
        let server = self.server.clone();
        self.passing.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let server = server.clone();
                connections.spawn(async move {
                    let mut server = TcpStream::connect(server).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
    }
}
