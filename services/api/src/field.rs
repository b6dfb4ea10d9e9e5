//! Wire fields to domain types.

use spillway_types::{AccountId, DeviceAddress, DeviceId, Guid, MailboxId, MessageId, Secret};

use crate::v1;

/// A field of a request that does not hold what it must. The text names the field as the `.proto` does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    pub field: &'static str,
    pub problem: String,
}

impl FieldError {
    pub fn new(field: &'static str, problem: impl ToString) -> Self {
        Self { field, problem: problem.to_string() }
    }

    pub fn missing(field: &'static str) -> Self {
        Self::new(field, "is required")
    }
}

pub fn account_id(field: &'static str, bytes: &[u8]) -> Result<AccountId, FieldError> {
    AccountId::try_from(bytes).map_err(|error| FieldError::new(field, error))
}

pub fn mailbox_id(field: &'static str, bytes: &[u8]) -> Result<MailboxId, FieldError> {
    MailboxId::try_from(bytes).map_err(|error| FieldError::new(field, error))
}

pub fn message_id(field: &'static str, bytes: &[u8]) -> Result<MessageId, FieldError> {
    MessageId::try_from(bytes).map_err(|error| FieldError::new(field, error))
}

pub fn guid(field: &'static str, bytes: &[u8]) -> Result<Guid, FieldError> {
    Guid::try_from(bytes).map_err(|error| FieldError::new(field, error))
}

pub fn device_id(field: &'static str, value: u32) -> Result<DeviceId, FieldError> {
    DeviceId::try_from(value).map_err(|error| FieldError::new(field, error))
}

pub fn verification_secret(field: &'static str, bytes: &[u8]) -> Result<Secret, FieldError> {
    Secret::try_from(bytes).map_err(|error| FieldError::new(field, error))
}

pub fn device_address(
    field: &'static str,
    address: Option<&v1::DeviceAddress>,
) -> Result<DeviceAddress, FieldError> {
    let address = address.ok_or_else(|| FieldError::missing(field))?;
    Ok(DeviceAddress {
        account: account_id(field, &address.account_id)?,
        device: device_id(field, address.device_id)?,
    })
}

impl From<DeviceAddress> for v1::DeviceAddress {
    fn from(address: DeviceAddress) -> Self {
        Self { account_id: address.account.as_bytes().to_vec().into(), device_id: address.device.into() }
    }
}
