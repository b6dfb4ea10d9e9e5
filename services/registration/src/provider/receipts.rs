//! Receipts on their way from a provider to whoever counts them.

use tokio::sync::{Mutex, mpsc};

use super::Receipt;

/// A receipt is about 100 bytes. What finds no room is lost, as receipts may be.
const ON_THE_WAY_MAX: usize = 4_096;

#[derive(Debug)]
pub(super) struct Receipts {
    sender: mpsc::Sender<Receipt>,
    receiver: Mutex<mpsc::Receiver<Receipt>>,
}

impl Default for Receipts {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(ON_THE_WAY_MAX);
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

impl Receipts {
    pub(super) fn sender(&self) -> mpsc::Sender<Receipt> {
        self.sender.clone()
    }

    pub(super) async fn next(&self) -> Receipt {
        self.receiver.lock().await.recv().await.expect("a sender is kept beside the receiver")
    }
}
