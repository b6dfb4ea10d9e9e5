use std::fmt;

use spillway_admission::{Steering, Tier};
use spillway_api::v1::status_server::Status as StatusService;
use spillway_api::v1::{ClassStatus, GetStatusRequest, GetStatusResponse};
use spillway_rpc::Hop;
use tonic::{Request, Response, Status};

use crate::room::Room;

/// Tells what the controllers of the public port and of the waiting room decided, so it cannot disagree with them.
#[derive(Clone)]
pub struct StatusApi {
    pub(crate) hop: Hop,
    pub(crate) room: Room,
}

#[tonic::async_trait]
impl StatusService for StatusApi {
    async fn get(&self, _request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let view = self.hop.admission().view();
        let class = |tier: Tier| ClassStatus {
            name: tier.name().to_owned(),
            open_ratio: view.thresholds[tier as usize].openness(tier),
            users_waiting: view.distinct[tier as usize] as u64,
        };
        Ok(Response::new(GetStatusResponse {
            brownout_rung: view.rung.into(),
            brownout_held: matches!(view.steering, Steering::Set(_)),
            overloaded: view.overloaded,
            classes: Tier::ALL.into_iter().skip(1).map(class).collect(),
            sign_ups: self.room.standing(),
        }))
    }
}

impl fmt::Debug for StatusApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StatusApi(..)")
    }
}
