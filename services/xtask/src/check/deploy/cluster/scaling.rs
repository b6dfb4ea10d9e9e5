//! KEDA reads the scaler of a real process and moves the chart's own Deployment: up while that process has more to do than it can, not down
//! because nobody answers, and down when there is nothing to do.
//!
//! The process has one seat at its gateway, so that a load of which a machine hardly knows is many times what it can do. The Deployment's pods
//! run nothing and take nothing off it.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::control_plane::ControlPlane;
use super::{ROLLOUT_MAX, helm, objects};
use crate::check::one_process::OneProcess;
use crate::check::{POLL, eventually};
use crate::tools::quietly;
use crate::{cargo, chart};

const NAMESPACE: &str = "scaled";
/// Of the release `try` with these values.
const VALUES: &str = "ci/keda-scaling-values.yaml";
const DEPLOYMENT: &str = "try-spillway-gateway";
/// KEDA's name of the first trigger's metric.
const METRIC: &str = "s0-demand-gateway";
/// In the values.
const FEW: u64 = 2;
const MANY: u64 = 9;
/// Longer than the values' window of stabilization, after which the fleet would have shrunk.
const HOLD: Duration = Duration::from_secs(40);

const SETTINGS: &str = "control.beacon_silence = \"3s\"\n\
    admission.gateway.limiter = { initial = 1, least = 1, most = 1 }\n\
    quotas.messages.enabled = false\n\
    quotas.verification_start_network.enabled = false\n\
    quotas.authenticate.enabled = false\n";
/// Messages a second: what is too much for one seat depends on the disk. Each is tried until one is.
const SENDS: [&str; 3] = ["600", "2400", "9600"];
const SURGE_SECONDS: &str = "20";
const SURGE_MAX: Duration = Duration::from_secs(180);

/// KEDA asks each second here, and some answers may be lost on a machine that has much to do.
const ANSWER_MAX: Duration = Duration::from_secs(90);

pub(super) async fn check(plane: &mut ControlPlane, spillway: &Path, surge: &Path) -> Result<()> {
    let folder = plane.folder("scaled")?;
    let mut one = OneProcess::start(spillway, &folder, SETTINGS).await?;
    install(plane, &one)?;
    eventually("KEDA has two pods made", ANSWER_MAX, async || Ok(pods(plane)? == (FEW, FEW))).await?;
    let idle = metric(plane)?;
    println!("    idle: {FEW} pods, and the API server says {idle} of {METRIC}");

    until_it_grew(plane, &one, surge, &folder).await?;

    one.kill().await?;
    eventually("KEDA has no figure any more", ANSWER_MAX, async || Ok(metric(plane).is_err())).await?;
    let since = Instant::now();
    while since.elapsed() < HOLD {
        plane.ensure_all_run()?;
        let (wanted, _) = pods(plane)?;
        ensure!(wanted == MANY, "{wanted} pods are wanted, and the scaler is away");
        sleep(POLL).await;
    }
    println!("    the scaler killed: {MANY} pods for {} s more, with nobody to ask", HOLD.as_secs());

    one.start_again().await?;
    let began = Instant::now();
    eventually("it has shrunk", ANSWER_MAX, async || Ok(pods(plane)? == (FEW, FEW))).await?;
    println!("    the scaler back, and nothing to do: {FEW} pods after {} s", began.elapsed().as_secs());
    // KEDA has to let go of what it holds on to.
    quietly("helm uninstall", &mut helm(plane, NAMESPACE, &["uninstall", "try", "--wait", ROLLOUT_MAX]))?;
    one.stop().await
}

fn install(plane: &ControlPlane, one: &OneProcess) -> Result<()> {
    plane.apply_text("a namespace", &objects::restricted_namespace(NAMESPACE))?;
    let mut install = helm(plane, NAMESPACE, &["install", "try", "--wait", ROLLOUT_MAX]);
    install.arg("--values").arg(chart::folder().join(VALUES));
    install.arg(format!("--set-string=gateway.autoscaling.keda.scalerAddress={}", one.scaler));
    quietly("helm install", install.arg(chart::folder())).map(drop)
}

