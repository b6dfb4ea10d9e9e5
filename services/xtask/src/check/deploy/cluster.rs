//! What a real API server, scheduler and controllers say of the chart: installed, its test pods made, upgraded and rolled back with each set of values, in
//! namespaces that enforce Pod Security "restricted". Nodes and pods are fakes that run nothing, so probes, drains and what a pod does are
//! not tried here.

mod certificates;
mod control_plane;
mod keda;
mod objects;
mod scaling;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::value_sets::ValueSet;
use crate::tools::schemas::Schemas;
use crate::tools::{self, Tool, quietly};
use crate::{chart, fleet};
pub(super) use control_plane::ControlPlane;

pub(super) const TOOLS: [&Tool; 6] = [
    &tools::ETCD,
    &tools::KWOK,
    &tools::KUBE_APISERVER,
    &tools::KUBE_CONTROLLER_MANAGER,
    &tools::KUBE_SCHEDULER,
    &tools::KUBECTL,
];
pub(super) const KEDA_TOOLS: [&Tool; 2] = [&tools::KEDA_OPERATOR, &tools::KEDA_ADAPTER];

/// A rollout waits for `minReadySeconds`, in several steps.
const ROLLOUT_MAX: &str = "--timeout=300s";

pub(super) fn start(schemas: &Schemas) -> Result<ControlPlane> {
    eprintln!(
        "\n=== a control plane with nodes that run nothing (Kubernetes {})",
        tools::KUBE_APISERVER.version
    );
    let plane = ControlPlane::start()?;
    plane.apply("definitions of custom resources", &schemas.custom_resources().display().to_string())?;
    plane.apply_text("definitions that no module has", &objects::definitions())?;
    plane.apply_text("nodes and volumes", &objects::nodes_and_volumes())?;
    Ok(plane)
}

pub(super) fn try_all(plane: &ControlPlane, sets: &[ValueSet]) -> Result<()> {
    eprintln!("\n=== helm install, test, upgrade, rollback, uninstall");
    for set in sets {
        let began = Instant::now();
        try_out(plane, set).with_context(|| format!("the values {}", set.name))?;
        eprintln!("    {}: installed, upgraded, rolled back in {} s", set.name, began.elapsed().as_secs());
    }
    Ok(())
}

pub(super) fn scale(plane: &mut ControlPlane, spillway: &Path, surge: &Path) -> Result<()> {
    eprintln!("\n=== KEDA {} scales by what a real process has to do", tools::KEDA_OPERATOR.version);
    keda::start(plane)?;
    fleet::runtime()?.block_on(scaling::check(plane, spillway, surge))
}

fn try_out(plane: &ControlPlane, set: &ValueSet) -> Result<()> {
    let namespace = format!("try-{}", set.name);
    plane.apply_text("a namespace", &objects::restricted_namespace(&namespace))?;
    let helm = |arguments: &[&str]| helm(plane, &namespace, arguments);
    let folder = chart::folder();
    let mut install = helm(&["install", "try", "--wait", ROLLOUT_MAX]);
    quietly("helm install", install.args(set.arguments()).arg(&folder))?;
    quietly("helm test", &mut helm(&["test", "try", ROLLOUT_MAX]))?;
    // Another image rolls out every Deployment.
    let mut upgrade =
        helm(&["upgrade", "try", "--wait", ROLLOUT_MAX, "--set=image.tag=next", "--set=image.digest="]);
    quietly("helm upgrade", upgrade.args(set.arguments()).arg(&folder))?;
    quietly("helm rollback", &mut helm(&["rollback", "try", "1", "--wait", ROLLOUT_MAX]))?;
    quietly("helm uninstall", &mut helm(&["uninstall", "try", "--wait", ROLLOUT_MAX]))?;
    Ok(())
}

fn helm(plane: &ControlPlane, namespace: &str, arguments: &[&str]) -> Command {
    let mut helm = tools::HELM.command();
    helm.arg("--kubeconfig").arg(plane.kubeconfig()).args(["--namespace", namespace]).args(arguments);
    helm
}
