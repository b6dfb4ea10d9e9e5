//! etcd, the API server, the controllers, the scheduler, and kwok, which says of pods that they run: processes of this machine, on loopback,
//! for as long as the value lives.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::time::Instant;

use super::certificates::{Authority, rsa_key};
use crate::cargo;
use crate::check::free_ports;
use crate::tools::{self, Tool, quietly};

const START_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);
/// Of a control plane that nobody else can reach, and that is gone when this process is.
const TOKEN: &str = "of-this-run-only";
const STAGES: &str = include_str!("stages.yaml");

#[derive(Debug)]
pub(in crate::check::deploy) struct ControlPlane {
    folder: PathBuf,
    /// In the order in which they were started.
    processes: Vec<(&'static str, Child)>,
}

impl ControlPlane {
    pub(super) fn start() -> Result<Self> {
        let folder = std::path::absolute(cargo::target().join("check/cluster"))?;
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let [etcd, peers, api, kwok] = free_ports()?;
        let mut plane = Self { folder, processes: Vec::new() };
        plane.write_credentials(api)?;
        plane.start_etcd(etcd, peers)?;
        plane.start_api_server(etcd, api)?;
        plane.wait_for("the API server", &["get", "--raw=/readyz"])?;
        plane.start_controllers(kwok)?;
        plane.wait_for("the controllers", &["get", "serviceaccount", "default"])?;
        Ok(plane)
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// A new one for files of this run.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// What `kubectl get` says, as JSON.
    pub(super) fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut kubectl = self.kubectl();
        kubectl.arg("get").args(arguments);
        let text = quietly(&format!("kubectl get {}", arguments.join(" ")), &mut kubectl)?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {}: {text}", arguments.join(" ")))
    }

    /// A file, or all files of a folder.
    pub(super) fn apply(&self, what: &str, path: &str) -> Result<()> {
        let mut kubectl = self.kubectl();
        kubectl.args(["apply", "--server-side", "--filename", path]);
        quietly(&format!("making {what}"), &mut kubectl).map(drop)
    }

    pub(super) fn apply_text(&self, what: &str, text: &str) -> Result<()> {
        let file = self.folder.join("apply.yaml");
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        self.apply(what, &file.display().to_string())
    }

