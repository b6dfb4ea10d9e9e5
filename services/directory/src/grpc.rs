use spillway_api::internal::v1::directory_server;
use spillway_api::internal::v1::{LookupRequest, LookupResponse};
use spillway_api::v1::Match;
use spillway_rpc::into_status;
use tonic::{Request, Response, Status};

use crate::Directory;

#[tonic::async_trait]
impl directory_server::Directory for Directory {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let found = self.lookup(request.into_inner().numbers).await.map_err(into_status)?;
        let matches = found
            .into_iter()
            .map(|(number, account)| Match { number, account_id: account.as_bytes().to_vec().into() })
            .collect();
        Ok(Response::new(LookupResponse { matches }))
    }
}
