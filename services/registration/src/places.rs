//! Hears from control where codes of all registration processes go that nobody types.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use spillway_api::internal::v1::ControlState;
use spillway_bus::{Bus, Event, Subject};
use spillway_chassis::Tasks;
use spillway_rpc::Chain;

use crate::dispatch::Routes;
use crate::routing::{PlaceCount, PlaceKey};

/// Between tries to subscribe while the bus is away. This process goes by its own counts meanwhile.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn hear(routes: Arc<Routes>, bus: Arc<dyn Bus>, tasks: Tasks) {
    let mut newest = 0;
    let hear = async {
        loop {
            match bus.subscribe(Subject::Control).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        if let Event::Hint(hint) = event {
                            on_state(&routes, hint, &mut newest);
                        }
                    }
                }
                Err(error) => tracing::debug!(error = %Chain(&error), "no control states"),
            }
            tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
        }
    };
    tokio::select! {
        () = tasks.cancelled() => {}
        () = hear => {}
    }
}

/// What a holder of the past says is passed over.
fn on_state(routes: &Routes, hint: Bytes, newest: &mut u64) {
    match ControlState::decode(hint) {
        Ok(state) if state.token >= *newest => {
            *newest = state.token;
            let place = |count: &spillway_api::internal::v1::PlaceCount| {
                let sane = |amount: f64| if amount.is_finite() { amount.max(0.0) } else { 0.0 };
                let (codes, proofs) = (sane(count.codes), sane(count.proofs));
                (PlaceKey(count.place), PlaceCount { codes, proofs, out: sane(count.out) })
            };
            routes.heard(state.places.iter().map(place).collect());
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "a control state cannot be decoded"),
    }
}
