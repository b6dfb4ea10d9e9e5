//! Which role lives where: the only file that knows.
//!
//! A role of this process is called directly, behind the same stacks as across a socket. In a fleet it serves the bus
//! as well, and a role that is not here is called over it.

use std::convert::Infallible;

use http::{Request, Response};
use spillway_api::internal::v1::control_client::ControlClient;
use spillway_api::internal::v1::directory_client::DirectoryClient;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::registration_client::RegistrationClient;
use spillway_bus::nats::{Nats, Requests, Responders};
use spillway_chassis::Tasks;
use spillway_control::Control;
use spillway_directory::Directory;
use spillway_mailbox::Mailbox;
use spillway_registration::Registration;
use spillway_rpc::{
    BusServerConfig, Channel, ClientConfig, ClientMetrics, Server, ServerConfig, ServerMetrics, client_stack,
    over_bus,
};
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use crate::config::Role;
use crate::overload::{Overload, OverloadError};

/// What every call between roles passes through.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) server_config: ServerConfig,
    pub(crate) client_config: ClientConfig,
    pub(crate) server_metrics: ServerMetrics,
    pub(crate) client_metrics: ClientMetrics,
    pub(crate) calls: Calls,
    pub(crate) overload: Overload,
    /// What serves the bus ends with them.
    pub(crate) tasks: Tasks,
}

/// How roles reach each other.
#[derive(Debug)]
pub(crate) enum Calls {
    /// All of them are here.
    InProcess,
    OverBus(Box<CallsOverBus>),
}

#[derive(Debug)]
pub(crate) struct CallsOverBus {
    pub(crate) nats: Nats,
    pub(crate) requests: Requests,
    pub(crate) responders: Responders,
    pub(crate) config: BusServerConfig,
}

impl Wiring {
    pub(crate) async fn mailbox(
        &self,
        role: Option<Mailbox>,
    ) -> Result<MailboxClient<Channel>, OverloadError> {
        Ok(MailboxClient::new(self.reach(Role::Mailbox, role.map(Mailbox::into_server)).await?))
    }

    pub(crate) async fn registration(
        &self,
        role: Option<Registration>,
    ) -> Result<RegistrationClient<Channel>, OverloadError> {
        Ok(RegistrationClient::new(
            self.reach(Role::Registration, role.map(Registration::into_server)).await?,
        ))
    }

    pub(crate) async fn directory(
        &self,
        role: Option<Directory>,
    ) -> Result<DirectoryClient<Channel>, OverloadError> {
        Ok(DirectoryClient::new(self.reach(Role::Directory, role.map(Directory::into_server)).await?))
    }

    pub(crate) async fn control(
        &self,
        role: Option<Control>,
    ) -> Result<ControlClient<Channel>, OverloadError> {
        Ok(ControlClient::new(self.reach(Role::Control, role.map(Control::into_server)).await?))
    }

    /// Serves a role that is here, and answers with a channel to it wherever it is.
    async fn reach<S>(&self, role: Role, here: Option<S>) -> Result<Channel, OverloadError>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let transport = match (here, &self.calls) {
            (Some(service), calls) => {
                let server = Server::new(self.server_config.clone(), role.name(), &self.server_metrics)
                    .add_service(service);
                let here = server.in_process();
                if let Calls::OverBus(bus) = calls {
                    let server = server.admit(self.overload.worker(role)?);
                    server.serve_bus(&bus.responders, &bus.config, &self.tasks).await;
                }
                here
            }
            (None, Calls::OverBus(bus)) => over_bus(&bus.nats, bus.requests.clone()),
            (None, Calls::InProcess) => unreachable!("without a bus all roles are here: see Config::check"),
        };
        let downstream = self.overload.downstream();
        Ok(client_stack(transport, &self.client_config, &self.client_metrics, &downstream))
    }
}
