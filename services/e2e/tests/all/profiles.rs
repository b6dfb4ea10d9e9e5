use std::ffi::OsString;
use std::fs;
use std::path::Path;

use serde_json::Value;
use surge::slo::ExitCode;

/// Everything small: a dozen people, a second of calm.
const SMALL: [&str; 10] = [
    "--existing",
    "12",
    "--sends",
    "20",
    "--calm",
    "1",
    "--seed",
    "7",
    "--server-binary",
    env!("CARGO_BIN_EXE_spillway-under-test"),
];

async fn surge(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    surge::cli::main([OsString::from("surge")].into_iter().chain(arguments)).await
}

/// Plays it to the end and returns the summary. How fast the machine is decides the verdict, and is not a test's business;
/// that there is one, and that nothing was lost, is.
async fn play(out: &Path, arguments: &[&str]) -> Value {
    let fixed = ["run", "--out"].map(OsString::from).into_iter().chain([out.into()]);
    let code = surge(fixed.chain(SMALL.iter().chain(arguments).map(OsString::from))).await;
    assert!(
        matches!(code, ExitCode::Pass | ExitCode::ObjectiveMissed | ExitCode::GeneratorOverloaded),
        "{arguments:?}: {code:?}"
    );
    let summary: Value =
        serde_json::from_slice(&fs::read(out.join("latest").join("summary.json")).unwrap()).unwrap();
    for figure in ["lost", "duplicated", "corrupted"] {
        assert_eq!(summary["ledger"][figure], 0, "{arguments:?}: {summary}");
    }
    summary
}

