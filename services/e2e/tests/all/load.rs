//! The load tool against a real process, with the smallest surge there is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use surge::run_folder::RunFolder;
use surge::slo::ExitCode;
use tokio::process::{Child, Command};

use super::support::{Node, eventually};

async fn surge(out: &Path, arguments: &[&str]) -> ExitCode {
    let fixed = ["surge", "--out"].map(OsString::from).into_iter().chain([out.into()]);
    surge::cli::main(fixed.chain(arguments.iter().map(OsString::from))).await
}

/// Whether the machine is quick enough for the objectives is not a test's business; whether anything was lost is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_surge_loses_nothing_and_leaves_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["--peak-rate", "8", "--seconds", "6", "--calm", "3", "--existing", "8", "--sends", "20"];
    let own = ["--server-binary", env!("CARGO_BIN_EXE_spillway-under-test"), "--seed", "7"];
    let code = surge(folder.path(), &[&small[..], &own].concat()).await;
    assert!(
        matches!(code, ExitCode::Pass | ExitCode::ObjectiveMissed | ExitCode::GeneratorOverloaded),
        "{code:?}"
    );

    let latest = folder.path().join("latest");
    let summary: Value =
        serde_json::from_slice(&std::fs::read(latest.join("summary.json")).unwrap()).unwrap();
    let figure = |pointer: &str| summary.pointer(pointer).and_then(Value::as_u64).unwrap();
    assert!(figure("/ledger/acked") > 100, "{summary}");
    assert_eq!((figure("/ledger/lost"), figure("/ledger/duplicated")), (0, 0), "{summary}");
    assert!(figure("/operations/sign_up/ok") > 5, "{summary}");
    assert_eq!(figure("/seed"), 7);
    // Everybody came through the waiting room, and a quarter of the peak a second is let in.
    assert!(figure("/room/entered") >= figure("/operations/sign_up/ok"), "{summary}");
    assert_eq!(figure("/room/finished"), figure("/operations/sign_up/ok"), "{summary}");
    assert_eq!((figure("/room/places_lost"), figure("/room/failed")), (0, 0), "{summary}");
    assert_eq!(summary.pointer("/room/ordered_per_s").and_then(Value::as_f64), Some(2.0), "{summary}");
    assert!(figure("/codes/sent") >= figure("/codes/accounts"), "{summary}");
    assert!(summary.pointer("/server/cpu_us_per_op").and_then(Value::as_f64).unwrap() > 0.0);
    let log = surge::recording::Recording::read(&latest).unwrap();
    let sends = log.figures("existing_send", |_| true);
    assert_eq!(
        sends.offered,
        figure("/operations/existing_send/offered"),
        "rows and totals are of the same run"
    );
    assert_eq!(sends.response.count(), sends.ok + sends.failed, "every answer is in the histograms");
    for name in ["run.json", "latency.hlog", "summary.md", "junit.xml", "operations.csv", "timeseries.csv"] {
        assert!(latest.join(name).exists(), "{name}");
    }
    let report = std::fs::read_to_string(latest.join("report.html")).unwrap();
    assert!(report.contains("<svg") && !report.contains("src=\"http"), "a report that needs a network");
}

