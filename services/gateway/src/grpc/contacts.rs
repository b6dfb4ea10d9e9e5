use spillway_api::v1;
use spillway_api::v1::contacts_server::Contacts;
use spillway_rpc::into_status;
use tonic::{Request, Response, Status};

use crate::grpc::Api;

#[tonic::async_trait]
impl Contacts for Api {
    async fn discover(
        &self,
        request: Request<v1::DiscoverRequest>,
    ) -> Result<Response<v1::DiscoverResponse>, Status> {
        let call = self.authenticated(&request).await?;
        let answer = self.0.discover(&call.caller, request.into_inner()).await.map_err(into_status)?;
        Ok(call.answer(answer))
    }
}
