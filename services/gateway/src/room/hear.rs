//! What control says, taken over.

use std::sync::Arc;

use spillway_api::internal::v1::ControlState;
use spillway_rpc::{frontier_of, outlook_of};
use spillway_types::Timestamp;

use super::Room;

impl Room {
    pub(crate) fn heard(&self, said: ControlState) {
        let ControlState { token, sent_at_us, room: Some(room), .. } = said else { return };
        let (polls_max, opens_at_us, bound) = (room.polls_per_gateway, room.opens_at_us, room.bound());
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
}
