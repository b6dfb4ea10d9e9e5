//! With a nats-server that each test has of its own. `SPILLWAY_TEST_NATS_SERVER` is its program, which `cargo xtask test` sets.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const START_MAX: Duration = Duration::from_secs(20);

/// Ends when dropped.
struct Server {
    process: Child,
    address: String,
    folder: TempDir,
}

impl Server {
    async fn start(settings: &str) -> Self {
        let program = std::env::var("SPILLWAY_TEST_NATS_SERVER").expect(
            "SPILLWAY_TEST_NATS_SERVER is not set: run `cargo xtask test`, which starts what the tests need",
        );
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats.conf");
        fs::write(&config, settings).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(program)
            .args(["--addr", "127.0.0.1", "--port", "-1", "--config"])
            .arg(&config)
            .arg("--ports_file_dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { process, address: String::new(), folder };
        let until = Instant::now() + START_MAX;
        server.address = loop {
            if let Some(address) = server.listening() {
                break address;
            }
            let log = || fs::read_to_string(server.folder.path().join("log")).unwrap();
            assert!(Instant::now() < until, "{}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        server
    }

    fn listening(&self) -> Option<String> {
        let mut files = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let file = files.find(|path| path.extension().is_some_and(|ending| ending == "ports"))?;
        let ports: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        Some(ports["nats"][0].as_str()?.trim_start_matches("nats://").to_owned())
    }

    /// With somebody's name, and credentials.
    async fn link(&self, user: &str, credentials: Option<&Path>) -> Result<Link, LinkError> {
        let address = format!("nats://{user}{}", self.address);
        let login = Login::new(&[address], credentials)?;
        Link::connect(&login, "friday", Duration::ZERO).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A question goes from one to the other and its answer back.
async fn is_answered(asks: &Link, answers: &Link) {
    let mut questions = answers.subscribe("clock").await.unwrap();
    let answer = async {
        let question = questions.next().await.unwrap();
        answers.answer(&question, &"noon").await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        told = asks.insist::<String>("clock", &"time?", START_MAX) => assert_eq!(told.unwrap(), "noon"),
        () = answer => {}
    }
}

#[tokio::test]
async fn what_cannot_work_is_said_before_anything_is_tried() {
    let connect = async |address: &str, run: &str| match Login::new(&[address.to_owned()], None) {
        Ok(login) => Link::connect(&login, run, Duration::ZERO).await.unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(connect("nats://127.0.0.1:1", "a.b").await.contains("letters, digits"));
    assert!(connect("http://127.0.0.1:1", "a").await.contains("is no address of a NATS server"));
    assert!(connect("nats://127.0.0.1:1", "a").await.contains("no NATS server answers"));
    let gone = [Path::new("/nowhere/load.creds")];
    let login = Login::new(&["127.0.0.1:1".to_owned()], Some(gone[0])).unwrap();
    let error = Link::connect(&login, "a", Duration::ZERO).await.unwrap_err().to_string();
    assert!(error.contains("credentials in /nowhere/load.creds"), "{error}");
}

/// As docs/workers.md has it: beside the service, on its cluster, in an account of its own.
#[tokio::test]
async fn an_account_of_its_own_is_enough_and_hears_nothing_of_the_service() {
    let settings = include_str!("../../../docs/workers.md");
    let settings = settings.split("```\naccounts {").nth(1).unwrap().split("```").next().unwrap();
    let settings = format!("accounts {{{settings}").replace("$LOAD_PASSWORD", "secret");
    let settings = settings.replace("$SPILLWAY_PASSWORD", "of-the-service");
    let store = tempfile::tempdir().unwrap();
    let server = Server::start(&format!("jetstream {{ store_dir: {:?} }}\n{settings}", store.path())).await;
    let (one, other) =
        (server.link("load:secret@", None).await.unwrap(), server.link("load:secret@", None).await.unwrap());
    is_answered(&one, &other).await;
    assert!(!one.address().contains("secret"));
    // The service talks on the same server, and its own user is refused there.
    let service = server.link("spillway:of-the-service@", None).await.unwrap();
    let talk = async {
        loop {
            service.client.publish("cell1.ctl.load", "{}".into()).await.unwrap();
            service.client.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let looks = async {
        one.refuse_bus_of_a_service().await.unwrap();
        service.refuse_bus_of_a_service().await.unwrap_err()
    };
    let refused = tokio::select! {
        refused = looks => refused,
        () = talk => unreachable!("it never ends"),
    };
    assert!(matches!(refused, LinkError::Bus { .. }), "{refused}");
    for stranger in ["load:wrong@", "", "load@"] {
        let error = server.link(stranger, None).await.unwrap_err();
        assert!(matches!(error, LinkError::NotAllowed { .. }), "{stranger}: {error}");
        assert!(error.to_string().contains("NATS_PASSWORD"), "{error}");
    }
}

fn token(claims: &Value, by: &KeyPair) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(by.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

fn claims(name: &str, of: &KeyPair, by: &KeyPair, nats: &Value) -> Value {
    json!({"jti": name, "iat": 1_700_000_000, "iss": by.public_key(), "sub": of.public_key(), "name": name, "nats": nats})
}

/// A server in operator mode knows no passwords: accounts and users are tokens that are signed.
#[tokio::test]
async fn credentials_as_nsc_writes_them_are_taken() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let of_operator = claims("O", &operator, &operator, &json!({"type": "operator", "version": 2}));
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
    let nats = json!({"limits": limits, "default_permissions": {"pub": {}, "sub": {}}, "type": "account", "version": 2});
    let of_account = claims("LOADTEST", &account, &operator, &nats);
    let settings = format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}\n",
        token(&of_operator, &operator),
        account.public_key(),
        token(&of_account, &operator)
    );
    let server = Server::start(&settings).await;
    let only = json!({"allow": ["lt.>"]});
    let nats = json!({"pub": only, "sub": only, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2});
    let jwt = token(&claims("load", &user, &account, &nats), &account);
    let path = server.folder.path().join("load.creds");
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    );
    fs::write(&path, text).unwrap();
    let one = server.link("", Some(&path)).await.unwrap();
    let other = server.link("", Some(&path)).await.unwrap();
    is_answered(&one, &other).await;
    // It may not listen anywhere else, which is no reason to refuse it.
    one.refuse_bus_of_a_service().await.unwrap();

    let nobody = server.link("load:secret@", None).await.unwrap_err();
    assert!(matches!(nobody, LinkError::NotAllowed { .. }), "{nobody}");
    let stranger = KeyPair::new_account();
    let forged = token(&claims("load", &user, &stranger, &nats), &stranger);
    fs::write(&path, fs::read_to_string(&path).unwrap().replace(&jwt, &forged)).unwrap();
    let error = server.link("", Some(&path)).await.unwrap_err();
    assert!(matches!(error, LinkError::NotAllowed { .. }), "{error}");
}
