//! One run of the load tool that several workers play, over a NATS server that knows no other subjects.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use surge::slo::ExitCode;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::support::{NO_SEND_QUOTA, Node, PATIENCE, eventually};

const SURGE: &str = env!("CARGO_BIN_EXE_surge-under-test");
const SEED: &str = "7";
/// Nothing that another account's user could do.
const ACCOUNTS: &str = r#"
    accounts {
      LOAD {
        users: [
          { user: load, password: test, permissions { publish: "lt.>", subscribe: "lt.>" } }
        ]
      }
    }
"#;

/// Of the load tool's own. Ends when dropped.
struct Nats {
    process: Child,
    address: String,
    _folder: TempDir,
}

impl Nats {
    async fn start(settings: &str) -> Self {
        let binary = std::env::var("SPILLWAY_TEST_NATS_SERVER").expect(
            "SPILLWAY_TEST_NATS_SERVER is not set: run `cargo xtask test`, which starts what the tests need",
        );
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats.conf");
        fs::write(&config, settings).unwrap();
        let process = Command::new(binary)
            .args(["--addr", "127.0.0.1", "--port", "-1", "--config"])
            .arg(&config)
            .arg("--ports_file_dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut nats = Self { process, address: String::new(), _folder: folder };
        nats.address = until("nats-server listens", || nats.listening()).await;
        nats
    }

    fn listening(&self) -> Option<String> {
        let mut files = fs::read_dir(self._folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let file = files.find(|path| path.extension().is_some_and(|ending| ending == "ports"))?;
        let ports: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        Some(ports["nats"][0].as_str()?.trim_start_matches("nats://").to_owned())
    }

    fn url(&self) -> String {
        format!("nats://load:test@{}", self.address)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A worker as a process of its own. Ends when dropped.
struct Worker {
    process: Child,
    out: PathBuf,
}

impl Worker {
    fn start(nats: &str, run: &str, out: &Path, number: usize) -> Self {
        let out = out.join(format!("worker-{number}"));
        fs::create_dir_all(&out).unwrap();
        let log = fs::File::create(out.join("log")).unwrap();
        let process = Command::new(SURGE)
            .args(["worker", "--nats", nats, "--run", run, "--out"])
            .arg(&out)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, out }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.out.join("log")).unwrap()
    }

    fn folder(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(&self.out).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).max()
    }

    /// Seconds of the run that are in its folder.
    fn recorded(&self) -> usize {
        let rows = self.folder().and_then(|folder| fs::read_to_string(folder.join("timeseries.ndjson")).ok());
        rows.map_or(0, |rows| rows.lines().count())
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        until("a worker ends", || self.process.try_wait().unwrap()).await
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

async fn until<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let ends = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = seen() {
            return seen;
        }
        assert!(Instant::now() < ends, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn words(arguments: &[&str]) -> Vec<OsString> {
    arguments.iter().map(OsString::from).collect()
}

/// What every run here has, against a service.
fn run_arguments(node: &Node, out: &Path) -> Vec<OsString> {
    let codes = node.server.codes.as_deref().unwrap();
    let mut arguments = words(&["surge", "run", "--quiet", "--seed", SEED, "--calm", "1", "--out"]);
    arguments.push(out.into());
    arguments.extend(words(&["--target", &node.server.public, "--codes", codes]));
    arguments
}

/// How quick the machine is decides the verdict and is not a test's business.
fn has_ended_well(code: ExitCode) -> bool {
    matches!(code, ExitCode::Pass | ExitCode::ObjectiveMissed | ExitCode::GeneratorOverloaded)
}

fn summary(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("latest").join("summary.json")).unwrap()).unwrap()
}

fn rows(folder: &Path) -> BTreeMap<u64, Value> {
    surge::recording::Recording::read(folder)
        .unwrap()
        .into_rows()
        .into_iter()
        .map(|row| (row.second, serde_json::to_value(row).unwrap()))
        .collect()
}

/// What was offered of an operation in each second.
fn curve(folder: &Path, operation: &str) -> BTreeMap<u64, u64> {
    let offered = |row: &Value| row["operations"][operation]["offered"].as_u64().unwrap_or(0);
    rows(folder).iter().map(|(second, row)| (*second, offered(row))).filter(|(_, count)| *count > 0).collect()
}

fn lost_nothing(summary: &Value) {
    for figure in ["lost", "duplicated", "corrupted", "unexpected"] {
        assert_eq!(summary["ledger"][figure], 0, "{figure}: {summary}");
    }
}

struct Played {
    summary: Value,
    sends: BTreeMap<u64, u64>,
    sign_ups: BTreeMap<u64, u64>,
}

impl Played {
    /// Every message of the run, whoever wrote it to whom. A newcomer writes to a friend, who answers, and on a busy machine the last ones may not be
    /// in before the end.
    fn sent_if_all_got_in(&self) -> u64 {
        let sent = self.summary["ledger"]["sent"].as_u64().unwrap();
        let accounts = self.summary["codes"]["accounts"].as_u64().unwrap();
        sent + 2 * (self.sign_ups.values().sum::<u64>() - accounts)
    }
}

/// Everything that the parts of a run may differ in: chance, people of other workers, newcomers.
const LOAD: &str = "4s@3 + send(4s@40) + fan-out(4s@1) + discover(4s@2) + reconnect(4s@1)";

async fn played(name: &'static str, nats: &Nats, workers: usize) -> Played {
    let node = Node::start(name, &[NO_SEND_QUOTA]).await;
    let out = tempfile::tempdir().unwrap();
    let mut arguments = run_arguments(&node, out.path());
    arguments.extend(words(&["--existing", "16", "--sends", "20", "--profile", LOAD]));
    let mut hired = Vec::new();
    if workers > 0 {
        let count = workers.to_string();
        arguments.extend(words(&["--workers", &count, "--nats", &nats.url(), "--run", name]));
        // On a busy machine everybody is slow at times.
        arguments.extend(words(&["--lost-after", "20s"]));
        hired.extend((1..=workers).map(|number| Worker::start(&nats.url(), name, out.path(), number)));
    }
    let code = surge::cli::main(arguments).await;
    let logs: Vec<_> = hired.iter().map(Worker::log).collect();
    assert!(has_ended_well(code), "{workers} workers: {code:?} {logs:?}");
    for worker in &mut hired {
        assert!(worker.ended().await.success(), "{}", worker.log());
    }
    let latest = out.path().join("latest");
    let summary = summary(out.path());
    lost_nothing(&summary);
    if workers > 0 {
        assert_eq!(summary["workers"].as_array().unwrap().len(), workers, "{summary}");
        let page = fs::read_to_string(latest.join("report.html")).unwrap();
        assert!(page.contains("<h2>Workers</h2>"), "the page says who played");
        same_as_merged(&summary, &latest, &hired, out.path()).await;
    }
    let (sends, sign_ups) = (curve(&latest, "existing_send"), curve(&latest, "sign_up"));
    Played { summary, sends, sign_ups }
}

/// What the coordinator heard is what the workers kept: to the last sample, and so to every percentile.
async fn same_as_merged(heard: &Value, latest: &Path, workers: &[Worker], out: &Path) {
    let folders: Vec<OsString> = workers.iter().map(|worker| worker.folder().unwrap().into()).collect();
    let [one] = &folders[..] else {
        let merged = out.join("merged");
        let arguments = words(&["surge", "merge"]).into_iter().chain(folders);
        let code = surge::cli::main(arguments.chain([OsString::from("--out"), merged.clone().into()])).await;
        assert_eq!(code, ExitCode::Pass);
        let merged = fs::read_dir(merged).unwrap().next().unwrap().unwrap().path();
        let told: Value = serde_json::from_slice(&fs::read(merged.join("summary.json")).unwrap()).unwrap();
        assert_eq!(told["operations"], heard["operations"]);
        assert_eq!(told["ledger"], heard["ledger"], "with what crosses between them");
        assert_eq!(told["existing"], heard["existing"]);
        same_histograms(latest, &merged);
        return;
    };
    same_histograms(latest, Path::new(one));
}

fn same_histograms(a: &Path, b: &Path) {
    let [a, b] = [a, b].map(|folder| surge::recording::Recording::read(folder).unwrap());
    assert!(a.histograms().count() > 20 && a.histograms().eq(b.histograms()));
}

/// The curve is the same for any number of workers, and for none, because it is the same plan; what came of it is added up without loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_two_and_four_workers_are_one_run() {
    println!("seed {SEED}");
    let nats = Nats::start(ACCOUNTS).await;
    let (none, one, two, four) = tokio::join!(
        played("workers-none", &nats, 0),
        played("workers-one", &nats, 1),
        played("workers-two", &nats, 2),
        played("workers-four", &nats, 4)
    );
    assert!(none.sends.values().sum::<u64>() > 150 && none.sign_ups.values().sum::<u64>() > 5);
    for (workers, played) in [(1, &one), (2, &two), (4, &four)] {
        assert_eq!(played.sends, none.sends, "{workers} workers");
        assert_eq!(played.sign_ups, none.sign_ups, "{workers} workers");
        assert_eq!(played.sent_if_all_got_in(), none.sent_if_all_got_in(), "{workers} workers");
    }
}

/// Three workers, of which one is killed in the middle; returns how it ended, what was told, and the sends of each second.
async fn with_a_killed_worker(
    name: &'static str,
    nats: &Nats,
    policy: &str,
) -> (ExitCode, Value, BTreeMap<u64, u64>) {
    let node = Node::start(name, &[NO_SEND_QUOTA]).await;
    let out = tempfile::tempdir().unwrap();
    let mut arguments = run_arguments(&node, out.path());
    arguments.extend(words(&["--existing", "12", "--sends", "30", "--within", "uniform"]));
    arguments.extend(words(&["--profile", "send(14s@30)", "--workers", "3", "--nats", &nats.url()]));
    arguments.extend(words(&["--run", name, "--lost-worker", policy, "--lost-after", "3s"]));
    let mut workers: Vec<_> =
        (1..=3).map(|number| Worker::start(&nats.url(), name, out.path(), number)).collect();
    let kill = async {
        until("the load has begun", || (workers[1].recorded() >= 4).then_some(())).await;
        workers[1].process.kill().unwrap();
        workers[1].process.wait().unwrap();
    };
    let (code, ()) = tokio::join!(surge::cli::main(arguments), kill);
    for at in [0, 2] {
        assert!(workers[at].ended().await.success(), "{}", workers[at].log());
    }
    let summary = summary(out.path());
    let lost: Vec<_> = summary["workers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|worker| !worker["lost_at_s"].is_null())
        .collect();
    assert_eq!(lost.len(), 1, "{summary}");
    let events = summary["events"].as_array().unwrap();
    assert_eq!(events.iter().filter(|event| event["kind"] == "lost_worker").count(), 1, "{summary}");
    lost_nothing(&summary);
    (code, summary, curve(&out.path().join("latest"), "existing_send"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_ends_the_run_or_is_done_without_or_is_replaced() {
    println!("seed {SEED}");
    let nats = Nats::start(ACCOUNTS).await;
    let (fail, without, replaced) = tokio::join!(
        with_a_killed_worker("workers-fail", &nats, "fail"),
        with_a_killed_worker("workers-continue", &nats, "continue"),
        with_a_killed_worker("workers-redistribute", &nats, "redistribute"),
    );
    let (code, summary, sends) = fail;
    assert_eq!((code, &summary["verdict"]), (ExitCode::Partial, &"INVALID".into()), "{summary}");
    assert!(summary["headline"].as_str().unwrap().contains("was not heard of any more"), "{summary}");
    assert!(!sends.contains_key(&14), "it ended early: {sends:?}");

    // Even arrivals: each second has 30, give or take one, as long as all are there.
    let whole = |count: &u64| (29..=31).contains(count);
    let last = 13;
    let (code, summary, sends) = without;
    assert!(has_ended_well(code), "{code:?}: {summary}");
    assert!(whole(&sends[&1]) && sends[&last] < 29 && sends[&last] > 5, "{sends:?}");

    let (code, summary, sends) = replaced;
    assert!(has_ended_well(code), "{code:?}: {summary}");
    assert!(whole(&sends[&1]) && whole(&sends[&last]), "all of it is offered again: {sends:?}");
    assert!(sends.values().any(|count| *count < 29), "what nobody offered is not made up: {sends:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_whose_coordinator_is_killed_keep_the_run() {
    println!("seed {SEED}");
    let nats = Nats::start(ACCOUNTS).await;
    let node = Node::start("workers-orphans", &[NO_SEND_QUOTA]).await;
    let out = tempfile::tempdir().unwrap();
    let mut arguments = run_arguments(&node, out.path());
    arguments.extend(words(&["--existing", "8", "--sends", "20", "--within", "uniform"]));
    arguments.extend(words(&["--profile", "send(6s@20)", "--workers", "2", "--nats", &nats.url()]));
    arguments.extend(words(&["--run", "orphans"]));
    let log = fs::File::create(out.path().join("coordinator.log")).unwrap();
    let mut coordinator =
        Command::new(SURGE).args(&arguments[1..]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let mut workers: Vec<_> =
        (1..=2).map(|number| Worker::start(&nats.url(), "orphans", out.path(), number)).collect();
    until("the load has begun", || (workers[0].recorded() >= 2).then_some(())).await;
    coordinator.kill().unwrap();
    coordinator.wait().unwrap();
    for worker in &mut workers {
        assert!(worker.ended().await.success(), "{}", worker.log());
    }
    let merged = out.path().join("merged");
    let folders = workers.iter().map(|worker| worker.folder().unwrap().into());
    let arguments = words(&["surge", "merge"]).into_iter().chain(folders);
    let code = surge::cli::main(arguments.chain([OsString::from("--out"), merged.clone().into()])).await;
    assert_eq!(code, ExitCode::Pass);
    let merged = fs::read_dir(merged).unwrap().next().unwrap().unwrap().path();
    let told: Value = serde_json::from_slice(&fs::read(merged.join("summary.json")).unwrap()).unwrap();
    lost_nothing(&told);
    let ledger = &told["ledger"];
    assert_eq!((&ledger["acked"], &ledger["delivered"]), (&ledger["sent"], &ledger["sent"]), "{told}");
    // A second of calm and six of load: the whole plan, although nobody said that it goes on.
    assert_eq!(told["operations"]["existing_send"]["offered"], ledger["sent"]);
    assert!(told["operations"]["existing_send"]["offered"].as_u64().unwrap().abs_diff(140) <= 2, "{told}");
    assert_eq!(told["workers"].as_array().unwrap().len(), 2);
}

/// With no server named, the one that PATH has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_workers_need_nothing_but_a_server_on_the_path() {
    println!("seed {SEED}");
    let node = Node::start("workers-local", &[NO_SEND_QUOTA]).await;
    let out = tempfile::tempdir().unwrap();
    let path = tempfile::tempdir().unwrap();
    let binary = std::env::var("SPILLWAY_TEST_NATS_SERVER").expect("set by `cargo xtask test`");
    std::os::unix::fs::symlink(fs::canonicalize(binary).unwrap(), path.path().join("nats-server")).unwrap();
    let searched = std::env::join_paths(
        [path.path().to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut arguments = run_arguments(&node, out.path());
    arguments.extend(words(&["--existing", "8", "--sends", "20", "--local-workers", "2"]));
    arguments.extend(words(&["--profile", "send(3s@20)", "--gate", "send.ok > 20"]));
    let log = fs::File::create(out.path().join("log")).unwrap();
    let mut surge = Command::new(SURGE)
        .args(&arguments[1..])
        .env("PATH", searched.unwrap())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let status = until("the run ends", || surge.try_wait().unwrap()).await;
    let log = fs::read_to_string(out.path().join("log")).unwrap();
    assert!(matches!(status.code(), Some(0 | 3 | 5)), "{status}: {log}");
    let summary = summary(out.path());
    lost_nothing(&summary);
    assert_eq!(summary["workers"].as_array().unwrap().len(), 2, "{summary}");
    let gates = summary["gates"].as_array().unwrap();
    let asked = gates.iter().find(|gate| gate["figure"] == "send.ok > 20").unwrap();
    assert_eq!(asked["pass"], true, "judged over both: {asked}");
    let latest = fs::canonicalize(out.path().join("latest")).unwrap();
    eventually("nobody is left", || async {
        let processes = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("cmdline")).ok());
        !processes.into_iter().any(|line| line.contains(latest.to_str().unwrap()))
    })
    .await;
}

/// What a Spillway's processes say to each other every second is heard, and the server refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_of_a_service_is_refused() {
    let nats = Nats::start("").await;
    let node = Node::start("workers-bus", &[]).await;
    let out = tempfile::tempdir().unwrap();
    let mut bus = TcpStream::connect(&nats.address).unwrap();
    bus.write_all(b"CONNECT {\"verbose\":false}\r\n").unwrap();
    let load = async {
        loop {
            bus.write_all(b"PUB cell1.ctl.load 2\r\n{}\r\n").unwrap();
            sleep(Duration::from_millis(200)).await;
        }
    };
    let of = |nats: String| {
        let mut arguments = run_arguments(&node, out.path());
        arguments.extend(words(&["--profile", "send(2s@5)", "--workers", "2", "--nats", &nats]));
        surge::cli::main(arguments)
    };
    tokio::select! {
        code = of(format!("nats://{}", nats.address)) => assert_eq!(code, ExitCode::Usage),
        () = load => unreachable!("it never ends"),
    }
    assert_eq!(of("nats://127.0.0.1:1".to_owned()).await, ExitCode::Unreachable);
    assert!(!out.path().join("latest").exists(), "nothing ran");
}

#[tokio::test]
async fn what_several_cannot_play_is_refused_at_once() {
    let out = tempfile::tempdir().unwrap();
    let of = async |arguments: &[&str]| {
        let fixed = words(&["surge", "run", "--quiet", "--workers", "2"]);
        let out = [OsString::from("--out"), out.path().into()];
        surge::cli::main(fixed.into_iter().chain(out).chain(words(arguments))).await
    };
    let nats = ["--nats", "nats://127.0.0.1:1"];
    for wrong in [
        &["--profile", "send(2s@5)"][..],
        &["--profile", "spike", nats[0], nats[1]],
        &["--profile", "pumping", nats[0], nats[1]],
        &["--profile", "send(2s@5)", "--existing", "3", nats[0], nats[1]],
        &["--profile", "send(2s@5)", "--local-workers", "2"],
        &["--profile", "send(2s@5)", "--run", "a.b", nats[0], nats[1]],
        &["--profile", "send(2s@5)", "--harm", nats[0], nats[1]],
    ] {
        assert_eq!(of(wrong).await, ExitCode::Usage, "{wrong:?}");
    }
    assert!(!out.path().join("latest").exists(), "nothing ran");
}
