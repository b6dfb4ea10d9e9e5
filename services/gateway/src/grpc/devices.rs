use spillway_api::v1;
use spillway_api::v1::devices_server::Devices;
use spillway_rpc::into_status;
use tonic::{Request, Response, Status};

use crate::arrival::Arrival;
use crate::grpc::Api;

#[tonic::async_trait]
impl Devices for Api {
    async fn start_link(
        &self,
        request: Request<v1::StartLinkRequest>,
    ) -> Result<Response<v1::StartLinkResponse>, Status> {
        let call = self.authenticated(&request).await?;
        let answer = self.0.start_link(&call.caller).await.map_err(into_status)?;
        Ok(call.answer(answer))
    }

    async fn link(&self, request: Request<v1::LinkRequest>) -> Result<Response<v1::LinkResponse>, Status> {
        let arrival = Arrival::of(&request);
        let answer = self.0.link(&arrival, request.into_inner()).await.map_err(into_status)?;
        Ok(Response::new(answer))
    }

    async fn list(
        &self,
        request: Request<v1::ListDevicesRequest>,
    ) -> Result<Response<v1::ListDevicesResponse>, Status> {
        let call = self.authenticated(&request).await?;
        let answer = self.0.list_devices(&call.caller).await.map_err(into_status)?;
        Ok(call.answer(answer))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveDeviceRequest>,
    ) -> Result<Response<v1::RemoveDeviceResponse>, Status> {
        let call = self.authenticated(&request).await?;
        let answer = self.0.remove_device(&call.caller, request.into_inner()).await.map_err(into_status)?;
        Ok(call.answer(answer))
    }
}
