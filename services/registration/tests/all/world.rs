//! One store, one clock and one bus, on which registration roles come and go.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
use spillway_api::internal::v1 as internal;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::mailbox_server::{Mailbox, MailboxServer};
use spillway_api::internal::v1::registration_client::RegistrationClient;
use spillway_api::{Reason, Refusal, v1};
use spillway_bus::LocalBus;
use spillway_bus::work::{LocalWorkQueue, WorkQueue};
use spillway_chassis::Tasks;
use spillway_registration::provider::{Carrier, Provider, Terms};
use spillway_registration::{Config, Deps, DispatchConfig, Registration, Secrets};
use spillway_rpc::{Channel, ServerMetrics, in_process};
use spillway_store::embedded::{self, EmbeddedHandle};
use spillway_store::{Leases, Store};
use spillway_types::{Clock, MailboxId, Pepper, PhoneNumber, Secret, TestClock};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::scripted::Call;

pub(crate) const NUMBER: &str = "+4930123456";
pub(crate) const OTHER_NUMBER: &str = "+4930123457";
/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) clock: TestClock,
    pub(crate) store: Store,
    /// Of the nodes that are still to come.
    pub(crate) leases: Arc<dyn Leases>,
    pub(crate) bus: Arc<LocalBus>,
    pub(crate) purges: Purges,
    pub(crate) pepper: Pepper,
    secrets: Secrets,
    _handle: EmbeddedHandle,
    _folder: TempDir,
}

/// A registration role.
pub(crate) struct Node {
    pub(crate) client: RegistrationClient<Channel>,
    pub(crate) tasks: Tasks,
    pub(crate) registry: Registry,
}

pub(crate) fn config() -> Config {
    let millis = Duration::from_millis;
    Config {
        dispatch: DispatchConfig {
            reap_interval: millis(20),
            backoff_min: millis(2),
            backoff_max: millis(10),
            ..DispatchConfig::default()
        },
        ..Config::default()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let clock = TestClock::default();
        let path = folder.path().join("store");
        let config = embedded::Config { path, reserve_bytes: 0, ..embedded::Config::default() };
        let (store, handle) = embedded::open(&config, &Registry::new(), Arc::new(clock.clone())).unwrap();
        let master = Secret::from_bytes([9; 32]);
        let pepper = Pepper::new(1, master.derive("pepper", &[]));
        let secrets = Secrets::derive(&master, pepper.clone());
        let (bus, purges) = (Arc::new(LocalBus::new()), Purges::default());
        let leases = Arc::clone(&store.leases);
        Self { clock, store, leases, bus, purges, pepper, secrets, _handle: handle, _folder: folder }
    }

    /// A node with a work queue of its own.
    pub(crate) fn node(&self, config: Config, provider: Arc<dyn Provider>) -> Node {
        let work = Arc::new(LocalWorkQueue::new(config.dispatch.queue_max));
        self.node_on(work, config, provider)
    }

    /// A node with a work queue of its own, that chooses among providers.
    pub(crate) fn node_of(&self, config: Config, carriers: Vec<Carrier>) -> Node {
        let work = Arc::new(LocalWorkQueue::new(config.dispatch.queue_max));
        self.node_with(work, config, carriers)
    }

    pub(crate) fn node_on(
        &self,
        work: Arc<dyn WorkQueue>,
        config: Config,
        provider: Arc<dyn Provider>,
    ) -> Node {
        self.node_with(work, config, vec![Carrier { terms: Terms::free("only"), provider }])
    }

    fn node_with(&self, work: Arc<dyn WorkQueue>, config: Config, carriers: Vec<Carrier>) -> Node {
        let (tasks, registry) = (Tasks::new(), Registry::new());
        let metrics = ServerMetrics::new(&registry);
        let mailbox = Routes::new(MailboxServer::new(self.purges.clone()));
        let deps = Deps {
            accounts: Arc::clone(&self.store.accounts),
            keys: Arc::clone(&self.store.keys),
            verifications: Arc::clone(&self.store.verifications),
            directory: Arc::clone(&self.store.directory),
            leases: Arc::clone(&self.leases),
            mailbox: MailboxClient::new(in_process(mailbox, &metrics)),
            bus: self.bus.clone(),
            work,
            carriers,
            secrets: self.secrets.clone(),
            clock: Arc::new(self.clock.clone()),
            tasks: tasks.clone(),
            registry: registry.clone(),
        };
        let server = Registration::new(config, deps).into_server();
        let client = RegistrationClient::new(in_process(Routes::new(server), &metrics));
        Node { client, tasks, registry }
    }

    /// From now on the clock runs, at the pace of tokio's.
    pub(crate) fn run_clock(&self, tasks: &Tasks) {
        let (clock, cancelled) = (self.clock.clone(), tasks.cancelled());
        tasks.spawn("clock", async move {
            let mut cancelled = std::pin::pin!(cancelled);
            let mut before = tokio::time::Instant::now();
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            loop {
                tokio::select! {
                    () = &mut cancelled => return,
                    now = ticks.tick() => {
                        clock.advance(now.saturating_duration_since(before));
                        before = now;
                    }
                }
            }
        });
    }

    pub(crate) async fn found_by(&self, number: &str) -> Option<Vec<u8>> {
        let mac = self.pepper.mac(&PhoneNumber::parse(number).unwrap());
        let found = self.store.directory.lookup(&[mac]).await.unwrap();
        found[0].map(|account| account.as_bytes().to_vec())
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now().as_micros()
    }
}

