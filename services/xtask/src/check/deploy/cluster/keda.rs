//! KEDA's operator and its metrics adapter, beside the control plane as its own processes are.
//!
//! The operator makes a HorizontalPodAutoscaler of each ScaledObject and asks scalers; the adapter serves what they say as
//! `external.metrics.k8s.io`, through the API server, which is where autoscalers look. Both are an administrator here, so what KEDA's own
//! chart lets them do is not tried.

use std::process::Command;

use anyhow::Result;

use super::certificates::Authority;
use super::control_plane::ControlPlane;
use crate::check::free_ports;
use crate::tools::{self, Tool};

const NAMESPACE: &str = "keda";
const METRICS: &str = "v1beta1.external.metrics.k8s.io";

pub(super) fn start(plane: &mut ControlPlane) -> Result<()> {
    let [operator_port, health, adapter_port] = free_ports()?;
    let folder = plane.folder(NAMESPACE)?;
    // Each asks the other for a certificate of this authority, under these names.
    let authority = Authority::new(folder.clone())?;
    let (certificate, key) = authority.issue("tls")?;

    let mut operator = command(&tools::KEDA_OPERATOR, plane);
    operator.arg(format!("--metrics-service-bind-address=127.0.0.1:{operator_port}"));
    operator.arg(format!("--health-probe-bind-address=127.0.0.1:{health}"));
    operator.args(["--enable-prometheus-metrics=false", "--zap-log-level=info", "--zap-encoder=console"]);
    operator.arg("--cert-dir").arg(&folder);
    plane.spawn(&tools::KEDA_OPERATOR, operator)?;

    let mut adapter = command(&tools::KEDA_ADAPTER, plane);
    for whose in ["authentication", "authorization", "lister"] {
        adapter.arg(format!("--{whose}-kubeconfig={}", plane.kubeconfig().display()));
    }
    adapter.args(["--bind-address=127.0.0.1", &format!("--secure-port={adapter_port}"), "--port=0"]);
    adapter.arg(format!("--metrics-service-address=127.0.0.1:{operator_port}"));
    adapter.arg("--cert-dir").arg(&folder).arg("--client-ca-file").arg(authority.certificate());
    adapter.arg("--tls-cert-file").arg(certificate).arg("--tls-private-key-file").arg(key);
    plane.spawn(&tools::KEDA_ADAPTER, adapter)?;

    plane.apply_text("the way to KEDA's adapter", &way_to_adapter(adapter_port))?;
    let available = "--output=jsonpath={.status.conditions[?(@.type==\"Available\")].status}";
    plane.wait_for_text("KEDA's adapter, through the API server", &["apiservice", METRICS, available], "True")
}

fn command(tool: &Tool, plane: &ControlPlane) -> Command {
    let mut command = tool.command();
    command.env("POD_NAMESPACE", NAMESPACE).env("WATCH_NAMESPACE", "");
    command.env("KEDA_CLUSTER_OBJECT_NAMESPACE", NAMESPACE);
    command.arg("--kubeconfig").arg(plane.kubeconfig());
    command
}

/// A Service can be another name of a host, and loopback is one; as an endpoint it would be refused.
fn way_to_adapter(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: adapter, namespace: {NAMESPACE}}}\n\
         spec: {{type: ExternalName, externalName: localhost, ports: [{{port: {port}}}]}}\n---\n\
         apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {{name: {METRICS}}}\n\
         spec:\n  group: external.metrics.k8s.io\n  version: v1beta1\n  groupPriorityMinimum: 100\n  versionPriority: 100\n  \
         insecureSkipTLSVerify: true\n  service: {{name: adapter, namespace: {NAMESPACE}, port: {port}}}\n"
    )
}
