//! The load tool against a real process, with the smallest surge there is.

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;
use surge::slo::ExitCode;

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
    assert!(!folder.path().join("latest").exists(), "nothing ran, so there is nothing to look at");
}
