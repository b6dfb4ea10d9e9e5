use bytes::Bytes;
use prost::Message;
use spillway_api::internal::v1::ControlState;
use spillway_bus::Subject;
use spillway_chassis::Tasks;
use spillway_store::leases::FencingToken;

use crate::follow::follow;
use crate::{Control, Shared};

impl Control {
    /// Hears what the holder says, to step down at once when that is a later holder than this process.
    pub(crate) fn heed(&self, tasks: &Tasks) {
        let (shared, bus) = (self.shared.clone(), self.shared.bus.clone());
        follow(bus, Subject::Control, "control states", tasks, move |hint| shared.on_state(hint));
    }
}

impl Shared {
    fn on_state(&self, hint: Bytes) {
        match ControlState::decode(hint) {
            Ok(state) if !self.guard.heard(FencingToken(state.token)) => {
                tracing::debug!(token = state.token, "a holder of the past has spoken");
            }
            Ok(state) => {
                if let Some(room) = &state.room {
                    self.room.heard(FencingToken(state.token), room);
                }
            }
            Err(error) => tracing::debug!(%error, "a control state cannot be decoded"),
        }
    }
}