/// Plays load, more each time, until KEDA has answered it. The load tool's own verdict includes that no message was lost.
async fn until_it_grew(plane: &ControlPlane, one: &OneProcess, surge: &Path, folder: &Path) -> Result<()> {
    for sends in SENDS {
        let log = folder.join(format!("surge-{sends}.log"));
        let mut surge = Command::new(surge);
        surge.current_dir(cargo::root()).args(["run", "--existing", "60", "--only", "send", "--calm", "1"]);
        surge.args(["--sends", sends, "--seconds", SURGE_SECONDS]).arg("--out").arg(folder.join("surge"));
        surge.args(["--target", &format!("http://{}", one.public)]);
        surge.args(["--codes", &format!("http://{}", one.codes), "--admin", &one.admin.to_string()]);
        let out = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        surge.stdout(out.try_clone()?).stderr(out);
        let mut load = Load(surge.spawn().context("cannot start the load tool")?);
        let began = Instant::now();
        let (mut grew, mut most) = (None, 0.0_f64);
        let status = loop {
            if let Some(status) = load.0.try_wait()? {
                break status;
            }
            ensure!(began.elapsed() < SURGE_MAX, "the load tool does not end; see {}", log.display());
            most = most.max(metric(plane).unwrap_or_default());
            if grew.is_none() && pods(plane)? == (MANY, MANY) {
                grew = Some(began.elapsed());
            }
            sleep(POLL).await;
        };
        // What so little room does to objectives is not judged here; what is lost is.
        ensure!(
            matches!(status.code(), Some(0 | 3 | 5)),
            "the load tool says no ({status}); see {}",
            log.display()
        );
        if let Some(grew) = grew {
            println!(
                "    {sends} messages a second: {MANY} pods after {} s, the most asked for {most}; none was lost",
                grew.as_secs()
            );
            return Ok(());
        }
        println!("    {sends} messages a second are not enough, the most asked for {most}");
    }
    bail!("no load made KEDA ask for {MANY} pods; logs are in {}", folder.display())
}

/// Ended when it is dropped.
struct Load(std::process::Child);

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// How many are wanted, and how many are ready.
fn pods(plane: &ControlPlane) -> Result<(u64, u64)> {
    let deployment = plane.get(&["deployment", DEPLOYMENT, "--namespace", NAMESPACE, "--output=json"])?;
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    Ok((number(&deployment["spec"]["replicas"]), number(&deployment["status"]["readyReplicas"])))
}

/// What an autoscaler is told: the replicas that the demand fills, through the adapter and the operator.
fn metric(plane: &ControlPlane) -> Result<f64> {
    let path = format!(
        "--raw=/apis/external.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/{METRIC}?labelSelector=scaledobject.keda.sh%2Fname%3D{DEPLOYMENT}"
    );
    let list = plane.get(&[&path])?;
    let text = list["items"][0]["value"].as_str().with_context(|| format!("no value in {list}"))?;
    quantity(text).with_context(|| format!("{text} is no quantity"))
}

/// `12`, or thousandths as `11700m`.
fn quantity(text: &str) -> Option<f64> {
    match text.strip_suffix('m') {
        Some(thousandths) => Some(thousandths.parse::<f64>().ok()? / 1_000.0),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn quantities_are_numbers() {
        assert_eq!(quantity("12"), Some(12.0));
        assert_eq!(quantity("11700m"), Some(11.7));
        assert_eq!(quantity("much"), None);
    }

    /// The check waits for what the values say.
    #[test]
    fn the_values_are_those_that_are_waited_for() {
        let text = fs::read_to_string(chart::folder().join(VALUES)).unwrap();
        let values = crate::yaml::documents(&text).unwrap();
        let scaling = &values[0]["gateway"]["autoscaling"];
        assert_eq!(
            (scaling["minReplicas"].as_u64(), scaling["maxReplicas"].as_u64()),
            (Some(FEW), Some(MANY))
        );
        let window = scaling["behavior"]["scaleDown"]["stabilizationWindowSeconds"].as_u64().unwrap();
        assert!(window < HOLD.as_secs());
    }
}
