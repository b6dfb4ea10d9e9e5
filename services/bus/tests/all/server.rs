//! The servers that tests talk to: a shared one, one of their own with the deployment's settings, and a false one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use spillway_chassis::Tasks;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// The address of the server that all tests share.
pub(crate) fn shared() -> String {
    variable("SPILLWAY_TEST_NATS")
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `cargo xtask test`, which starts what the tests need")
    })
}

/// A server with the files of `deploy/nats`, on ports of its own. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Own {
    process: Child,
    address: String,
    _dir: TempDir,
}

impl Own {
    /// `variables` are what the files want to know, such as the roles' public keys.
    pub(crate) async fn start(variables: &[(String, String)]) -> Self {
        let binary = variable("SPILLWAY_TEST_NATS_SERVER");
        let dir = tempfile::tempdir().unwrap();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nats");
        for file in ["nats-server.conf", "permissions.conf"] {
            let text = std::fs::read_to_string(deploy.join(file)).unwrap();
            // The only setting that no argument can override.
            let text = text.replace("\"/data\"", &format!("{:?}", dir.path().join("jetstream")));
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        // This one is alone.
        std::fs::write(dir.path().join("cluster.conf"), "").unwrap();
        let process = Command::new(&binary)
            .arg("--config")
            .arg(dir.path().join("nats-server.conf"))
            .args(["--addr", "127.0.0.1", "--port", "-1", "--http_port", "-1"])
            .arg("--ports_file_dir")
            .arg(dir.path())
            .arg("--log")
            .arg(dir.path().join("log"))
            .envs(variables.iter().cloned())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("stderr")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{binary} in SPILLWAY_TEST_NATS_SERVER does not start: {error}"));
        let mut own = Self { process, address: String::new(), _dir: dir };
        own.address = own.wait_for_address().await;
        own
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    async fn wait_for_address(&mut self) -> String {
        let dir = self._dir.path().to_owned();
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(address) = ports_file(&dir).and_then(|path| address_in(&path)) {
                return address;
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("nats-server ended with {status}: {}", log(&dir));
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("nats-server is not up after 20 s: {}", log(&dir));
    }
}

fn log(dir: &Path) -> String {
    // Wrong settings are said before there is a log.
    ["stderr", "log"].map(|file| std::fs::read_to_string(dir.join(file)).unwrap_or_default()).concat()
}

fn ports_file(dir: &Path) -> Option<PathBuf> {
    let mut files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "ports"))
}

/// The file may be half written.
fn address_in(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(ports["nats"][0].as_str()?.trim_start_matches("nats://").to_owned())
}

impl Drop for Own {
    fn drop(&mut self) {
        let _already_ended = self.process.kill();
        let _status = self.process.wait();
    }
}

/// Answers PINGs, and says that it is about to stop when it is told to.
#[derive(Debug)]
pub(crate) struct Fake {
    address: String,
    connections: watch::Sender<usize>,
    lame: watch::Sender<bool>,
    tasks: Tasks,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (connections, lame) = (watch::channel(0).0, watch::channel(false).0);
        let (tasks, count, announce) = (Tasks::new(), connections.clone(), lame.clone());
        let (spawner, cancelled) = (tasks.clone(), tasks.cancelled());
        tasks.spawn("fake server", async move {
            tokio::pin!(cancelled);
            loop {
                let (stream, _) = tokio::select! {
                    () = &mut cancelled => return,
                    accepted = listener.accept() => accepted.unwrap(),
                };
                count.send_modify(|count| *count += 1);
                let mut announced = announce.subscribe();
                announced.mark_unchanged();
                let cancelled = spawner.cancelled();
                spawner.spawn("fake connection", async move {
                    tokio::select! {
                        () = cancelled => {}
                        _ended = talk(stream, announced) => {}
                    }
                });
            }
        });
        Self { address, connections, lame, tasks }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    pub(crate) async fn wait_connections(&self, count: usize) {
        self.connections.subscribe().wait_for(|connections| *connections >= count).await.unwrap();
    }

    /// To the connections that there are now.
    pub(crate) fn announce_lame_duck(&self) {
        self.lame.send_replace(true);
    }
}

async fn talk(stream: TcpStream, mut lame: watch::Receiver<bool>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    write.write_all(b"INFO {\"max_payload\":1000}\r\n").await?;
    let mut lines = BufReader::new(read).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line?.as_deref() {
                Some("PING") => write.write_all(b"PONG\r\n").await?,
                Some(_) => {}
                None => return Ok(()),
            },
            Ok(()) = lame.changed() => write.write_all(b"INFO {\"max_payload\":1000,\"ldm\":true}\r\n").await?,
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}
