use spillway_api::v1;
use spillway_api::v1::keys_server::Keys;
use spillway_rpc::into_status;
use tonic::{Request, Response, Status};

use crate::grpc::Api;

#[tonic::async_trait]
impl Keys for Api {
    async fn upload(
        &self,
        request: Request<v1::UploadKeysRequest>,
    ) -> Result<Response<v1::UploadKeysResponse>, Status> {
        let call = self.authenticated(&request).await?;
        let answer = self.0.upload_keys(&call.caller, request.into_inner()).await.map_err(into_status)?;
        Ok(call.answer(answer))
    }

    async fn fetch(
        &self,
        request: Request<v1::FetchKeysRequest>,
    ) -> Result<Response<v1::FetchKeysResponse>, Status> {
        let call = self.authenticated(&request).await?;
        let answer = self.0.fetch_keys(&call.caller, request.into_inner()).await.map_err(into_status)?;
        Ok(call.answer(answer))
    }
}
