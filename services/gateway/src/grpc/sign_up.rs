use spillway_api::v1;
use spillway_api::v1::sign_up_server::SignUp;
use spillway_rpc::into_status;
use tonic::{Request, Response, Status};

use crate::arrival::Arrival;
use crate::grpc::Api;

#[tonic::async_trait]
impl SignUp for Api {
    async fn enter(&self, request: Request<v1::EnterRequest>) -> Result<Response<v1::Place>, Status> {
        let arrival = Arrival::of(&request);
        let place = self.0.enter(&arrival, request.into_inner()).await.map_err(into_status)?;
        Ok(Response::new(place))
    }

    async fn poll(&self, request: Request<v1::PollRequest>) -> Result<Response<v1::Place>, Status> {
        Ok(Response::new(self.0.poll(request.get_ref()).map_err(into_status)?))
    }

    async fn claim(&self, request: Request<v1::ClaimRequest>) -> Result<Response<v1::Admitted>, Status> {
        Ok(Response::new(self.0.claim(request.get_ref()).await.map_err(into_status)?))
    }

    async fn start_verification(
        &self,
        request: Request<v1::StartVerificationRequest>,
    ) -> Result<Response<v1::VerificationSession>, Status> {
        let arrival = Arrival::of(&request);
        let answer = self.0.start_verification(&arrival, request.into_inner()).await.map_err(into_status)?;
        Ok(Response::new(answer))
    }

    async fn resend_code(
        &self,
        request: Request<v1::ResendCodeRequest>,
    ) -> Result<Response<v1::VerificationSession>, Status> {
        let arrival = Arrival::of(&request);
        let answer = self.0.resend_code(&arrival, request.into_inner()).await.map_err(into_status)?;
        Ok(Response::new(answer))
    }

    async fn check_code(
        &self,
        request: Request<v1::CheckCodeRequest>,
    ) -> Result<Response<v1::VerificationSession>, Status> {
        let answer = self.0.check_code(request.into_inner()).await.map_err(into_status)?;
        Ok(Response::new(answer))
    }

    async fn create_account(
        &self,
        request: Request<v1::CreateAccountRequest>,
    ) -> Result<Response<v1::CreateAccountResponse>, Status> {
        let answer = self.0.create_account(request.into_inner()).await.map_err(into_status)?;
        Ok(Response::new(answer))
    }
}