#[tokio::test]
async fn what_cannot_be_run_says_so_by_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let of = async |arguments: &[&str]| surge(folder.path(), arguments).await;
    assert_eq!(of(&["--peak", "-1"]).await, ExitCode::Usage);
    assert_eq!(of(&["--no-such-option"]).await, ExitCode::Usage);
    assert_eq!(of(&["--target", "http://192.0.2.1:7700"]).await, ExitCode::Usage, "not this machine");
    assert_eq!(of(&["--target", "http://127.0.0.1:1"]).await, ExitCode::Unreachable);
    assert_eq!(of(&["--profile", "pumping", "--target", "http://127.0.0.1:1"]).await, ExitCode::Usage);
    assert_eq!(of(&["--server-binary", "/no/such/file"]).await, ExitCode::Usage);
    assert_eq!(of(&["--gate", "sned.response.p99 < 1s"]).await, ExitCode::Usage);
    assert_eq!(of(&["--gates", "/no/such/file"]).await, ExitCode::Usage);
    assert_eq!(of(&["--at", "soon run true"]).await, ExitCode::Usage);
    assert_eq!(of(&["--observe", "pid:x"]).await, ExitCode::Usage);
    assert_eq!(
        surge::cli::main(["surge", "report", "/no/such/folder"].map(OsString::from)).await,
        ExitCode::Usage
    );
    assert_eq!(
        surge::cli::main(["surge", "resume", "/no/such/folder"].map(OsString::from)).await,
        ExitCode::Usage
    );
    assert!(!folder.path().join("latest").exists(), "nothing ran, so there is nothing to look at");
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_ends_a_run_early() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["--peak-rate", "2", "--seconds", "600", "--calm", "3", "--existing", "4", "--sends", "20"];
    let gate = ["--gate", "send.response.p50 < 1us after warmup abort", "--server-binary"];
    let own = [env!("CARGO_BIN_EXE_spillway-under-test"), "--seed", "8"];
    let code = surge(folder.path(), &[&small[..], &gate, &own].concat()).await;
    // A late generator comes before what it measured.
    assert!(matches!(code, ExitCode::Aborted | ExitCode::GeneratorOverloaded), "{code:?}");
    let summary = summary(&folder.path().join("latest"));
    assert!(summary["duration_s"].as_f64().unwrap() < 600.0, "{summary}");
    assert_eq!(summary["events"][0]["kind"], "aborted", "{summary}");
}

/// Also for who is there already a refusal is an answer by design; what he wrote did not go all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn existing_users_who_are_refused_notice() {
    let settings =
        [("QUOTAS__MESSAGES__BURST", "2"), ("QUOTAS__VERIFICATION_START_NETWORK__ENABLED", "false")];
    let node = Node::start("load", &settings).await;
    let folder = tempfile::tempdir().unwrap();
    let codes = node.server.codes.clone().unwrap();
    let target = ["--target", &node.server.public, "--codes", &codes, "--seed", "9"];
    let load = ["--profile", "send(4s@20)", "--calm", "3", "--existing", "4", "--sends", "20"];
    let code = surge(folder.path(), &[&target[..], &load].concat()).await;
    assert!(matches!(code, ExitCode::ObjectiveMissed | ExitCode::GeneratorOverloaded), "{code:?}");
    let summary = summary(&folder.path().join("latest"));
    let gates = summary["gates"].as_array().unwrap();
    let gate = gates.iter().find(|gate| gate["figure"] == "existing.send_success_ratio").unwrap();
    assert!(gate["pass"] == false && gate["observed"].as_f64().unwrap() < 0.8, "{gate}");
    assert!(gate["advice"].as_str().unwrap().contains("QUOTA"), "{gate}");
    assert!(summary["operations"]["existing_send"]["reasons"]["QUOTA"].as_u64().unwrap() > 20, "{summary}");
}

/// The run's folder, once it has recorded `rows` seconds.
async fn recorded(out: &Path, rows: usize) -> PathBuf {
    let run = || {
        let entries = std::fs::read_dir(out).ok()?;
        entries.flatten().map(|entry| entry.path()).find(|path| path.join("run.json").exists())
    };
    let seconds = |path: PathBuf| {
        std::fs::read_to_string(path.join("timeseries.ndjson")).unwrap_or_default().lines().count()
    };
    eventually("seconds are recorded", async || run().is_some_and(|path| seconds(path) >= rows)).await;
    run().unwrap()
}

fn child(out: &Path, node: &Node, seconds: &str, more: &[&str]) -> Child {
    let codes = node.server.codes.clone().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_surge-under-test"));
    command
        .args(["--target", &node.server.public, "--codes", &codes, "--admin", &node.server.admin])
        .args([
            "--peak-rate",
            "2",
            "--calm",
            "3",
            "--existing",
            "4",
            "--sends",
            "20",
            "--seed",
            "9",
            "--quiet",
        ])
        .args(["--seconds", seconds, "--out"])
        .arg(out)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command.spawn().unwrap()
}

async fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap();
}

