use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use spillway_api::internal::v1::{ControlState, RoomMode, RoomState};
use spillway_bus::{Bus, Event, Subject};
use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use spillway_types::Timestamp;
use spillway_waiting_room::{Crowd, Frontier, Mode, Outlook};

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
                let (polls_max, bound) = (room.polls_per_gateway, room.bound());
                let (frontier, outlook) = read(token, sent_at_us, room);
                let now = self.now();
                let mut state = self.state();
                if state.view.hear(&frontier, now) {
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

fn read(token: u64, sent_at_us: u64, room: RoomState) -> (Frontier, Outlook) {
    let mut marks = [0; 4];
    marks.iter_mut().zip(&room.marks).for_each(|(mark, sent)| *mark = *sent);
    let frontier = Frontier {
        epoch: token,
        number: room.number,
        at: Timestamp::from_micros(sent_at_us),
        f: room.frontier,
        speed: room.speed,
        rate: room.rate,
        show_up: room.show_up,
        floor: room.floor,
        mode: match room.mode() {
            RoomMode::Overload => Mode::Overload,
            RoomMode::Stopped => Mode::Stopped,
            RoomMode::Open => Mode::Open,
            RoomMode::Paced | RoomMode::Unspecified => Mode::Paced,
        },
        issued: room.issued,
        pool: None,
        marks,
    };
    let outlook = Outlook {
        pace: room.pace,
        slow: room.slow,
        fast: room.fast,
        leaving: room.leaving,
        low: room.low,
        high: room.high,
        slower: room.slower,
        stretch: room.stretch,
        generation: room.generation,
        crowd: Crowd::from_knots(room.knot_places.into_iter().zip(room.knot_counts).collect()),
    };
    (frontier, outlook)
}
