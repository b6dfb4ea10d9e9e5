use bytes::Bytes;
use prost::Message;
use spillway_api::internal::v1::LoadBeacon;
use spillway_bus::Subject;
use spillway_chassis::Tasks;
use tokio::time::Instant;

use crate::fleet::BeaconError;
use crate::follow::follow;
use crate::metrics::BeaconOutcome;
use crate::{Control, Shared};

impl Control {
    /// Every process of the role collects, not only the holder, so that a new holder knows the fleet.
    pub(crate) fn collect(&self, tasks: &Tasks) {
        let (shared, bus) = (self.shared.clone(), self.shared.bus.clone());
        follow(bus, Subject::Load, "control beacons", tasks, move |hint| shared.on_beacon(hint));
    }
}

impl Shared {
    fn on_beacon(&self, hint: Bytes) {
        let outcome = match LoadBeacon::decode(hint) {
            Ok(beacon) => match self.fleet.heard(beacon, Instant::now(), self.clock.now()) {
                Ok(()) => BeaconOutcome::Counted,
                Err(BeaconError::Full) => BeaconOutcome::Full,
                Err(BeaconError::Malformed(error)) => {
                    tracing::debug!(%error, "a load beacon is malformed");
                    BeaconOutcome::Malformed
                }
            },
            Err(error) => {
                tracing::debug!(%error, "a load beacon cannot be decoded");
                BeaconOutcome::Malformed
            }
        };
        self.metrics.count_beacon(outcome);
    }
}