impl Node {
    pub(crate) async fn start(&self, number: &str) -> v1::VerificationSession {
        let request = internal::StartVerificationRequest { number: number.to_owned(), ..Default::default() };
        self.client.clone().start_verification(request).await.unwrap().into_inner()
    }

    /// Starts a session that is asked for from a network.
    pub(crate) async fn start_from(&self, number: &str, network: [u8; 8]) -> v1::VerificationSession {
        let request = internal::StartVerificationRequest {
            number: number.to_owned(),
            network: network.to_vec().into(),
            ..Default::default()
        };
        self.client.clone().start_verification(request).await.unwrap().into_inner()
    }

    pub(crate) async fn resend(
        &self,
        session: &v1::VerificationSession,
        transport: v1::Transport,
    ) -> Result<v1::VerificationSession, Status> {
        let request =
            v1::ResendCodeRequest { session_id: session.session_id.clone(), transport: transport.into() };
        self.client.clone().resend_code(request).await.map(Response::into_inner)
    }

    pub(crate) async fn check(
        &self,
        session: &v1::VerificationSession,
        code: &str,
    ) -> Result<v1::VerificationSession, Status> {
        let request = v1::CheckCodeRequest { session_id: session.session_id.clone(), code: code.to_owned() };
        self.client.clone().check_code(request).await.map(Response::into_inner)
    }

    /// Proves a number with the code that reaches the provider.
    pub(crate) async fn prove(
        &self,
        number: &str,
        calls: &mut mpsc::Receiver<Call>,
    ) -> v1::VerificationSession {
        let session = self.start(number).await;
        let call = next_call(calls).await;
        let session = self.check(&session, &call.code).await.unwrap();
        assert!(session.verified);
        session
    }

    pub(crate) async fn create(
        &self,
        session: &v1::VerificationSession,
    ) -> Result<internal::Enrolled, Status> {
        self.client.clone().create_account(new_account(session)).await.map(Response::into_inner)
    }

    pub(crate) async fn sign_up(&self, number: &str, calls: &mut mpsc::Receiver<Call>) -> internal::Enrolled {
        let session = self.prove(number, calls).await;
        self.create(&session).await.unwrap()
    }

