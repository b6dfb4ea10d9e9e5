//! `Keys`: quotas, then registration.

use spillway_admission::{Key, Limit};
use spillway_api::internal::v1::{FetchKeysRequest, UploadKeysRequest};
use spillway_api::{account_id, v1};

use crate::Parts;
use crate::auth::Caller;
use crate::forward::{ForwardError, answered};

/// From this rung of the brownout ladder on, last-resort keys are given and one-time keys are kept: taking one is a
/// conditional write, and giving the other a read.
const LAST_RESORT_ONLY: u8 = 2;

impl Parts {
    pub(crate) async fn upload_keys(
        &self,
        caller: &Caller,
        request: v1::UploadKeysRequest,
    ) -> Result<v1::UploadKeysResponse, ForwardError> {
        self.draw(Limit::PrekeysUpload, &Key::User(caller.address.account), 1)?;
        let request = UploadKeysRequest { caller: Some(caller.address.into()), prekeys: request.prekeys };
        answered(self.registration.clone().upload_keys(request).await)
    }

    pub(crate) async fn fetch_keys(
        &self,
        caller: &Caller,
        request: v1::FetchKeysRequest,
    ) -> Result<v1::FetchKeysResponse, ForwardError> {
        let about = account_id("account_id", &request.account_id).map_err(ForwardError::Field)?;
        let pair = Key::UserPair { asking: caller.address.account, about };
        self.draw(Limit::KeysFetch, &pair, 1)?;
        let spare_one_time = self.hop.admission().rung() >= LAST_RESORT_ONLY;
        let v1::FetchKeysRequest { account_id, device_id } = request;
        let request = FetchKeysRequest { account_id, device_id, spare_one_time };
        answered(self.registration.clone().fetch_keys(request).await)
    }
}