fn count(summary: &Value, pointer: &str) -> u64 {
    summary.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_happens_as_often_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let load = "6s@2 + send(6s@20) + fan-out(6s@0.5) + discover(6s@2) + reconnect(6s@1) + flap(6s@0.5)";
    let summary = play(folder.path(), &["--profile", load, "--within", "uniform"]).await;
    let offered = |operation: &str| count(&summary, &format!("/operations/{operation}/offered"));
    assert_eq!(summary["profile"], load);
    // Give or take one, and the calm's second of sends.
    assert!(offered("sign_up").abs_diff(12) <= 1, "{summary}");
    // A message to a group of eight is eight.
    assert!(offered("existing_send").abs_diff(20 + 120 + 3 * 8) <= 10, "{summary}");
    assert!(offered("discover_contacts") >= 12, "{summary}");
    assert!(count(&summary, "/operations/back_online/ok") >= 6, "{summary}");
    assert!(offered("reconnect") >= count(&summary, "/operations/back_online/ok"), "{summary}");
    assert!(count(&summary, "/operations/backlog/ok") >= 6, "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_are_dropped_at_once_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let summary = play(folder.path(), &["--profile", "reconnect-storm(after=4s)"]).await;
    assert_eq!(count(&summary, "/operations/back_online/ok"), 12, "{summary}");
    let gate = |figure: &str| {
        summary["gates"]
            .as_array()
            .unwrap()
            .iter()
            .any(|gate| gate["figure"] == figure && gate["pass"] == true)
    };
    assert!(gate("back_online.ok"), "{summary}");
    assert!(summary["operations"].get("sign_up").is_none(), "nobody new came: {summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_offline_fetches_what_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let summary =
        play(folder.path(), &["--profile", "broadcast(share=50%, within=2s, before=2s, after=3s)"]).await;
    // Half of twelve are offline; all have come when the run ends, those who were not called as well.
    assert_eq!(count(&summary, "/operations/back_online/ok"), 6, "{summary}");
    let ledger = &summary["ledger"];
    assert!(ledger["acked"].as_u64().unwrap() > 100, "{summary}");
    assert_eq!(ledger["acked"], ledger["delivered"], "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_are_late_and_mistyped() {
    let folder = tempfile::tempdir().unwrap();
    let load = "thundering-otp(hold=5s, wrong=60%) in 9s";
    let summary = play(folder.path(), &["--profile", load, "--base-rate", "signup=1/s"]).await;
    assert!(count(&summary, "/operations/wrong_code/ok") >= 1, "{summary}");
    assert!(count(&summary, "/operations/sign_up/ok") >= 3, "{summary}");
    // Codes are typed 2 to 4 s after they came; the wait belongs to the person, and is in the whole.
    let finish =
        summary.pointer("/operations/finish_sign_up/response_ms/p50").and_then(Value::as_f64).unwrap();
    assert!(finish >= 1_900.0, "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_answers_are_asked_for_again_and_it_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let load = "retry-amplify(before=2s, for=3s, after=8s, patience=500ms)";
    let summary = play(folder.path(), &["--profile", load]).await;
    let gate = |figure: &str| {
        let gates = summary["gates"].as_array().unwrap();
        gates
            .iter()
            .find(|gate| gate["figure"] == figure)
            .unwrap_or_else(|| panic!("{figure}: {summary}"))
            .clone()
    };
    let asked_again = gate("retries.amplification_after")["observed"].as_f64().unwrap();
    assert!(asked_again < 1.5, "people still send again when answers are in time: {summary}");
    let attempts = summary["configuration"]["attempts"].as_str().unwrap();
    let attempts: f64 = attempts.split(' ').next().unwrap().parse().unwrap();
    assert!((1.2..4.0).contains(&attempts), "{attempts}: {summary}");
    let phases: Vec<_> =
        summary["phases"].as_array().unwrap().iter().map(|phase| phase["name"].clone()).collect();
    assert_eq!(phases, ["before", "surge", "after", "settling"]);
    assert!(gate("existing.send_success_ratio")["observed"].as_f64().unwrap() > 0.9, "{summary}");
    let reasons = &summary["operations"]["existing_send"]["reasons"];
    assert!(
        reasons["gave_up"].as_u64().unwrap() > 0,
        "nobody had to give up while answers were 2 s late: {summary}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_is_replayed_to_the_last_arrival() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("lunch.csv");
    fs::write(
        &trace,
        "t_s,op,count\n0,signup,2\n0,send,30\n2,signup,6\n2,send,60\n4,discover,5\n6,send,10\n",
    )
    .unwrap();
    let arguments = ["--trace", trace.to_str().unwrap(), "--speed", "2x", "--within", "uniform"];
    let summary = play(folder.path(), &arguments).await;
    let offered = |operation: &str| count(&summary, &format!("/operations/{operation}/offered"));
    assert_eq!((offered("sign_up"), offered("existing_send") - 20), (8, 100), "20 in the calm: {summary}");
    assert!(offered("discover_contacts") >= 5, "{summary}");
    let name = fs::read_link(folder.path().join("latest")).unwrap();
    assert!(name.to_str().unwrap().ends_with("-trace-lunch"), "{name:?}");
}

#[tokio::test]
async fn what_cannot_be_planned_or_read_is_an_error_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let bad = folder.path().join("bad.csv");
    fs::write(&bad, "t_s,op,count\n0,signup,1\n1,signup,x\n").unwrap();
    let of = async |arguments: &[&str]| {
        let fixed = ["run", "--out", out, "--server-binary", "/no/such/file"];
        surge(fixed.iter().chain(arguments).map(OsString::from)).await
    };
    assert_eq!(of(&["--profile", "spik"]).await, ExitCode::Usage);
    assert_eq!(of(&["--trace", bad.to_str().unwrap()]).await, ExitCode::Usage);
    assert_eq!(of(&["--trace", "/no/such/trace.csv"]).await, ExitCode::Usage);
    // Twenty million people at once: no machine here has the descriptors.
    assert_eq!(of(&["--profile", "10s@9000000"]).await, ExitCode::Usage);
    assert_eq!(of(&["--profile", "send(10s@0)"]).await, ExitCode::Usage);
    let folders =
        fs::read_dir(folder.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 0, "a run folder was made for nothing");
}

#[tokio::test]
async fn plans_and_profiles_and_traces_are_looked_at_without_a_service() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let of = async |arguments: &[&str]| surge(arguments.iter().map(OsString::from)).await;
    let svg = path("plan.svg");
    assert_eq!(of(&["plan", "refugees", "--peak-rate", "20", "--svg", &svg]).await, ExitCode::Pass);
    assert!(fs::read_to_string(&svg).unwrap().contains("signup a second"));
    assert_eq!(of(&["plan", "1h@9000000"]).await, ExitCode::Usage);
    assert_eq!(of(&["run", "--profile", "spike", "--dry-run"]).await, ExitCode::Pass);
    assert_eq!(of(&["profiles"]).await, ExitCode::Pass);
    assert_eq!(of(&["profiles", "show", "refugees"]).await, ExitCode::Pass);
    let (trace, scaled) = (path("trace.csv"), path("scaled.csv"));
    fs::write(&trace, "t_s,op,count\n0,send,100\n1,send,300\n").unwrap();
    assert_eq!(of(&["trace", "stats", &trace]).await, ExitCode::Pass);
    assert_eq!(of(&["trace", "plot", &trace]).await, ExitCode::Pass);
    assert_eq!(of(&["trace", "scale", &trace, "--scale", "0.1", "-o", &scaled]).await, ExitCode::Pass);
    assert_eq!(fs::read_to_string(&scaled).unwrap(), "t_s,op,count\n0,send,10\n1,send,30\n");
    assert_eq!(of(&["trace", "import", "--nginx", &trace]).await, ExitCode::Usage, "that is no log");
}
