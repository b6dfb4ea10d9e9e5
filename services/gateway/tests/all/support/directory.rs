use std::sync::{Arc, Mutex, MutexGuard};

use spillway_api::internal::v1::directory_server::Directory;
use spillway_api::internal::v1::{LookupRequest, LookupResponse};
use spillway_api::{Reason, Refusal, v1};
use tonic::{Request, Response, Status};

/// Knows everybody whose number ends in 7.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeDirectory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Numbers asked about.
    pub(crate) asked: usize,
    /// The next calls fail.
    pub(crate) failures: usize,
}

impl FakeDirectory {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

#[tonic::async_trait]
impl Directory for FakeDirectory {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let LookupRequest { numbers, spare_store } = request.into_inner();
        let mut state = self.state();
        if state.failures > 0 {
            state.failures -= 1;
            return Err(Refusal::new(Reason::Unavailable, "the directory did not answer").into_status());
        }
        state.asked += numbers.len();
        let known = numbers.into_iter().enumerate().filter(|(_, number)| number.ends_with('7'));
        let mut answer = LookupResponse::default();
        for (place, number) in known {
            if spare_store {
                answer.open.push(place.try_into().unwrap());
            } else {
                answer.matches.push(v1::Match { number, account_id: vec![7; 16].into() });
            }
        }
        Ok(Response::new(answer))
    }
}
