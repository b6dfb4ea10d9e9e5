//! Where people sign up, and where every secret they are given is noted.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use spillway_api::{device_address, v1};
use spillway_client::{CallError, Client, Identity, Verification};
use spillway_types::PhoneNumber;
use surge::codes::{CodeStream, Phones};
use surge::population::Population;
use tokio::task::JoinSet;

use super::support::{PATIENCE, Person, connect};

/// The phones of one test's people. Codes keep arriving when the service is started again.
pub(crate) struct Desk {
    name: &'static str,
    pub(crate) phones: Phones,
    streams: JoinSet<()>,
}

pub(crate) fn population() -> Population {
    Population::new(2021)
}

impl Desk {
    /// Before the service starts: what an earlier run of the test left is removed.
    pub(crate) fn new(name: &'static str) -> Self {
        for extension in ["log", "secrets"] {
            // It is not there in a first run.
            fs::remove_file(logs().join(format!("{name}.{extension}"))).ok();
        }
        Self { name, phones: Phones::default(), streams: JoinSet::new() }
    }

    /// Listens for codes at a service that has just started.
    pub(crate) async fn answer_phones(&mut self, codes: &str) {
        let stream = CodeStream::open(codes, self.phones.clone()).await.unwrap();
        self.streams.spawn(async move {
            // Ends with the process.
            stream.run().await.ok();
        });
    }

    /// Signs up person `index` on a connection of their own.
    pub(crate) async fn person(&self, public: &str, index: u64) -> Person {
        let client = connect(public).await;
        let verification = self.verified(&client, index).await;
        let identity = self.create(&client, &verification, index).await.unwrap();
        Person { index, client, identity: Arc::new(identity) }
    }

    /// A session in which the number of person `index` has been proved.
    pub(crate) async fn verified(&self, client: &Client, index: u64) -> Verification {
        let person = population().person(index);
        self.keep_secret(&person.number);
        let code = self.phones.expect(&person.number);
        let number = PhoneNumber::parse(&person.number).unwrap();
        let verification = client.start_verification(&number, v1::Transport::Sms).await.unwrap();
        self.keep_secret(&hex(&verification.session_id()));
        let code = code.within(PATIENCE).await.expect("a code arrives");
        self.keep_secret(&code);
        let verification = client.check_code(&verification, &code).await.unwrap();
        assert!(verification.is_verified());
        verification
    }

    /// The generated client is used because the reference client does not show the token.
    pub(crate) async fn create(
        &self,
        client: &Client,
        verification: &Verification,
        index: u64,
    ) -> Result<Identity, CallError> {
        let device = population().device(index);
        let request = v1::CreateAccountRequest {
            session_id: verification.session_id(),
            identity_key: device.identity_key,
            registration_id: device.registration_id,
            device_name: device.name,
            prekeys: Some(device.prekeys),
            discoverable: device.discoverable,
        };
        let created = client.sign_up().create_account(request).await?.into_inner();
        self.keep_secret(&created.credential);
        self.keep_secret(&created.token);
        let wire = v1::DeviceAddress { account_id: created.account_id, device_id: created.device_id };
        let address = device_address("device", Some(&wire)).unwrap();
        Ok(Identity::new(address, created.credential).with_token(&created.token))
    }

    /// Notes what must not be found in any log.
    pub(crate) fn keep_secret(&self, secret: &str) {
        let path = logs().join(format!("{}.secrets", self.name));
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{secret}").unwrap();
    }
}

pub(crate) fn hex(bytes: &Bytes) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where `cargo xtask test` looks for leaks; a folder of the build without it.
pub(crate) fn logs() -> PathBuf {
    let folder = std::env::var_os("SPILLWAY_TEST_LOGS")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("logs"), PathBuf::from);
    fs::create_dir_all(&folder).unwrap();
    folder
}
