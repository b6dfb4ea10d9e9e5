//! `Devices`: quotas, then registration.

use spillway_admission::{Key, Limit};
use spillway_api::internal::v1::{ListDevicesRequest, RemoveDeviceRequest, StartLinkRequest};
use spillway_api::{Reason, v1};

use crate::Parts;
use crate::arrival::Arrival;
use crate::auth::Caller;
use crate::forward::{ForwardError, answered};
use crate::inner::InnerError;
use crate::wire::wire_duration;

impl Parts {
    pub(crate) async fn start_link(&self, caller: &Caller) -> Result<v1::StartLinkResponse, ForwardError> {
        self.draw(Limit::DeviceLink, &Key::User(caller.address.account), 1)?;
        let request = StartLinkRequest { caller: Some(caller.address.into()) };
        answered(self.registration.clone().start_link(request).await)
    }

    /// A link token is a credential: wrong ones are counted against the network as wrong credentials are.
    pub(crate) async fn link(
        &self,
        arrival: &Arrival,
        request: v1::LinkRequest,
    ) -> Result<v1::LinkResponse, ForwardError> {
        let network = arrival.network.map(Key::Network);
        if let Some(network) = &network {
            self.look(Limit::Authenticate, network)?;
        }
        let enrolled = match self.registration.clone().link(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                let error = InnerError::registration(status);
                if let (Some(Reason::LinkTokenInvalid), Some(network)) = (error.reason(), &network) {
                    self.draw(Limit::Authenticate, network, 1)?;
                }
                return Err(ForwardError::Inner(error));
            }
        };
        let (address, token) = self.first_token(&enrolled)?;
        Ok(v1::LinkResponse {
            account_id: address.account.as_bytes().to_vec().into(),
            device_id: address.device.into(),
            credential: enrolled.credential,
            token: token.text,
            token_expires_in: Some(wire_duration(token.expires_in)),
        })
    }

    pub(crate) async fn list_devices(
        &self,
        caller: &Caller,
    ) -> Result<v1::ListDevicesResponse, ForwardError> {
        let request = ListDevicesRequest { caller: Some(caller.address.into()) };
        answered(self.registration.clone().list_devices(request).await)
    }

    pub(crate) async fn remove_device(
        &self,
        caller: &Caller,
        request: v1::RemoveDeviceRequest,
    ) -> Result<v1::RemoveDeviceResponse, ForwardError> {
        self.draw(Limit::AccountChange, &Key::User(caller.address.account), 1)?;
        let request =
            RemoveDeviceRequest { caller: Some(caller.address.into()), device_id: request.device_id };
        answered(self.registration.clone().remove_device(request).await)
    }
}