const NO_NETWORK_LIMIT: (&str, &str) = ("QUOTAS__VERIFICATION_START_NETWORK__ENABLED", "false");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_killed_is_told_of_and_continued() {
    let node = Node::start("surge-killed", &[NO_NETWORK_LIMIT]).await;
    let out = tempfile::tempdir().unwrap();
    let mut killed = child(out.path(), &node, "12", &["--at", "100s run true"]);
    let folder = recorded(out.path(), 6).await;
    signal(&killed, "KILL").await;
    killed.wait().await.unwrap();
    assert!(!folder.join("summary.json").exists());

    let on = async |command: &str| {
        surge::cli::main(["surge".into(), command.into(), folder.clone().into_os_string()]).await
    };
    assert_eq!(on("report").await, ExitCode::Pass);
    let report = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(report.contains("The run was killed after"), "the report says that it is of a part");
    let (part, rows) = RunFolder::open(&folder).read().unwrap();
    let before = part.operations["existing_send"].offered;
    assert!(before > 20 && rows.len() >= 5, "{before} sends in {} s", rows.len());

    let code = on("resume").await;
    assert!(
        matches!(code, ExitCode::Pass | ExitCode::ObjectiveMissed | ExitCode::GeneratorOverloaded),
        "{code:?}"
    );
    let whole = summary(&folder);
    let offered = whole["operations"]["existing_send"]["offered"].as_u64().unwrap();
    // 15 s at 20 a second: the same arrivals as if it had not been killed, but for those on their way.
    assert!((240..=360).contains(&offered) && offered > before, "{before} and then {offered}");
    assert_eq!(
        (&whole["ledger"]["lost"], &whole["events"][0]["kind"]),
        (&0.into(), &"resumed".into()),
        "{whole}"
    );
    let last = RunFolder::open(&folder).recording().unwrap().last_second().unwrap();
    assert!(last >= 14, "the last second is {last}");
    assert_eq!(on("resume").await, ExitCode::Usage, "it has ended");

    // Twice the same beside each other is twice as much.
    let merged = out.path().join("merged");
    let folder = folder.to_str().unwrap();
    let arguments = ["surge", "merge", folder, folder, "--out", merged.to_str().unwrap()].map(OsString::from);
    assert_eq!(surge::cli::main(arguments).await, ExitCode::Pass);
    let merged = std::fs::read_dir(&merged).unwrap().next().unwrap().unwrap().path();
    assert_eq!(summary(&merged)["operations"]["existing_send"]["offered"].as_u64().unwrap(), 2 * offered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_writes_its_report() {
    let node = Node::start("surge-interrupted", &[NO_NETWORK_LIMIT]).await;
    let out = tempfile::tempdir().unwrap();
    let mut run = child(out.path(), &node, "600", &[]);
    let folder = recorded(out.path(), 4).await;
    signal(&run, "INT").await;
    assert_eq!(run.wait().await.unwrap().code(), Some(130));
    assert_eq!(summary(&folder)["verdict"], "INTERRUPTED");
    assert!(folder.join("report.html").exists());
}

/// A service that is killed and does not come back is felt until the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_is_marked_and_its_harm_counted() {
    let folder = tempfile::tempdir().unwrap();
    let small = [
        "--peak-rate",
        "2",
        "--seconds",
        "6",
        "--calm",
        "4",
        "--existing",
        "4",
        "--sends",
        "20",
        "--seed",
        "3",
    ];
    let fault = ["--at", "5s run \"kill -9 $SURGE_SERVER_PID\"", "--server-binary"];
    let code =
        surge(folder.path(), &[&small[..], &fault, &[env!("CARGO_BIN_EXE_spillway-under-test")]].concat())
            .await;
    assert!(!matches!(code, ExitCode::Pass | ExitCode::Usage), "{code:?}");
    let latest = folder.path().join("latest");
    let summary = summary(&latest);
    let fault = &summary["faults"][0];
    assert!(fault["recovered_after_s"].is_null() && fault["outcome"] == "done", "{summary}");
    assert!(std::fs::read_to_string(latest.join("report.html")).unwrap().contains("class=\"fault"));
}
