//! One connection to the service, shared by every call of a device or of many.

use std::sync::Arc;
use std::time::Duration;

use spillway_admission::RetryPolicy;
use spillway_api::v1;
use tonic::transport::{Channel, Endpoint};

use crate::addresses::Addresses;
use crate::attest::Attest;
use crate::cooperation::Cooperation;
use crate::meter::Meter;

/// The largest answer a client reads: a page of deliveries arrives one frame each, so one envelope and its frame.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// The deadline of each unary call, all its attempts together.
    pub call_timeout: Duration,
    /// How often an HTTP/2 ping asks whether the server still lives, so that a dead connection is noticed.
    pub keep_alive_interval: Duration,
    pub retry: RetryPolicy,
    /// Unary calls under way at a time; others wait, within their deadline. Fewer while the service does not answer, see
    /// [`CallWindow`](spillway_admission::CallWindow).
    pub calls_max: u32,
    /// For services that ask who a device is when its turn has come. `None`: nothing is said.
    pub attest: Option<Attest>,
    /// Counts this client's attempts, for those who want to know. `None`: nobody does.
    pub meter: Option<Meter>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            keep_alive_interval: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            // More than a device has use for, and at 5 ms a call enough for one that sends 3,000 messages a second.
            calls_max: 16,
            attest: None,
            meter: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("`{0}` is not an address such as http://127.0.0.1:7700")]
    Address(String),
    #[error("cannot connect to {address}")]
    Unreachable {
        address: String,
        #[source]
        source: tonic::transport::Error,
    },
}

/// A connection with the retry budget of its user, and what the service has told him. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    pub(crate) config: ClientConfig,
    pub(crate) cooperation: Arc<Cooperation>,
}

impl Client {
    /// Connects now. `address` is one, or several gateways of one service with commas between them: a connection goes
    /// to any of them, and to another when it is lost.
    ///
    /// # Errors
    ///
    /// When the address cannot be parsed, or nobody accepts the connection in time.
    pub async fn connect(address: &str, config: ClientConfig) -> Result<Self, ConnectError> {
        let channel = addresses(address, &config)?
            .connect(config.connect_timeout)
            .await
            .map_err(|source| ConnectError::Unreachable { address: address.to_owned(), source })?;
        Ok(Self::with_channel(channel, config))
    }

    /// Connects at the first call, and again whenever the connection is lost.
    ///
    /// # Errors
    ///
    /// When the address cannot be parsed.
    pub fn lazy(address: &str, config: ClientConfig) -> Result<Self, ConnectError> {
        let channel = addresses(address, &config)?.connect_lazy(config.connect_timeout);
        Ok(Self::with_channel(channel, config))
    }

    pub fn with_channel(channel: Channel, config: ClientConfig) -> Self {
        let cooperation = Arc::new(Cooperation::new(config.retry, config.calls_max));
        Self { channel, config, cooperation }
    }

    /// The same connection, budget and advice, with attempts counted by another meter.
    pub fn metered(&self, meter: Meter) -> Self {
        let config = ClientConfig { meter: Some(meter), ..self.config.clone() };
        Self { config, ..self.clone() }
    }

    /// The generated clients, for calls that have no wrapper here.
    pub fn sign_up(&self) -> v1::sign_up_client::SignUpClient<Channel> {
        v1::sign_up_client::SignUpClient::new(self.channel.clone())
    }

    pub fn messages(&self) -> v1::messages_client::MessagesClient<Channel> {
        v1::messages_client::MessagesClient::new(self.channel.clone())
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub fn contacts(&self) -> v1::contacts_client::ContactsClient<Channel> {
        v1::contacts_client::ContactsClient::new(self.channel.clone())
    }

    pub fn keys(&self) -> v1::keys_client::KeysClient<Channel> {
        v1::keys_client::KeysClient::new(self.channel.clone())
    }

    pub fn devices(&self) -> v1::devices_client::DevicesClient<Channel> {
        v1::devices_client::DevicesClient::new(self.channel.clone())
    }

    pub fn account(&self) -> v1::account_client::AccountClient<Channel> {
        v1::account_client::AccountClient::new(self.channel.clone())
    }
}

fn addresses(text: &str, config: &ClientConfig) -> Result<Addresses, ConnectError> {
    let with_settings = |endpoint: Endpoint| {
        endpoint
            .connect_timeout(config.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(config.keep_alive_interval)
            .keep_alive_timeout(Duration::from_secs(20))
            .keep_alive_while_idle(true)
    };
    Ok(Addresses::parse(text)?.map(with_settings))
}
