//! Programs of other people that checks need: built once by Go, each in its pinned version, into `target/tools`. What is there is used
//! without a network.

mod go;
pub(crate) mod schemas;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo;

pub(crate) use go::Workspace;

/// A program that Go builds.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    source: Source,
    /// `-X` flags of the linker, where the program does not know its version otherwise.
    stamps: &'static [&'static str],
    tags: &'static str,
}

#[derive(Debug)]
enum Source {
    /// A package that can be installed as it is; `@v` and the version follow.
    Package(&'static str),
    /// A package whose module replaces others, which only a module of ours can repeat: its folder in `services/xtask/go`.
    Module { folder: &'static str, package: &'static str },
}

pub(crate) const HELM: Tool = Tool::package("helm", "4.3.1", "helm.sh/helm/v4/cmd/helm");
pub(crate) const KUBECONFORM: Tool =
    Tool::package("kubeconform", "0.8.0", "github.com/yannh/kubeconform/cmd/kubeconform");
pub(crate) const HELM_UNITTEST: Tool = Tool::module(
    "helm-unittest",
    "1.1.2",
    "helm-unittest",
    "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
);
/// Go's version 0.3YY.z is release 3.YY.z. Of the ways to find targets only Kubernetes and files: the others bring the libraries of
/// every cloud.
pub(crate) const PROMTOOL: Tool = Tool {
    stamps: &["github.com/prometheus/common/version.Version=3.16.0"],
    tags: "remove_all_sd,enable_kubernetes_sd",
    ..Tool::package("promtool", "0.316.0", "github.com/prometheus/prometheus/cmd/promtool")
};
/// The server, with the same; its pages are left out.
pub(crate) const PROMETHEUS: Tool = Tool {
    stamps: PROMTOOL.stamps,
    tags: PROMTOOL.tags,
    ..Tool::package("prometheus", "0.316.0", "github.com/prometheus/prometheus/cmd/prometheus")
};
pub(crate) const ETCD: Tool = Tool::module("etcd", "3.6.16", "etcd", "go.etcd.io/etcd/server/v3");
pub(crate) const KWOK: Tool = Tool::package("kwok", "0.8.0", "sigs.k8s.io/kwok/cmd/kwok");
pub(crate) const KUBE_APISERVER: Tool =
    Tool::kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");
pub(crate) const KUBE_CONTROLLER_MANAGER: Tool =
    Tool::kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager");
pub(crate) const KUBE_SCHEDULER: Tool =
    Tool::kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler");
pub(crate) const KUBECTL: Tool = Tool::kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl");
pub(crate) const KEDA_OPERATOR: Tool =
    Tool::keda("keda-operator", "github.com/kedacore/keda/v2/cmd/operator");
pub(crate) const KEDA_ADAPTER: Tool = Tool::keda("keda-adapter", "github.com/kedacore/keda/v2/cmd/adapter");

impl Tool {
    const fn package(name: &'static str, version: &'static str, package: &'static str) -> Self {
        Self { name, version, source: Source::Package(package), stamps: &[], tags: "" }
    }

    const fn module(
        name: &'static str,
        version: &'static str,
        folder: &'static str,
        package: &'static str,
    ) -> Self {
        Self { name, version, source: Source::Module { folder, package }, stamps: &[], tags: "" }
    }

    /// Without the stamps it says that it is version 0.0.0, which no chart's `kubeVersion` accepts.
    const fn kubernetes(name: &'static str, package: &'static str) -> Self {
        let stamps = &[
            "k8s.io/component-base/version.gitVersion=v1.35.4",
            "k8s.io/component-base/version.gitMajor=1",
            "k8s.io/component-base/version.gitMinor=35",
            "k8s.io/client-go/pkg/version.gitVersion=v1.35.4",
        ];
        Self { stamps, ..Self::module(name, "1.35.4", "kubernetes", package) }
    }

    const fn keda(name: &'static str, package: &'static str) -> Self {
        let stamps = &["github.com/kedacore/keda/v2/version.Version=2.20.2"];
        Self { stamps, ..Self::module(name, "2.20.2", "keda", package) }
    }

    /// Where it is, or will be.
    pub(crate) fn path(&self) -> PathBuf {
        folder().join("bin").join(format!("{}-{}", self.name, self.version))
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.path());
        command.current_dir(cargo::root());
        command
    }
}

pub(crate) fn folder() -> PathBuf {
    cargo::target().join("tools")
}

/// Builds what is missing. Go's own caches are removed at the end, because they grow to gigabytes and are of no more use.
pub(crate) fn obtain(tools: &[&Tool]) -> Result<()> {
    let missing: Vec<_> = tools.iter().filter(|tool| !tool.path().exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|tool| format!("{} {}", tool.name, tool.version)).collect();
    let go = Workspace::open(&names.join(", "))?;
    for tool in missing {
        once(&tool.path(), |part| go.build(tool, part))?;
    }
    go.close()
}

/// Makes `wanted` under another name and under a lock, so that nobody sees half of it or makes it twice.
fn once(wanted: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let beside = |ending: &str| {
        let mut name = wanted.file_name().unwrap_or_default().to_owned();
        name.push(ending);
        // Go runs elsewhere and wants whole paths.
        std::path::absolute(wanted.with_file_name(name)).context("no current folder")
    };
    if let Some(folder) = wanted.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let lock = beside(".lock")?;
    let locked = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
    locked.lock().with_context(|| format!("cannot lock {}", lock.display()))?;
    if wanted.exists() {
        return Ok(());
    }
    let part = beside(".part")?;
    remove(&part)?;
    make(&part)?;
    fs::rename(&part, wanted).with_context(|| format!("cannot make {}", wanted.display()))
}

fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

/// Runs a program that says nothing unless it fails; then its output is the error.
pub(crate) fn quietly(what: &str, command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{what}: cannot start {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    bail!("{what} failed ({}):\n{}{text}", output.status, String::from_utf8_lossy(&output.stderr))
}
