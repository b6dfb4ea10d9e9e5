//! A TCP proxy in front of a server, to break connections with.

use spillway_chassis::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// What clients send is taken and goes nowhere.
    Swallow,
    /// Connections are closed, those that there are and new ones.
    Refuse,
}

/// Ends with its connections when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: String,
    mode: watch::Sender<Mode>,
    swallowed: watch::Sender<u64>,
    tasks: Tasks,
}

impl Proxy {
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let proxy = Self {
            address,
            mode: watch::channel(Mode::Pass).0,
            swallowed: watch::channel(0).0,
            tasks: Tasks::new(),
        };
        let (server, mode, swallowed) = (server.to_owned(), proxy.mode.clone(), proxy.swallowed.clone());
        let (tasks, cancelled) = (proxy.tasks.clone(), proxy.tasks.cancelled());
        proxy.tasks.spawn("proxy", async move {
            tokio::pin!(cancelled);
            loop {
                let (client, _peer) = tokio::select! {
                    () = &mut cancelled => return,
                    accepted = listener.accept() => accepted.unwrap(),
                };
                if *mode.borrow() != Mode::Refuse {
                    let forward = forward(client, server.clone(), mode.subscribe(), swallowed.clone());
                    let (cancelled, mut mode) = (tasks.cancelled(), mode.subscribe());
                    let refused = async move {
                        let _mode = mode.wait_for(|mode| *mode == Mode::Refuse).await;
                    };
                    tasks.spawn("proxied connection", async move {
                        tokio::select! {
                            () = cancelled => {}
                            () = refused => {}
                            _ended = forward => {}
                        }
                    });
                }
            }
        });
        proxy
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Pieces that went nowhere.
    pub(crate) fn swallowed(&self) -> u64 {
        *self.swallowed.borrow()
    }

    pub(crate) async fn wait_swallowed(&self, count: u64) {
        let mut swallowed = self.swallowed.subscribe();
        swallowed.wait_for(|swallowed| *swallowed >= count).await.unwrap();
    }
}

async fn forward(
    mut client: TcpStream,
    server: String,
    mode: watch::Receiver<Mode>,
    swallowed: watch::Sender<u64>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read? {
                0 => return Ok(()),
                _ if *mode.borrow() == Mode::Swallow => swallowed.send_modify(|count| *count += 1),
                count => server.write_all(&up[..count]).await?,
            },
            read = server.read(&mut down) => match read? {
                0 => return Ok(()),
                count => client.write_all(&down[..count]).await?,
            },
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}
