use spillway_api::v1;
use spillway_api::v1::sign_up_server::SignUp;
use spillway_rpc::into_status;
use tonic::{Request, Response, Status};

use crate::arrival::Arrival;
use crate::grpc::Api;

#[tonic::async_trait]
impl SignUp for Api {
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
