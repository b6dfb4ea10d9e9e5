use spillway_api::internal::v1::directory_server;
use spillway_api::internal::v1::{LookupRequest, LookupResponse};
use spillway_api::v1::Match;
use spillway_rpc::into_status;
use tonic::{Request, Response, Status};

use crate::Directory;

#[tonic::async_trait]
impl directory_server::Directory for Directory {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let LookupRequest { numbers, spare_store } = request.into_inner();
        let found = self.lookup(numbers, spare_store).await.map_err(into_status)?;
        let matches = found
            .matches
            .into_iter()
            .map(|(number, account)| Match { number, account_id: account.as_bytes().to_vec().into() })
            .collect();
        let open = found.open.into_iter().map(|place| u32::try_from(place).expect("at most 1,000")).collect();
        Ok(Response::new(LookupResponse { matches, open }))
    }
}
