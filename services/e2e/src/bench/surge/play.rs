//! A run of the load tool, in a process of its own, against a service that is there.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use surge::recording::Recording;
use tempfile::TempDir;
use tokio::process::Command;

use crate::bench::node::process::Node;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Each online, on a connection of his own.
    pub(crate) people: u64,
    /// Messages that they write each second, one to another.
    pub(crate) per_second: f64,
    pub(crate) seconds: u64,
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Played {
    summary: Value,
    folder: TempDir,
}

/// Whether it met its objectives is not looked at.
pub(crate) async fn play(surge: &Path, node: &Node, load: Load) -> Result<Played> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let Load { people, per_second, seconds } = load;
    let codes = node.server.codes.as_deref().context("the service serves no sandbox codes")?;
    let status = Command::new(surge)
        .args(["run", "--quiet", "--within", "uniform", "--target", &node.server.public, "--codes", codes])
        .args(["--server-pid", &node.server.pid().to_string(), "--existing", &people.to_string()])
        .args(["--profile", &format!("send({seconds}s@{per_second:.0})")])
        .arg("--out")
        .arg(folder.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("cannot start {}", surge.display()))?;
    let summary = folder.path().join("latest/summary.json");
    let summary = std::fs::read(&summary).with_context(|| format!("no summary, {status}"))?;
    let played = Played { summary: serde_json::from_slice(&summary)?, folder };
    ensure!(played.figure("/ledger/lost")? == 0.0, "messages were lost: {}", played.summary);
    Ok(played)
}

impl Played {
    /// A number of the summary.
    pub(crate) fn figure(&self, pointer: &str) -> Result<f64> {
        self.summary.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("no {pointer}"))
    }

    /// The most that the load tool had resident.
    pub(crate) fn resident_peak(&self) -> Result<u64> {
        let recording = Recording::read(&self.folder.path().join("latest"))?;
        let samples = recording.rows().filter_map(|row| row.generator);
        samples.map(|sample| sample.rss_peak_bytes).max().context("the load tool did not look at itself")
    }
}
