//! Which role lives where: the only file that knows.
//!
//! In this process every role is at home, so each generated client sits directly on its server, behind the same
//! stacks as across a socket.

use spillway_api::internal::v1::directory_client::DirectoryClient;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::registration_client::RegistrationClient;
use spillway_directory::Directory;
use spillway_mailbox::Mailbox;
use spillway_registration::Registration;
use spillway_rpc::{Channel, ClientConfig, ClientMetrics, Server, ServerConfig, ServerMetrics, client_stack};

/// What every call between roles passes through.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) server_config: ServerConfig,
    pub(crate) client_config: ClientConfig,
    pub(crate) server_metrics: ServerMetrics,
    pub(crate) client_metrics: ClientMetrics,
}

impl Wiring {
    pub(crate) fn mailbox(&self, role: Mailbox) -> MailboxClient<Channel> {
        let server = self.server("mailbox").add_service(role.into_server());
        MailboxClient::new(self.client(&server))
    }

    pub(crate) fn registration(&self, role: Registration) -> RegistrationClient<Channel> {
        let server = self.server("registration").add_service(role.into_server());
        RegistrationClient::new(self.client(&server))
    }

    pub(crate) fn directory(&self, role: Directory) -> DirectoryClient<Channel> {
        let server = self.server("directory").add_service(role.into_server());
        DirectoryClient::new(self.client(&server))
    }

    fn server(&self, name: &'static str) -> Server {
        Server::new(self.server_config.clone(), name, &self.server_metrics)
    }

    fn client(&self, server: &Server) -> Channel {
        client_stack(server.in_process(), &self.client_config, &self.client_metrics)
    }
}
