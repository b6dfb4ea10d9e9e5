//! A gateway with scripted roles, and a device that talks to it.

mod control;
mod device;
mod directory;
mod mailbox;
mod registration;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use spillway_admission::{
    Admission, AdmissionConfig, AdmissionMetrics, QuotaConfig, QuotaMetrics, Quotas, TokioClock,
};
use spillway_api::internal::v1::control_client::ControlClient;
use spillway_api::internal::v1::control_server::ControlServer;
use spillway_api::internal::v1::directory_client::DirectoryClient;
use spillway_api::internal::v1::directory_server::DirectoryServer;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::mailbox_server::MailboxServer;
use spillway_api::internal::v1::registration_client::RegistrationClient;
use spillway_api::internal::v1::registration_server::RegistrationServer;
use spillway_api::internal::v1::{AccountChanged, MailboxHint, mailbox_hint::Hint};
use spillway_api::v1::contacts_client::ContactsClient;
use spillway_api::v1::messages_client::MessagesClient;
use spillway_api::v1::sign_up_client::SignUpClient;
use spillway_api::v1::status_client::StatusClient;
use spillway_api::{Reason, Refusal, v1};
use spillway_bus::{Bus, LocalBus, Subject};
use spillway_chassis::exemplars::Exemplars;
use spillway_chassis::{Drain, DrainHandle, Tasks};
use spillway_gateway::{Attestation, Config, Deps, DeviceCalls, Gateway, Services};
use spillway_rpc::{Channel, Hop, ServerMetrics, in_process};
use spillway_types::{AccountId, Clock, DeviceAddress, DeviceId, Guid, MailboxId, Secret, TestClock};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

pub(crate) use control::FakeControl;
pub(crate) use device::Device;
pub(crate) use directory::FakeDirectory;
pub(crate) use mailbox::{FakeMailbox, Fault, SETTLED_US};
pub(crate) use registration::FakeRegistration;

pub(crate) struct Node {
    pub(crate) public: Channel,
    pub(crate) mailbox: FakeMailbox,
    pub(crate) registration: FakeRegistration,
    pub(crate) control: FakeControl,
    pub(crate) directory: FakeDirectory,
    pub(crate) bus: Arc<LocalBus>,
    pub(crate) drain: DrainHandle,
    pub(crate) tasks: Tasks,
    pub(crate) services: Services,
    pub(crate) hop: Hop,
    pub(crate) registry: prometheus::Registry,
    /// Moves only when told to, unlike tokio's.
    pub(crate) clock: TestClock,
}

