//! Every socket, bound before anything starts, so that a taken port fails at once.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use spillway_registration::provider::ProviderKind;
use tokio::net::TcpListener;

use crate::config::{Config, Role};

#[derive(Debug)]
pub struct Listeners {
    /// A gateway's.
    pub public: Option<TcpListener>,
    pub admin: TcpListener,
    pub sandbox_codes: Option<TcpListener>,
    /// Of a control process that answers an autoscaler.
    pub scaler: Option<TcpListener>,
}

/// Where a process really listens, which port 0 leaves open.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub public: Option<SocketAddr>,
    pub admin: SocketAddr,
    pub sandbox_codes: Option<SocketAddr>,
    pub scaler: Option<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({setting}); is another process there?")]
pub struct ListenersError {
    address: SocketAddr,
    setting: &'static str,
    source: io::Error,
}

/// Whether anybody may read the codes of sandbox providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxCodes {
    /// In a process that is alone.
    Alone,
    /// In a fleet too: for tests of a fleet, which say so on the command line.
    AlsoInFleet,
}

impl SandboxCodes {
    fn are_served(self, config: &Config) -> bool {
        let sandboxed = config.providers().iter().any(|provider| provider.kind == ProviderKind::Sandbox);
        sandboxed
            && config.roles.has(Role::Registration)
            && (self == SandboxCodes::AlsoInFleet || !config.is_fleet())
    }
}

impl Listeners {
    /// # Errors
    ///
    /// When an address is taken or not this machine's; the text names the setting.
    pub async fn bind(config: &Config, codes: SandboxCodes) -> Result<Self, ListenersError> {
        let public = match config.roles.has(Role::Gateway) {
            true => Some(bind(config.listen.public, "listen.public").await?),
            false => None,
        };
        let sandbox_codes = match codes.are_served(config) {
            true => Some(bind(config.listen.sandbox_codes, "listen.sandbox_codes").await?),
            false => None,
        };
        let scaler = match config.control.scaler.listen {
            Some(address) if config.roles.has(Role::Control) => {
                Some(bind(address, "control.scaler.listen").await?)
            }
            _ => None,
        };
        Ok(Self { public, admin: bind(config.admin.listen, "admin.listen").await?, sandbox_codes, scaler })
    }

    pub(crate) fn addresses(&self) -> io::Result<Addresses> {
        let address =
            |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
        Ok(Addresses {
            public: address(&self.public)?,
            admin: self.admin.local_addr()?,
            sandbox_codes: address(&self.sandbox_codes)?,
            scaler: address(&self.scaler)?,
        })
    }
}

async fn bind(address: SocketAddr, setting: &'static str) -> Result<TcpListener, ListenersError> {
    TcpListener::bind(address).await.map_err(|source| ListenersError { address, setting, source })
}

/// The line that the process prints when it serves; scripts read it.
impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("spillway listening")?;
        if let Some(public) = self.public {
            write!(f, " public={public}")?;
        }
        write!(f, " admin={}", self.admin)?;
        if let Some(address) = self.sandbox_codes {
            write!(f, " sandbox_codes={address}")?;
        }
        match self.scaler {
            Some(address) => write!(f, " scaler={address}"),
            None => Ok(()),
        }
    }
}