    pub(crate) async fn authenticate(
        &self,
        credential: &str,
    ) -> Result<internal::AuthenticateResponse, Status> {
        let request = internal::AuthenticateRequest { credential: credential.to_owned() };
        self.client.clone().authenticate(request).await.map(Response::into_inner)
    }

    pub(crate) async fn devices(&self, enrolled: &internal::Enrolled) -> Vec<u32> {
        let account_id = enrolled.device.clone().unwrap().account_id;
        let devices =
            self.client.clone().get_devices(internal::GetDevicesRequest { account_id }).await.unwrap();
        devices.into_inner().devices.into_iter().map(|device| device.device_id).collect()
    }

    pub(crate) async fn stop(self) {
        self.tasks.close_and_wait(PATIENCE).await.unwrap();
    }
}

pub(crate) fn new_account(session: &v1::VerificationSession) -> v1::CreateAccountRequest {
    v1::CreateAccountRequest {
        session_id: session.session_id.clone(),
        identity_key: vec![5; 32].into(),
        registration_id: 77,
        device_name: b"name".to_vec().into(),
        prekeys: Some(prekeys(2)),
        discoverable: true,
    }
}

pub(crate) fn prekeys(one_time: u32) -> v1::PreKeys {
    let signed =
        |key_id| v1::SignedPreKey { key_id, public_key: vec![1; 32].into(), signature: vec![2; 64].into() };
    let one_time = (1..=one_time).map(|key_id| v1::OneTimePreKey { key_id, public_key: vec![3; 32].into() });
    v1::PreKeys { signed: Some(signed(1)), last_resort: Some(signed(2)), one_time: one_time.collect() }
}

pub(crate) fn reason(status: &Status) -> Reason {
    Refusal::from_status(status).unwrap_or_else(|| panic!("not a refusal: {status:?}")).reason
}

pub(crate) fn seconds(duration: Option<prost_types::Duration>) -> Option<i64> {
    duration.map(|duration| duration.seconds)
}

pub(crate) async fn next_call(calls: &mut mpsc::Receiver<Call>) -> Call {
    tokio::time::timeout(PATIENCE, calls.recv()).await.expect("a call reaches the provider").unwrap()
}

pub(crate) async fn is_queue_empty(world: &World) -> bool {
    world.store.verifications.queued(10).await.unwrap().is_empty()
}

/// Waits until `condition` holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// A mailbox role that remembers what it was told to purge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Purges(Arc<Mutex<Vec<MailboxId>>>);

impl Purges {
    pub(crate) fn contains(&self, mailbox: &[u8]) -> bool {
        self.0.lock().unwrap().contains(&MailboxId::try_from(mailbox).unwrap())
    }
}

#[tonic::async_trait]
impl Mailbox for Purges {
    async fn purge(
        &self,
        request: Request<internal::PurgeRequest>,
    ) -> Result<Response<internal::PurgeResponse>, Status> {
        let ids = request.into_inner().mailbox_ids;
        self.0.lock().unwrap().extend(ids.iter().map(|id| MailboxId::try_from(&id[..]).unwrap()));
        Ok(Response::new(internal::PurgeResponse {}))
    }

    async fn append(
        &self,
        _: Request<internal::AppendRequest>,
    ) -> Result<Response<internal::AppendResponse>, Status> {
        Err(Status::unimplemented("not for these tests"))
    }

    async fn whisper(
        &self,
        _: Request<internal::WhisperRequest>,
    ) -> Result<Response<internal::WhisperResponse>, Status> {
        Err(Status::unimplemented("not for these tests"))
    }

    async fn fetch(
        &self,
        _: Request<internal::FetchRequest>,
    ) -> Result<Response<internal::FetchResponse>, Status> {
        Err(Status::unimplemented("not for these tests"))
    }

    async fn acknowledge(
        &self,
        _: Request<internal::AcknowledgeRequest>,
    ) -> Result<Response<internal::AcknowledgeResponse>, Status> {
        Err(Status::unimplemented("not for these tests"))
    }
}
