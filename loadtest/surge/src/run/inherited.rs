//! Arrivals of workers that are gone, which this one plays in their stead.

use std::task::Poll;

use crate::load::Work;
use crate::pacer::{Due, Pacer};

/// Arrivals that were lost workers'.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    pacers: Vec<Pacer<Work>>,
}

impl Inherited {
    pub(super) fn add(&mut self, pacer: Pacer<Work>) {
        self.pacers.push(pacer);
    }

    pub(super) fn are_over(&self) -> bool {
        self.pacers.is_empty()
    }

    /// The next one that is due. Never resolves while there are none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Due<Work>> {
        std::future::poll_fn(|context| {
            let mut at = 0;
            while let Some(pacer) = self.pacers.get_mut(at) {
                match pacer.poll_next(context) {
                    Poll::Ready(Some(due)) => return Poll::Ready(Some(due)),
                    // The last one of them: whoever waits looks whether all is over.
                    Poll::Ready(None) => drop(self.pacers.remove(at)),
                    Poll::Pending => at += 1,
                }
            }
            Poll::Pending
        })
        .await
    }
}
