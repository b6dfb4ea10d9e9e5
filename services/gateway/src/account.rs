//! `Account`: one quota for all changes, then registration.

use spillway_admission::{Key, Limit};
use spillway_api::internal::v1::{ChangeNumberRequest, DeleteAccountRequest, SetDiscoverableRequest};
use spillway_api::v1;

use crate::Parts;
use crate::auth::Caller;
use crate::forward::{ForwardError, answered};

impl Parts {
    pub(crate) async fn delete_account(
        &self,
        caller: &Caller,
    ) -> Result<v1::DeleteAccountResponse, ForwardError> {
        self.charge_change(caller)?;
        let request = DeleteAccountRequest { caller: Some(caller.address.into()) };
        answered(self.registration.clone().delete_account(request).await)
    }

    pub(crate) async fn set_discoverable(
        &self,
        caller: &Caller,
        request: v1::SetDiscoverableRequest,
    ) -> Result<v1::SetDiscoverableResponse, ForwardError> {
        self.charge_change(caller)?;
        let caller = Some(caller.address.into());
        let request = SetDiscoverableRequest { caller, discoverable: request.discoverable };
        answered(self.registration.clone().set_discoverable(request).await)
    }

    pub(crate) async fn change_number(
        &self,
        caller: &Caller,
        request: v1::ChangeNumberRequest,
    ) -> Result<v1::ChangeNumberResponse, ForwardError> {
        self.charge_change(caller)?;
        let caller = Some(caller.address.into());
        let request = ChangeNumberRequest { caller, session_id: request.session_id };
        answered(self.registration.clone().change_number(request).await)
    }

    fn charge_change(&self, caller: &Caller) -> Result<(), ForwardError> {
        self.draw(Limit::AccountChange, &Key::User(caller.address.account), 1)
    }
}
