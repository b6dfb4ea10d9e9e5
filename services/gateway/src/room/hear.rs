use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use spillway_api::internal::v1::ControlState;
use spillway_bus::{Bus, Event, Subject};
use spillway_chassis::Tasks;
use spillway_rpc::{Chain, frontier_of, outlook_of};
use spillway_types::Timestamp;

use super::Room;

/// Between tries to subscribe while the bus is away. The frontier goes on by itself meanwhile.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

impl Room {
    pub(super) fn hear(&self, bus: Arc<dyn Bus>, tasks: &Tasks) {
        let (room, cancelled) = (self.clone(), tasks.cancelled());
        let hear = async move {
            loop {
                match bus.subscribe(Subject::Control).await {
                    Ok(mut events) => {
                        while let Some(event) = events.next().await {
                            if let Event::Hint(hint) = event {
                                room.on_state(hint);
                            }
                        }
                        tracing::warn!("control states ended, subscribing again");
                    }
                    Err(error) => tracing::warn!(error = %Chain(&error), "no control states"),
                }
                tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
            }
        };
        tasks.spawn("waiting room frontier", async move {
            tokio::select! {
                () = cancelled => {}
                () = hear => {}
            }
        });
    }

    fn on_state(&self, hint: Bytes) {
        match ControlState::decode(hint) {
            Ok(ControlState { token, sent_at_us, room: Some(room), .. }) => {
                let (polls_max, opens_at_us, bound) =
                    (room.polls_per_gateway, room.opens_at_us, room.bound());
                let frontier = frontier_of(token, Timestamp::from_micros(sent_at_us), &room);
                let (outlook, now) = (outlook_of(room), self.now());
                let mut state = self.state();
                if state.view.hear(&frontier, now) {
                    state.draw(&self.0.lottery_key, frontier.pool);
                    state.opens_at = (opens_at_us > 0).then(|| Timestamp::from_micros(opens_at_us));
                    state.begin_generation(outlook.generation);
                    state.outlook = Some(Arc::new(outlook));
                    state.polls_max = polls_max;
                    state.bound = bound;
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a control state cannot be decoded"),
        }
    }
}
