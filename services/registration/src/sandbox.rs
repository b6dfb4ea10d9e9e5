//! The service through which tests and load tools read what the sandbox delivered.
//!
//! It also tells a sandbox to have a bad day. The binary serves it on a loopback port of its own and refuses to in fleet mode: whoever can
//! reach it can take any number.

pub use spillway_api::v1::sandbox_codes_server::SandboxCodesServer;

use std::pin::Pin;

use futures::{Stream, StreamExt};
use spillway_api::v1;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use crate::provider::{Change, DeliveredCode, Sandbox};

/// Answers from a [`Sandbox`].
#[derive(Clone, Debug)]
pub struct Codes(Sandbox);

/// The service as tonic serves it.
pub type CodesServer = SandboxCodesServer<Codes>;

impl Codes {
    pub fn into_server(sandbox: Sandbox) -> CodesServer {
        SandboxCodesServer::new(Self(sandbox))
    }
}

#[tonic::async_trait]
impl v1::sandbox_codes_server::SandboxCodes for Codes {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::SandboxCode, Status>> + Send>>;

    /// A watcher that falls behind is told so, and its stream ends: silence would look like a lost code. It also ends
    /// with the sandbox, and does not hold up the drain.
    async fn watch(&self, _: Request<v1::WatchCodesRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let codes = BroadcastStream::new(self.0.watch()).map(|code| {
            code.map(encode).map_err(|_| Status::data_loss("codes were dropped for this watcher"))
        });
        Ok(Response::new(Box::pin(codes.take_until(self.0.stopped()))))
    }

    async fn read(&self, request: Request<v1::ReadCodeRequest>) -> Result<Response<v1::SandboxCode>, Status> {
        let number = request.into_inner().number;
        let code = self.0.last_code(&number).ok_or_else(|| Status::not_found("no code was delivered"))?;
        Ok(Response::new(v1::SandboxCode { number, code: code.expose().to_owned() }))
    }

    async fn behave(
        &self,
        request: Request<v1::BehaveRequest>,
    ) -> Result<Response<v1::BehaveResponse>, Status> {
        let request = request.into_inner();
        let is_share = |share: Option<f64>| share.is_none_or(|share| (0.0..=1.0).contains(&share));
        if !is_share(request.loss) || !is_share(request.failures) {
            return Err(Status::invalid_argument("loss and failures are between 0 and 1"));
        }
        let delay = request.delay.map(std::time::Duration::try_from).transpose();
        let change = Change {
            rate_per_second: request.rate_per_second,
            loss: request.loss,
            failures: request.failures,
            delay: delay.map_err(|_| Status::invalid_argument("delay is negative"))?,
        };
        if !self.0.behave(&request.provider, change) {
            return Err(Status::not_found("no sandbox has this name"));
        }
        Ok(Response::new(v1::BehaveResponse {}))
    }
}

fn encode(delivered: DeliveredCode) -> v1::SandboxCode {
    v1::SandboxCode {
        number: delivered.number.as_e164().to_owned(),
        code: delivered.code.expose().to_owned(),
    }
}
