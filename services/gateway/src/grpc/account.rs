use spillway_api::v1;
use spillway_api::v1::account_server::Account;
use spillway_rpc::into_status;
use tonic::{Request, Response, Status};

use crate::grpc::Api;

#[tonic::async_trait]
impl Account for Api {
    async fn delete(
        &self,
        request: Request<v1::DeleteAccountRequest>,
    ) -> Result<Response<v1::DeleteAccountResponse>, Status> {
        let call = self.authenticated(&request).await?;
        let answer = self.0.delete_account(&call.caller).await.map_err(into_status)?;
        Ok(call.answer(answer))
    }

    async fn set_discoverable(
        &self,
        request: Request<v1::SetDiscoverableRequest>,
    ) -> Result<Response<v1::SetDiscoverableResponse>, Status> {
        let call = self.authenticated(&request).await?;
        let answer =
            self.0.set_discoverable(&call.caller, request.into_inner()).await.map_err(into_status)?;
        Ok(call.answer(answer))
    }

    async fn change_number(
        &self,
        request: Request<v1::ChangeNumberRequest>,
    ) -> Result<Response<v1::ChangeNumberResponse>, Status> {
        let call = self.authenticated(&request).await?;
        let answer = self.0.change_number(&call.caller, request.into_inner()).await.map_err(into_status)?;
        Ok(call.answer(answer))
    }
}
