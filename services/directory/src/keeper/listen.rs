use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use spillway_api::internal::v1::NumberListed;
use spillway_bus::{Event, Subject, Subscription};
use spillway_rpc::Chain;
use spillway_types::NumberMac;

use super::Keeper;

/// Between tries to subscribe while the bus is away.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

impl Keeper {
    pub(super) async fn listen(&self) {
        loop {
            match self.deps.bus.subscribe(Subject::NumberListed).await {
                Ok(mut hints) => {
                    // From here on hints come; before, there may have been some.
                    self.catch_up_now.notify_one();
                    self.hear(hints.as_mut()).await;
                    tracing::warn!("hints of new entries ended, subscribing again");
                }
                Err(error) => tracing::warn!(error = %Chain(&error), "no hints of new entries"),
            }
            tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
        }
    }

    async fn hear(&self, hints: &mut dyn Subscription) {
        while let Some(event) = hints.next().await {
            match event {
                Event::Hint(hint) => self.on_hint(hint),
                Event::Lagged => {
                    tracing::debug!("hints of new entries were lost");
                    self.catch_up_now.notify_one();
                }
            }
        }
    }

    fn on_hint(&self, hint: Bytes) {
        let listed = NumberListed::decode(hint).ok();
        match listed.and_then(|listed| NumberMac::try_from(&listed.number[..]).ok()) {
            Some(number) => {
                self.deps.filter.add(&[number]);
                self.deps.metrics.filter.hints.inc();
            }
            None => tracing::error!("a hint of a new entry cannot be read"),
        }
    }
}
