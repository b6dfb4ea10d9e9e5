use spillway_api::v1::messages_server::Messages;
use spillway_api::{Refusal, v1};
use spillway_rpc::into_status;
use tonic::{Request, Response, Status, Streaming};

use crate::arrival::Arrival;
use crate::grpc::Api;
use crate::send::NewMessage;
use crate::session::{self, Outgoing};

#[tonic::async_trait]
impl Messages for Api {
    async fn send(&self, request: Request<v1::SendRequest>) -> Result<Response<v1::SendResponse>, Status> {
        let call = self.authenticated(&request).await?;
        let send = NewMessage::decode(request.into_inner(), &self.0.config.send).map_err(Refusal::from)?;
        let sent = self.0.send(&call.caller, send, call.arrival.deadline).await.map_err(into_status)?;
        Ok(call.answer(sent))
    }

    type SessionStream = Outgoing;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Outgoing>, Status> {
        let arrival = Arrival::of(&request);
        let outgoing = session::open(&self.0, arrival, request.into_inner()).map_err(Refusal::into_status)?;
        Ok(Response::new(outgoing))
    }
}
