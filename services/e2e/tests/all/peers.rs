//! The load tool against another system than Spillway: a real NATS, with the same people, ledger and report.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;
use surge::slo::ExitCode;

async fn surge(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    surge::cli::main(["surge".into()].into_iter().chain(arguments)).await
}

fn nats() -> String {
    let servers = std::env::var("SPILLWAY_TEST_NATS")
        .expect("SPILLWAY_TEST_NATS is not set: run `cargo xtask test`, which starts what the tests need");
    format!("nats://{}", servers.split(',').next().unwrap().trim_start_matches("nats://"))
}

async fn run(words: &[&str], out: &Path) -> ExitCode {
    let words = ["run"].iter().chain(words).chain(&["--quiet", "--seed", "7", "--out"]);
    surge(words.map(OsString::from).chain([out.into()])).await
}

/// Whether the machine is quick enough is not a test's business; whether it was played is.
fn was_played(code: ExitCode) {
    let played = [ExitCode::Pass, ExitCode::ObjectiveMissed, ExitCode::GeneratorOverloaded];
    assert!(played.contains(&code), "{code:?}");
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

fn nothing_was_lost(summary: &Value) {
    for figure in ["lost", "duplicated", "corrupted", "unexpected"] {
        assert_eq!(summary["ledger"][figure], 0, "{figure}: {summary}");
    }
    let acked = summary["ledger"]["acked"].as_u64().unwrap();
    assert!(acked > 50 && summary["ledger"]["delivered"].as_u64().unwrap() >= acked, "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_is_played_against_nats_and_told_of_as_any_other() {
    let (out, nats) = (tempfile::tempdir().unwrap(), nats());
    let load = "send(3s@40) + reconnect(2s@1x)";
    let words = ["--target", &nats, "--profile", load, "--existing", "10", "--calm", "1", "--sends", "40"];
    was_played(run(&words, out.path()).await);
    let summary = summary(&out.path().join("latest"));
    nothing_was_lost(&summary);
    // All ten lose their connections in each of the two seconds; who has not come back yet cannot lose it again.
    let back = summary["operations"]["back_online"]["ok"].as_u64().unwrap();
    assert!((10..=20).contains(&back), "{summary}");
    let configuration = &summary["configuration"];
    assert!(configuration["durability"].as_str().unwrap().starts_with("D1: file storage"), "{configuration}");
    assert!(configuration["system"].as_str().unwrap().contains("JetStream"), "{configuration}");
    assert!(configuration["does_not"].as_str().unwrap().contains("authenticate"), "{configuration}");
    let page = std::fs::read_to_string(out.path().join("latest").join("report.html")).unwrap();
    assert!(page.contains("one replica"), "the page says what it was");
}

#[tokio::test]
async fn what_nats_cannot_do_is_refused_before_the_run() {
    let (out, nats) = (tempfile::tempdir().unwrap(), nats());
    assert_eq!(run(&["--target", &nats, "--profile", "steady"], out.path()).await, ExitCode::Usage);
    let sends = ["--profile", "send(5s@10)"];
    let elsewhere = ["--target", "nats://192.0.2.1:4222"].iter().chain(&sends).copied().collect::<Vec<_>>();
    assert_eq!(run(&elsewhere, out.path()).await, ExitCode::Usage, "it is somebody else's");
    assert!(std::fs::read_dir(out.path()).unwrap().next().is_none(), "nothing was begun");
    // Port 1 is nobody's.
    let nobody = ["--target", "nats://127.0.0.1:1"].iter().chain(&sends).copied().collect::<Vec<_>>();
    assert_eq!(run(&nobody, out.path()).await, ExitCode::Unreachable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spillway_and_nats_are_offered_the_same() {
    let (out, nats) = (tempfile::tempdir().unwrap(), nats());
    let binary = env!("CARGO_BIN_EXE_spillway-under-test");
    let words = [
        "peers",
        "--target",
        "spillway",
        "--target",
        &nats,
        "--server-binary",
        binary,
        "--profile",
        "steady(for=5s)",
        "--existing",
        "10",
        "--calm",
        "1",
        "--sends",
        "40",
        "--quiet",
        "--seed",
        "7",
        "--out",
    ];
    was_played(surge(words.iter().map(OsString::from).chain([out.path().into()])).await);
    let sides = std::fs::read_dir(out.path().join("peers")).unwrap().map(|side| side.unwrap().path());
    let summaries: Vec<Value> = sides.map(|side: PathBuf| summary(&side.join("latest"))).collect();
    assert_eq!(summaries.len(), 2);
    for summary in &summaries {
        nothing_was_lost(summary);
        assert!(summary["operations"].get("enter_room").is_none(), "nobody signs up: {summary}");
    }
    let offered = |summary: &Value| summary["operations"]["existing_send"]["offered"].clone();
    assert_eq!(offered(&summaries[0]), offered(&summaries[1]), "the same arrivals");
}
