//! Hears a subject for as long as the role runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spillway_bus::{Bus, Event, Subject};
use spillway_chassis::Tasks;
use spillway_rpc::Chain;

/// Between tries to subscribe while the bus is away.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// Hints that were lost come again within a second, so a gap needs no answer.
pub(crate) fn follow(
    bus: Arc<dyn Bus>,
    subject: Subject,
    name: &'static str,
    tasks: &Tasks,
    mut on_hint: impl FnMut(Bytes) + Send + 'static,
) {
    let cancelled = tasks.cancelled();
    let hear = async move {
        loop {
            match bus.subscribe(subject).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        match event {
                            Event::Hint(hint) => on_hint(hint),
                            Event::Lagged => tracing::debug!(?subject, "hints were lost"),
                        }
                    }
                    tracing::warn!(?subject, "subscription ended, subscribing again");
                }
                Err(error) => tracing::warn!(?subject, error = %Chain(&error), "cannot subscribe"),
            }
            tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
        }
    };
    tasks.spawn(name, async move {
        tokio::select! {
            () = cancelled => {}
            () = hear => {}
        }
    });
}
