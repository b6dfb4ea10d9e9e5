//! A device that has just come to be gets its first token with the answer.

use spillway_api::internal::v1::Enrolled;
use spillway_api::{device_address, mailbox_id};
use spillway_types::DeviceAddress;

use crate::Parts;
use crate::auth::{Caller, Proof};
use crate::forward::ForwardError;
use crate::token::Issued;

impl Parts {
    pub(crate) fn first_token(&self, enrolled: &Enrolled) -> Result<(DeviceAddress, Issued), ForwardError> {
        let address = device_address("device", enrolled.device.as_ref()).map_err(ForwardError::Answer)?;
        let mailbox = mailbox_id("mailbox_id", &enrolled.mailbox_id).map_err(ForwardError::Answer)?;
        let now = self.clock.now();
        let proof = Proof { caller: Caller { address, mailbox }, proved_at: now, renewed: true };
        Ok((address, self.auth.tokens.issue(&proof, now)))
    }
}
