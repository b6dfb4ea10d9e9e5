use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use spillway_api::internal::v1::registration_server::Registration;
use spillway_api::internal::v1::{
    AuthenticateRequest, AuthenticateResponse, ChangeNumberRequest, DeleteAccountRequest, DeviceMailbox,
    Enrolled, FetchKeysRequest, GetDevicesRequest, GetDevicesResponse, ListDevicesRequest, Pass,
    RemoveDeviceRequest, SetDiscoverableRequest, StartLinkRequest, StartVerificationRequest,
    UploadKeysRequest,
};
use spillway_api::{Reason, Refusal, v1};
use spillway_types::{AccountId, DeviceAddress, DeviceId, MailboxId};
use tonic::{Request, Response, Status};

use super::Known;

/// Knows devices and counts who asks. What the tests do not need is refused.
#[derive(Clone, Default)]
pub(crate) struct FakeRegistration(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    devices: HashMap<AccountId, Vec<Known>>,
    pub(crate) authenticates: usize,
    pub(crate) get_devices: usize,
    pub(crate) starts: usize,
    pub(crate) passes: Vec<Option<Pass>>,
}

impl FakeRegistration {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn set_devices(&self, account: AccountId, devices: &[Known]) {
        self.state().devices.insert(account, devices.to_vec());
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("not scripted"))
}

#[tonic::async_trait]
impl Registration for FakeRegistration {
    async fn authenticate(&self, request: Request<AuthenticateRequest>) -> Answer<AuthenticateResponse> {
        let credential = request.into_inner().credential;
        let mut state = self.state();
        state.authenticates += 1;
        let known = state.devices.values().flatten().find(|known| known.credential == credential);
        let known = known.ok_or_else(|| Refusal::new(Reason::Unauthenticated, "unknown").into_status())?;
        Ok(Response::new(AuthenticateResponse {
            device: Some(known.address.into()),
            mailbox_id: known.mailbox.as_bytes().to_vec().into(),
        }))
    }

    async fn get_devices(&self, request: Request<GetDevicesRequest>) -> Answer<GetDevicesResponse> {
        let account = AccountId::try_from(&request.into_inner().account_id[..]).unwrap();
        let mut state = self.state();
        state.get_devices += 1;
        let devices = state.devices.get(&account);
        let devices =
            devices.ok_or_else(|| Refusal::new(Reason::AccountNotFound, "no account").into_status())?;
        let device = |known: &Known| DeviceMailbox {
            device_id: known.address.device.into(),
            registration_id: known.registration_id,
            mailbox_id: known.mailbox.as_bytes().to_vec().into(),
        };
        Ok(Response::new(GetDevicesResponse { devices: devices.iter().map(device).collect() }))
    }

    async fn start_verification(
        &self,
        request: Request<StartVerificationRequest>,
    ) -> Answer<v1::VerificationSession> {
        let mut state = self.state();
        state.starts += 1;
        state.passes.push(request.into_inner().pass);
        Ok(Response::new(v1::VerificationSession::default()))
    }

    async fn create_account(&self, _: Request<v1::CreateAccountRequest>) -> Answer<Enrolled> {
        let address = DeviceAddress { account: AccountId::random(), device: DeviceId::PRIMARY };
        let mailbox = MailboxId::random();
        let credential = "new credential".to_owned();
        let known = Known { address, mailbox, credential: credential.clone(), registration_id: 1 };
        self.set_devices(address.account, &[known]);
        Ok(Response::new(Enrolled {
            device: Some(address.into()),
            mailbox_id: mailbox.as_bytes().to_vec().into(),
            credential,
            reregistered: false,
        }))
    }

    async fn check_code(&self, _: Request<v1::CheckCodeRequest>) -> Answer<v1::VerificationSession> {
        Err(Refusal::new(Reason::ChecksExhausted, "no tries are left").into_status())
    }

    async fn resend_code(&self, _: Request<v1::ResendCodeRequest>) -> Answer<v1::VerificationSession> {
        unused()
    }

    async fn start_link(&self, _: Request<StartLinkRequest>) -> Answer<v1::StartLinkResponse> {
        unused()
    }

    async fn link(&self, _: Request<v1::LinkRequest>) -> Answer<Enrolled> {
        unused()
    }

    async fn list_devices(&self, _: Request<ListDevicesRequest>) -> Answer<v1::ListDevicesResponse> {
        unused()
    }

    async fn remove_device(&self, _: Request<RemoveDeviceRequest>) -> Answer<v1::RemoveDeviceResponse> {
        unused()
    }

    async fn delete_account(&self, _: Request<DeleteAccountRequest>) -> Answer<v1::DeleteAccountResponse> {
        unused()
    }

    async fn set_discoverable(
        &self,
        _: Request<SetDiscoverableRequest>,
    ) -> Answer<v1::SetDiscoverableResponse> {
        unused()
    }

    async fn change_number(&self, _: Request<ChangeNumberRequest>) -> Answer<v1::ChangeNumberResponse> {
        unused()
    }

    async fn upload_keys(&self, _: Request<UploadKeysRequest>) -> Answer<v1::UploadKeysResponse> {
        unused()
    }

    async fn fetch_keys(&self, _: Request<FetchKeysRequest>) -> Answer<v1::FetchKeysResponse> {
        unused()
    }
}
