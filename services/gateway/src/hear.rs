//! What control says each second, heard once for all in this gateway who go by it.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use spillway_api::internal::v1::ControlState;
use spillway_bus::{Bus, Event, Subject};
use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use tokio::time::Instant;

use crate::balance::Balance;
use crate::room::Room;

/// Between tries to subscribe while the bus is away. The frontier goes on by itself meanwhile.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn control(bus: Arc<dyn Bus>, room: Room, balance: Balance, tasks: &Tasks) {
    let cancelled = tasks.cancelled();
    let hear = async move {
        loop {
            match bus.subscribe(Subject::Control).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        let Event::Hint(hint) = event else { continue };
                        match ControlState::decode(hint) {
                            Ok(mut said) => {
                                balance.heard(said.token, std::mem::take(&mut said.roles), Instant::now());
                                room.heard(said);
                            }
                            Err(error) => tracing::debug!(%error, "a control state cannot be decoded"),
                        }
                    }
                    tracing::warn!("control states ended, subscribing again");
                }
                Err(error) => tracing::warn!(error = %Chain(&error), "no control states"),
            }
            tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
        }
    };
    tasks.spawn("control states", async move {
        tokio::select! {
            () = cancelled => {}
            () = hear => {}
        }
    });
}
