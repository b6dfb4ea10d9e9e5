//! The wire: decode, operation, encode.

use spillway_api::internal::v1 as internal;
use spillway_api::internal::v1::registration_server::Registration as Service;
use spillway_api::{FieldError, Refusal, account_id, device_address, device_id, v1, verification_secret};
use spillway_rpc::into_status;
use tonic::{Request, Response, Status};

use crate::Registration;
use crate::credential::Credential;
use crate::decode;
use crate::passes::Pass;
use crate::secrets::Recipient;

type Answer<T> = Result<Response<T>, Status>;

fn wrong_field(error: FieldError) -> Status {
    Refusal::from(error).into_status()
}

fn answer<T>(message: impl Into<T>) -> Answer<T> {
    Ok(Response::new(message.into()))
}

#[tonic::async_trait]
impl Service for Registration {
    async fn start_verification(
        &self,
        request: Request<internal::StartVerificationRequest>,
    ) -> Answer<v1::VerificationSession> {
        let request = request.into_inner();
        let number = decode::number(&request.number).map_err(wrong_field)?;
        let transport = decode::transport(request.transport).map_err(wrong_field)?;
        let network = decode::network(&request.network).map_err(wrong_field)?;
        let pass = request.pass.as_ref().map(Pass::decode).transpose().map_err(wrong_field)?;
        let to = Recipient { number, network };
        answer(self.0.start_verification(to, transport, pass).await.map_err(into_status)?)
    }

    async fn resend_code(&self, request: Request<v1::ResendCodeRequest>) -> Answer<v1::VerificationSession> {
        let request = request.into_inner();
        let session = verification_secret("session_id", &request.session_id).map_err(wrong_field)?;
        let transport = decode::transport(request.transport).map_err(wrong_field)?;
        answer(self.0.resend_code(&session, transport).await.map_err(into_status)?)
    }

    async fn check_code(&self, request: Request<v1::CheckCodeRequest>) -> Answer<v1::VerificationSession> {
        let request = request.into_inner();
        let session = verification_secret("session_id", &request.session_id).map_err(wrong_field)?;
        answer(self.0.check_code(&session, &request.code).await.map_err(into_status)?)
    }

    async fn create_account(&self, request: Request<v1::CreateAccountRequest>) -> Answer<internal::Enrolled> {
        let new = decode::new_account(request.into_inner()).map_err(wrong_field)?;
        let created = self.to_the_end("create account", |role| async move { role.create_account(new).await });
        answer(created.await.map_err(into_status)?)
    }

    async fn authenticate(
        &self,
        request: Request<internal::AuthenticateRequest>,
    ) -> Answer<internal::AuthenticateResponse> {
        let credential = Credential::parse(&request.get_ref().credential);
        let (device, mailbox) = self.0.authenticate(credential).await.map_err(into_status)?;
        answer(internal::AuthenticateResponse {
            device: Some(device.into()),
            mailbox_id: mailbox.as_bytes().to_vec().into(),
        })
    }

    async fn get_devices(
        &self,
        request: Request<internal::GetDevicesRequest>,
    ) -> Answer<internal::GetDevicesResponse> {
        let account = account_id("account_id", &request.get_ref().account_id).map_err(wrong_field)?;
        let devices = self.0.get_devices(account).await.map_err(into_status)?;
        answer(internal::GetDevicesResponse {
            devices: devices.into_iter().map(decode::device_mailbox).collect(),
        })
    }

    async fn start_link(
        &self,
        request: Request<internal::StartLinkRequest>,
    ) -> Answer<v1::StartLinkResponse> {
        let caller = device_address("caller", request.get_ref().caller.as_ref()).map_err(wrong_field)?;
        let (link_token, lifetime) = self.0.start_link(caller).await.map_err(into_status)?;
        answer(v1::StartLinkResponse { link_token, expires_in: Some(decode::duration(lifetime)) })
    }

