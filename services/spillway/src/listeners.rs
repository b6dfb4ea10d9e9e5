//! Every socket, bound before anything starts, so that a taken port fails at once.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::config::{Config, ProviderKind};

#[derive(Debug)]
pub struct Listeners {
    pub public: TcpListener,
    pub admin: TcpListener,
    pub sandbox_codes: Option<TcpListener>,
}

/// Where a process really listens, which port 0 leaves open.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub public: SocketAddr,
    pub admin: SocketAddr,
    pub sandbox_codes: Option<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({setting}); is another process there?")]
pub struct ListenersError {
    address: SocketAddr,
    setting: &'static str,
    source: io::Error,
}

impl Listeners {
    /// # Errors
    ///
    /// When an address is taken or not this machine's; the text names the setting.
    pub async fn bind(config: &Config) -> Result<Self, ListenersError> {
        let sandbox_codes = match config.provider.kind {
            ProviderKind::Sandbox => Some(bind(config.listen.sandbox_codes, "listen.sandbox_codes").await?),
            ProviderKind::Http => None,
        };
        Ok(Self {
            public: bind(config.listen.public, "listen.public").await?,
            admin: bind(config.admin.listen, "admin.listen").await?,
            sandbox_codes,
        })
    }

    pub(crate) fn addresses(&self) -> io::Result<Addresses> {
        let sandbox_codes = self.sandbox_codes.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(Addresses { public: self.public.local_addr()?, admin: self.admin.local_addr()?, sandbox_codes })
    }
}

async fn bind(address: SocketAddr, setting: &'static str) -> Result<TcpListener, ListenersError> {
    TcpListener::bind(address).await.map_err(|source| ListenersError { address, setting, source })
}

/// The line that the process prints when it serves; scripts read it.
impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spillway listening public={} admin={}", self.public, self.admin)?;
        match self.sandbox_codes {
            Some(address) => write!(f, " sandbox_codes={address}"),
            None => Ok(()),
        }
    }
}
