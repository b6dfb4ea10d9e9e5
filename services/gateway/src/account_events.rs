//! Hears of changed accounts, for as long as the gateway runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use spillway_api::account_id;
use spillway_api::internal::v1::AccountChanged;
use spillway_bus::{Bus, Event, Subject, Subscription};
use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use spillway_types::Clock;

use crate::changed_accounts::ChangedAccounts;
use crate::device_cache::DeviceCache;

/// Between tries to subscribe while the bus is away. The caches' time to live covers the gap.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct AccountEvents {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) devices: Arc<DeviceCache>,
    pub(crate) changed: Arc<ChangedAccounts>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl AccountEvents {
    /// Runs until the tasks are cancelled.
    pub(crate) fn follow(self, tasks: &Tasks) {
        let cancelled = tasks.cancelled();
        tasks.spawn("account events", async move {
            tokio::select! {
                () = cancelled => {}
                () = self.run() => {}
            }
        });
    }

    async fn run(&self) {
        let mut first = true;
        loop {
            match self.bus.subscribe(Subject::AccountChanged).await {
                Ok(mut events) => {
                    if !first {
                        self.changed.note_gap(self.clock.now());
                    }
                    first = false;
                    // What was loaded before the subscription stood may be old already.
                    self.devices.forget_all();
                    self.listen(events.as_mut()).await;
                    tracing::warn!("account events ended, subscribing again");
                }
                Err(error) => tracing::warn!(error = %Chain(&error), "no account events"),
            }
            tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
        }
    }

    async fn listen(&self, events: &mut dyn Subscription) {
        while let Some(event) = events.next().await {
            match event {
                Event::Hint(hint) => self.on_hint(hint),
                Event::Lagged => {
                    tracing::warn!("account events were lost, looking everything up again");
                    self.changed.note_gap(self.clock.now());
                    self.devices.forget_all();
                }
            }
        }
    }

    fn on_hint(&self, hint: Bytes) {
        let event = AccountChanged::decode(hint).ok();
        match event.and_then(|event| account_id("account_id", &event.account_id).ok()) {
            Some(account) => {
                // In this order: a proof that is looked up because of the first must not find the old list.
                self.devices.forget(account);
                self.changed.note(account, self.clock.now());
            }
            None => tracing::error!("an account event cannot be read"),
        }
    }
}
