//! `Keys`: quotas, then registration.

use spillway_admission::{Key, Limit};
use spillway_api::internal::v1::UploadKeysRequest;
use spillway_api::{account_id, v1};

use crate::Parts;
use crate::auth::Caller;
use crate::forward::{ForwardError, answered};

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
        answered(self.registration.clone().fetch_keys(request).await)
    }
}
