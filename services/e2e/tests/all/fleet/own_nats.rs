use std::fs::{self, File};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::super::support::eventually;
use super::site::variable;

/// Ends when dropped.
pub(crate) struct OwnNats {
    pub(crate) address: String,
    _process: Child,
    _folder: TempDir,
}

impl OwnNats {
    /// `settings` are added to a port and JetStream.
    pub(crate) async fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let jetstream = format!("jetstream {{ store_dir: {:?} }}", path("jetstream"));
        fs::write(path("nats.conf"), format!("listen: \"127.0.0.1:-1\"\n{jetstream}\n{settings}\n")).unwrap();
        let process = Command::new(variable("SPILLWAY_TEST_NATS_SERVER"))
            .arg("--config")
            .arg(path("nats.conf"))
            .arg("--ports_file_dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(File::create(path("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("NATS starts", || async { listens_at(&folder).is_some() }).await;
        let address = listens_at(&folder).unwrap();
        Self { address, _process: process, _folder: folder }
    }
}

/// From the file that the server writes, which may be half there.
fn listens_at(folder: &TempDir) -> Option<String> {
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|extension| extension == "ports"))?;
    let ports: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    Some(ports["nats"][0].as_str()?.trim_start_matches("nats://").to_owned())
}