    async fn link(&self, request: Request<v1::LinkRequest>) -> Answer<internal::Enrolled> {
        let request = request.into_inner();
        let device = decode::new_device(request.registration_id, request.device_name, request.prekeys);
        let device = device.map_err(wrong_field)?;
        let linked = self
            .to_the_end("link device", |role| async move { role.link(&request.link_token, device).await });
        answer(linked.await.map_err(into_status)?)
    }

    async fn list_devices(
        &self,
        request: Request<internal::ListDevicesRequest>,
    ) -> Answer<v1::ListDevicesResponse> {
        let caller = device_address("caller", request.get_ref().caller.as_ref()).map_err(wrong_field)?;
        let devices = self.0.list_devices(caller).await.map_err(into_status)?;
        answer(v1::ListDevicesResponse { devices: devices.into_iter().map(decode::listed_device).collect() })
    }

    async fn remove_device(
        &self,
        request: Request<internal::RemoveDeviceRequest>,
    ) -> Answer<v1::RemoveDeviceResponse> {
        let caller = device_address("caller", request.get_ref().caller.as_ref()).map_err(wrong_field)?;
        let device = device_id("device_id", request.get_ref().device_id).map_err(wrong_field)?;
        let removed =
            self.to_the_end("remove device", |role| async move { role.remove_device(caller, device).await });
        removed.await.map_err(into_status)?;
        answer(v1::RemoveDeviceResponse {})
    }

    async fn delete_account(
        &self,
        request: Request<internal::DeleteAccountRequest>,
    ) -> Answer<v1::DeleteAccountResponse> {
        let caller = device_address("caller", request.get_ref().caller.as_ref()).map_err(wrong_field)?;
        let deleted =
            self.to_the_end("delete account", |role| async move { role.delete_account(caller).await });
        deleted.await.map_err(into_status)?;
        answer(v1::DeleteAccountResponse {})
    }

    async fn set_discoverable(
        &self,
        request: Request<internal::SetDiscoverableRequest>,
    ) -> Answer<v1::SetDiscoverableResponse> {
        let caller = device_address("caller", request.get_ref().caller.as_ref()).map_err(wrong_field)?;
        let discoverable = request.get_ref().discoverable;
        let set = self.to_the_end("set discoverable", |role| async move {
            role.set_discoverable(caller, discoverable).await
        });
        set.await.map_err(into_status)?;
        answer(v1::SetDiscoverableResponse {})
    }

    async fn change_number(
        &self,
        request: Request<internal::ChangeNumberRequest>,
    ) -> Answer<v1::ChangeNumberResponse> {
        let caller = device_address("caller", request.get_ref().caller.as_ref()).map_err(wrong_field)?;
        let session =
            verification_secret("session_id", &request.get_ref().session_id).map_err(wrong_field)?;
        let changed = self
            .to_the_end("change number", |role| async move { role.change_number(caller, &session).await });
        changed.await.map_err(into_status)?;
        answer(v1::ChangeNumberResponse {})
    }

    async fn upload_keys(
        &self,
        request: Request<internal::UploadKeysRequest>,
    ) -> Answer<v1::UploadKeysResponse> {
        let request = request.into_inner();
        let caller = device_address("caller", request.caller.as_ref()).map_err(wrong_field)?;
        let keys = decode::key_upload(request.prekeys.unwrap_or_default()).map_err(wrong_field)?;
        let one_time_count = self.0.upload_keys(caller, &keys).await.map_err(into_status)?;
        answer(v1::UploadKeysResponse { one_time_count: u32::try_from(one_time_count).unwrap_or(u32::MAX) })
    }

    async fn fetch_keys(
        &self,
        request: Request<internal::FetchKeysRequest>,
    ) -> Answer<v1::FetchKeysResponse> {
        let request = request.get_ref();
        let (account, only) = decode::keys_wanted(request).map_err(wrong_field)?;
        answer(self.0.fetch_keys(account, only, request.spare_one_time).await.map_err(into_status)?)
    }
}
