use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use spillway_api::internal::v1::control_server::Control;
use spillway_api::internal::v1::{
    GetFleetRequest, GetFleetResponse, LentNumbers, ReportRoomRequest, ReportRoomResponse,
};
use spillway_api::{Reason, Refusal};
use tonic::{Request, Response, Status};

/// Lends numbers in order, and remembers what it was told.
#[derive(Clone, Default)]
pub(crate) struct FakeControl(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) reports: VecDeque<ReportRoomRequest>,
    pub(crate) lent: u64,
    /// Refuses as many calls, as a process does that does not hold the lease.
    pub(crate) not_the_holder: usize,
    pub(crate) refused: usize,
}

impl FakeControl {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

#[tonic::async_trait]
impl Control for FakeControl {
    async fn get_fleet(&self, _: Request<GetFleetRequest>) -> Result<Response<GetFleetResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn report_room(
        &self,
        request: Request<ReportRoomRequest>,
    ) -> Result<Response<ReportRoomResponse>, Status> {
        let report = request.into_inner();
        let mut state = self.state();
        if state.not_the_holder > 0 {
            state.not_the_holder -= 1;
            state.refused += 1;
            return Err(Refusal::new(Reason::Unavailable, "another process has the lease").into_status());
        }
        let lent = (report.wanted > 0).then(|| {
            let first = state.lent + 1;
            state.lent += u64::from(report.wanted);
            LentNumbers { token: 1, first, count: report.wanted }
        });
        state.reports.push_back(report);
        Ok(Response::new(ReportRoomResponse { lent }))
    }
}
