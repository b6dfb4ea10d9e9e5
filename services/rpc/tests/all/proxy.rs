//! A way to NATS that can be cut.

use std::sync::Arc;

use spillway_chassis::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::world::nats_address;

pub(crate) struct Proxy {
    pub(crate) port: u16,
    open: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) async fn new(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, watched) = watch::channel(true);
        tasks.spawn("proxy", accept(listener, watched, tasks.clone()));
        Self { port, open }
    }

    /// Ends all connections. New ones are ended at once.
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.open.send_replace(true);
    }
}

async fn accept(listener: TcpListener, open: watch::Receiver<bool>, tasks: Tasks) {
    let address: Arc<str> = nats_address().into();
    while let Ok((mut near, _)) = listener.accept().await {
        let (mut open, address) = (open.clone(), Arc::clone(&address));
        tasks.spawn("proxied", async move {
            if !*open.borrow_and_update() {
                return;
            }
            let mut far = TcpStream::connect(&*address).await.unwrap();
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = open.wait_for(|open| !open) => {}
            }
        });
    }
}