    fn write_credentials(&self, api: u16) -> Result<()> {
        self.write("tokens.csv", &format!("{TOKEN},admin,admin,system:masters\n"))?;
        self.write(
            "kubeconfig",
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
                 contexts: [{{name: here, context: {{cluster: here, user: admin}}}}]\n\
                 clusters: [{{name: here, cluster: {{server: \"https://127.0.0.1:{api}\", insecure-skip-tls-verify: true}}}}]\n\
                 users: [{{name: admin, user: {{token: {TOKEN}}}}}]\n"
            ),
        )?;
        rsa_key(&self.folder.join("accounts.key"))
    }

    fn start_etcd(&mut self, clients: u16, peers: u16) -> Result<()> {
        let (clients, peers) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
        let mut etcd = tools::ETCD.command();
        etcd.arg("--data-dir").arg(self.folder.join("etcd")).args(["--unsafe-no-fsync", "--log-level=warn"]);
        etcd.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        etcd.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        etcd.arg("--initial-cluster").arg(format!("default={peers}"));
        self.spawn(&tools::ETCD, etcd)
    }

    fn start_api_server(&mut self, etcd: u16, port: u16) -> Result<()> {
        let key = self.folder.join("accounts.key");
        let mut api = tools::KUBE_APISERVER.command();
        api.arg(format!("--etcd-servers=http://127.0.0.1:{etcd}")).arg(format!("--secure-port={port}"));
        api.args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
        ]);
        // It makes its own certificate there.
        api.arg("--cert-dir").arg(self.folder.join("certificates"));
        api.arg("--token-auth-file").arg(self.folder.join("tokens.csv")).arg("--authorization-mode=RBAC");
        api.arg("--service-account-issuer=https://kubernetes.default.svc");
        api.arg("--service-account-key-file").arg(&key).arg("--service-account-signing-key-file").arg(&key);
        api.arg("--service-cluster-ip-range=10.96.0.0/16");
        // Whom servers of further interfaces believe that they are told by it who asks.
        let proxies = Authority::new(self.folder("proxies")?)?;
        let (certificate, key) = proxies.issue("front-proxy")?;
        api.arg("--requestheader-client-ca-file").arg(proxies.certificate());
        api.args([
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
        ]);
        api.args(["--requestheader-group-headers=X-Remote-Group"]);
        api.args(["--requestheader-extra-headers-prefix=X-Remote-Extra-"]);
        api.arg("--proxy-client-cert-file").arg(certificate).arg("--proxy-client-key-file").arg(key);
        self.spawn(&tools::KUBE_APISERVER, api)
    }

    fn start_controllers(&mut self, kwok_port: u16) -> Result<()> {
        let alone = ["--bind-address=127.0.0.1", "--secure-port=0", "--leader-elect=false"];
        let mut manager = tools::KUBE_CONTROLLER_MANAGER.command();
        manager.arg("--kubeconfig").arg(self.kubeconfig()).args(alone);
        manager.arg("--service-account-private-key-file").arg(self.folder.join("accounts.key"));
        // In place of 15 s.
        manager.arg("--horizontal-pod-autoscaler-sync-period=1s");
        self.spawn(&tools::KUBE_CONTROLLER_MANAGER, manager)?;
        let mut scheduler = tools::KUBE_SCHEDULER.command();
        scheduler.arg("--kubeconfig").arg(self.kubeconfig()).args(alone);
        self.spawn(&tools::KUBE_SCHEDULER, scheduler)?;
        let mut kwok = tools::KWOK.command();
        kwok.arg("--kubeconfig").arg(self.kubeconfig()).arg("--manage-all-nodes");
        self.write("stages.yaml", STAGES)?;
        kwok.arg("--config").arg(self.folder.join("stages.yaml"));
        kwok.arg("--node-lease-duration-seconds=40").arg(format!("--server-address=127.0.0.1:{kwok_port}"));
        self.spawn(&tools::KWOK, kwok)
    }

    /// Beside what runs already, with its log in the folder, until the value is dropped.
    pub(super) fn spawn(&mut self, tool: &Tool, mut command: Command) -> Result<()> {
        let log = self.log(tool.name);
        let out = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        // What a user has set for clusters of his own is not for this one.
        command.env_remove("KUBECONFIG").stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("cannot start {}", tool.name))?;
        self.processes.push((tool.name, child));
        Ok(())
    }

    fn wait_for(&mut self, what: &str, kubectl: &[&str]) -> Result<()> {
        self.wait(what, kubectl, |_| true)
    }

    /// Asks `kubectl get` until that is all it says.
    pub(super) fn wait_for_text(&mut self, what: &str, get: &[&str], text: &str) -> Result<()> {
        self.wait(what, &[&["get"], get].concat(), |said| said.trim() == text)
    }

    fn wait(&mut self, what: &str, kubectl: &[&str], well: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        loop {
            let answer = self.kubectl().args(kubectl).output().context("cannot start kubectl")?;
            if answer.status.success() && well(&String::from_utf8_lossy(&answer.stdout)) {
                return Ok(());
            }
            self.ensure_all_run()?;
            let folder = self.folder.display();
            ensure!(
                Instant::now() < deadline,
                "{what} did not answer in time; logs are in {folder}. The last answer: {}{}",
                String::from_utf8_lossy(&answer.stdout),
                String::from_utf8_lossy(&answer.stderr)
            );
            thread::sleep(POLL);
        }
    }

    pub(super) fn ensure_all_run(&mut self) -> Result<()> {
        let folder = self.folder.display().to_string();
        for (name, child) in &mut self.processes {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended ({status}); its log is in {folder}");
            }
        }
        Ok(())
    }

    fn kubectl(&self) -> Command {
        let mut kubectl = tools::KUBECTL.command();
        kubectl.arg("--kubeconfig").arg(self.kubeconfig());
        kubectl
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.folder.join(name);
        create_private(&file)
            .and_then(|mut writer| writer.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // The last one first, so that nobody complains of the others.
        for (_, child) in self.processes.iter_mut().rev() {
            // It may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn create_private(file: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().write(true).create(true).truncate(true).mode(0o600).open(file)
}