/// A device that registration knows.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) address: DeviceAddress,
    pub(crate) mailbox: MailboxId,
    pub(crate) credential: String,
    pub(crate) registration_id: u32,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::with(Config::default(), QuotaConfig::default())
    }

    pub(crate) fn with(config: Config, quotas: QuotaConfig) -> Self {
        Self::made_of(config, quotas, None)
    }

    /// Which asks about devices.
    pub(crate) fn asking(config: Config, attestation: Option<Arc<dyn Attestation>>) -> Self {
        Self::made_of(config, QuotaConfig::default(), attestation)
    }

    fn made_of(config: Config, quotas: QuotaConfig, attestation: Option<Arc<dyn Attestation>>) -> Self {
        let registry = prometheus::Registry::new();
        let server_metrics = ServerMetrics::new(&registry);
        let bus = Arc::new(LocalBus::new());
        let clock = TestClock::default();
        let mailbox = FakeMailbox::new(Arc::clone(&bus), clock.clone());
        let registration = FakeRegistration::default();
        let control = FakeControl::default();
        let directory = FakeDirectory::default();
        let tasks = Tasks::new();
        let drain = Drain::new(&tasks).handle();
        let channel = |routes| in_process(routes, &server_metrics);
        let quotas = Quotas::new(&quotas, TokioClock, QuotaMetrics::register(&registry).unwrap()).unwrap();
        let (token_key, time): (_, Arc<dyn Clock>) = (Secret::from_bytes([42; 32]), Arc::new(clock.clone()));
        let metrics = AdmissionMetrics::register(&registry, "gateway").unwrap();
        let admission = Admission::new(AdmissionConfig::default(), metrics).unwrap();
        let hop = Hop::public(admission, DeviceCalls::new(&config.identity, &token_key, &time));
        let deps = Deps {
            registration: RegistrationClient::new(channel(Routes::new(RegistrationServer::new(
                registration.clone(),
            )))),
            mailbox: MailboxClient::new(channel(Routes::new(MailboxServer::new(mailbox.clone())))),
            directory: DirectoryClient::new(channel(Routes::new(DirectoryServer::new(directory.clone())))),
            control: ControlClient::new(channel(Routes::new(ControlServer::new(control.clone())))),
            process: [3; 16],
            bus: Arc::clone(&bus) as Arc<dyn Bus>,
            quotas: Arc::new(quotas),
            attestation,
            token_key,
            hop: hop.clone(),
            clock: time,
            tasks: tasks.clone(),
            drain: drain.clone(),
            registry: registry.clone(),
            exemplars: Exemplars::default(),
        };
        let services = Gateway::new(config, deps).into_services(2 << 20);
        let routes = Routes::new(services.sign_up.clone())
            .add_service(services.contacts.clone())
            .add_service(services.messages.clone())
            .add_service(services.status.clone());
        Self {
            public: channel(routes),
            mailbox,
            registration,
            control,
            directory,
            bus,
            drain,
            tasks,
            services,
            hop,
            registry,
            clock,
        }
    }

    pub(crate) fn messages(&self) -> MessagesClient<Channel> {
        MessagesClient::new(self.public.clone())
    }

    pub(crate) fn contacts(&self) -> ContactsClient<Channel> {
        ContactsClient::new(self.public.clone())
    }

    pub(crate) fn sign_up(&self) -> SignUpClient<Channel> {
        SignUpClient::new(self.public.clone())
    }

    pub(crate) fn status(&self) -> StatusClient<Channel> {
        StatusClient::new(self.public.clone())
    }

    /// An account with that many devices.
    pub(crate) fn account(&self, devices: u32) -> Vec<Known> {
        let account = AccountId::random();
        let known = |id: u32| Known {
            address: DeviceAddress { account, device: DeviceId::try_from(id).unwrap() },
            mailbox: MailboxId::random(),
            credential: format!("credential of {account}.{id}"),
            registration_id: 1_000 + id,
        };
        let devices: Vec<_> = (1..=devices).map(known).collect();
        self.registration.set_devices(account, &devices);
        devices
    }

    pub(crate) async fn send(
        &self,
        from: &Known,
        request: v1::SendRequest,
    ) -> Result<v1::SendResponse, Refusal> {
        let request = as_device(from, request);
        self.messages().send(request).await.map(Response::into_inner).map_err(refusal)
    }

    pub(crate) async fn hint(&self, mailbox: MailboxId, hint: Hint) {
        let hint = MailboxHint { hint: Some(hint), ..MailboxHint::default() };
        self.bus.publish(Subject::Mailbox(mailbox), hint.encode_to_vec().into()).await.unwrap();
    }

    /// The value of a counter or gauge whose label values are these, in the order of the label names.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("the metric exists");
        let values = |metric: &prometheus::proto::Metric| -> Vec<String> {
            metric.get_label().iter().map(|label| label.value().to_owned()).collect()
        };
        let metric = family.get_metric().iter().find(|metric| values(metric) == labels);
        let metric = metric.expect("the metric has these labels");
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }

    /// Says that an account changed, and waits until the gateway has heard it.
    pub(crate) async fn announce_change(&self, account: AccountId) {
        // A gateway listens from a moment after its start on.
        settle().await;
        let event = AccountChanged { account_id: account.as_bytes().to_vec().into() };
        self.bus.publish(Subject::AccountChanged, event.encode_to_vec().into()).await.unwrap();
        settle().await;
    }
}

/// With paused time, runs every task that can run.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub(crate) fn refusal(status: Status) -> Refusal {
    Refusal::from_status(&status).unwrap_or_else(|| panic!("an untyped status: {status:?}"))
}

pub(crate) fn as_device<T>(device: &Known, message: T) -> Request<T> {
    authorized(message, &format!("Device {}", device.credential))
}

pub(crate) fn authorized<T>(message: T, authorization: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    request
}

/// A message for each of `to`.
pub(crate) fn message(to: &[Known], content: &str) -> v1::SendRequest {
    let envelope = |known: &Known| v1::DeviceEnvelope {
        device_id: known.address.device.into(),
        registration_id: known.registration_id,
        content: Bytes::from(content.to_owned()),
    };
    v1::SendRequest {
        account_id: to[0].address.account.as_bytes().to_vec().into(),
        guid: Guid::random().as_bytes().to_vec().into(),
        envelopes: to.iter().map(envelope).collect(),
        ..Default::default()
    }
}

#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Refusal>, reason: Reason) -> Refusal {
    let refusal = outcome.expect_err("should have been refused");
    assert_eq!(refusal.reason, reason, "{refusal:?}");
    refusal
}
