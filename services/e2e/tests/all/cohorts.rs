//! Clients that do not behave, as the load tool plays them, and as the service sees them.

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;
use surge::cohorts::Cohort;
use surge::slo::ExitCode;

use super::support::{NO_SEND_QUOTA, Node};

async fn surge(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    surge::cli::main([OsString::from("surge"), "run".into()].into_iter().chain(arguments)).await
}

/// Plays a load against a node with these cohorts and returns the summary. Whether the machine is quick enough is not a test's business;
/// whether anything is lost, repeated or changed is, whoever does what.
async fn play(node: &Node, cohorts: &str, load: &[&str]) -> Value {
    let out = tempfile::tempdir().unwrap();
    let codes = node.server.codes.clone().unwrap();
    let fixed = ["--target", &node.server.public, "--codes", &codes, "--admin", &node.server.admin];
    let always = ["--calm", "1", "--sends", "20", "--seed", "7", "--quiet", "--cohorts", cohorts, "--out"];
    let arguments = fixed.iter().chain(&always).map(OsString::from).chain([out.path().into()]);
    let code = surge(arguments.chain(load.iter().map(OsString::from))).await;
    assert!(
        matches!(code, ExitCode::Pass | ExitCode::ObjectiveMissed | ExitCode::GeneratorOverloaded),
        "{cohorts}: {code:?}"
    );
    let summary = summary(out.path());
    for figure in ["lost", "duplicated", "corrupted"] {
        assert_eq!(summary["ledger"][figure], 0, "{cohorts}: {summary}");
    }
    let report = std::fs::read_to_string(out.path().join("latest").join("report.html")).unwrap();
    assert!(report.contains("<h2>Cohorts</h2>"), "the page says who did what");
    summary
}

fn summary(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("latest").join("summary.json")).unwrap()).unwrap()
}

fn of(summary: &Value, cohort: Cohort) -> &Value {
    let cohorts = summary["cohorts"].as_array().unwrap();
    cohorts.iter().find(|of| of["name"] == cohort.name()).unwrap_or_else(|| panic!("{summary}"))
}

fn count(summary: &Value, cohort: Cohort, figure: &str) -> f64 {
    of(summary, cohort)[figure].as_f64().unwrap_or_else(|| panic!("{}.{figure}: {summary}", cohort.name()))
}

/// A limit that everybody who writes meets at once, so that there is something to try again for.
const TWO_MESSAGES: (&str, &str) = ("QUOTAS__MESSAGES__BURST", "2");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_try_again_ask_as_often_as_it_is_said_of_them() {
    let node = Node::start("cohorts-again", &[TWO_MESSAGES]).await;
    let cohorts = "no-jitter=20%,fixed-1s=20%,hot-loop=20%,ignores-pushback=20%";
    let summary = play(&node, cohorts, &["--existing", "10", "--profile", "send(5s@20)"]).await;
    let times = |cohort| count(&summary, cohort, "amplification");
    // Their quota is used up. Each asks again, and no more often than its manner has it; only the loop has no end.
    let most = [
        (Cohort::Polite, 3.0),
        (Cohort::NoJitter, 6.0),
        (Cohort::Fixed1s, 30.0),
        (Cohort::IgnoresPushback, 10.0),
    ];
    for (cohort, most) in most {
        assert!(times(cohort) > 1.0 && times(cohort) <= most, "{}: {summary}", cohort.name());
    }
    assert!(times(Cohort::HotLoop) > 3.0, "{summary}");
    assert!(times(Cohort::HotLoop) > times(Cohort::IgnoresPushback), "{summary}");
    // What they say of themselves is what the service saw, but for the calm and what was cut off at the end.
    let asked: f64 =
        [Cohort::Polite, Cohort::NoJitter, Cohort::Fixed1s, Cohort::HotLoop, Cohort::IgnoresPushback]
            .map(|cohort| count(&summary, cohort, "attempts"))
            .iter()
            .sum();
    let seen = node.metric("spillway_rpc_server_started_total", "\"Send\"").await;
    assert!(asked <= seen + 20.0 && seen < asked * 1.1 + 100.0, "{asked} asked, {seen} seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_impatient_has_the_same_said_several_times_and_who_has_no_deadline_waits() {
    let node = Node::start("cohorts-late", &[NO_SEND_QUOTA]).await;
    let cohorts = "impatient=25%,no-deadline=25%";
    let late = "retry-amplify(before=1s, for=6s, after=2s, by=700ms, patience=5s)";
    let summary = play(&node, cohorts, &["--existing", "12", "--profile", late]).await;
    let times = |cohort| count(&summary, cohort, "amplification");
    assert!(times(Cohort::Impatient) > 1.0 && times(Cohort::Impatient) <= 4.0, "{summary}");
    // The service stored what was not waited for: copies under other ids, which nothing could tell apart.
    assert!(summary["ledger"]["repeated"].as_u64().unwrap() > 2, "{summary}");
    assert_eq!(times(Cohort::NoDeadline), 1.0, "{summary}");
    assert_eq!(count(&summary, Cohort::NoDeadline, "failed"), 0.0, "{summary}");
    assert!(count(&summary, Cohort::NoDeadline, "p99_ms") > 700.0, "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_three_times_is_one_message() {
    let node = Node::start("cohorts-same-id", &[NO_SEND_QUOTA]).await;
    let summary = play(&node, "resend-same-id=50%", &["--existing", "8", "--profile", "send(4s@30)"]).await;
    let same = Cohort::ResendSameId;
    let wanted = count(&summary, same, "first_attempts");
    let (attempts, ok) = (count(&summary, same, "attempts"), count(&summary, same, "ok"));
    assert!(ok > 10.0 && ok <= wanted, "{summary}");
    // Three times, but for what was cut off by the end.
    assert!(attempts >= 3.0 * ok && attempts <= 3.0 * wanted, "{summary}");
    let ledger = &summary["ledger"];
    assert!(ledger["repeated"].is_null(), "copies under one id are no copies: {summary}");
    assert_eq!((ledger["lost"].as_u64(), ledger["duplicated"].as_u64()), (Some(0), Some(0)), "{summary}");
    // Of those that the end cut off, some had arrived and were not answered yet.
    let [acked, delivered, sent] =
        ["acked", "delivered", "sent"].map(|figure| ledger[figure].as_u64().unwrap());
    assert!(0 < acked && acked <= delivered && delivered <= sent, "{summary}");
    // The service was asked three times.
    let seen = node.metric("spillway_rpc_server_started_total", "\"Send\"").await;
    assert!(seen >= acked as f64 + 2.0 * ok, "{seen} seen, {acked} messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_and_others_go_on() {
    let node = Node::start("cohorts-oversize", &[NO_SEND_QUOTA]).await;
    let summary = play(&node, "oversize=25%", &["--existing", "8", "--profile", "send(5s@30)"]).await;
    assert_eq!(count(&summary, Cohort::Oversize, "ok"), 0.0, "{summary}");
    let reasons = &summary["operations"]["oversize_send"]["reasons"];
    assert!(reasons["INVALID_ARGUMENT"].as_u64().unwrap() > 0, "an envelope: {summary}");
    assert!(reasons["out_of_range"].as_u64().unwrap() > 0, "a request: {summary}");
    assert_eq!(count(&summary, Cohort::Polite, "failed"), 0.0, "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_taken_is_withheld_and_not_lost() {
    let node =
        Node::start("cohorts-reading", &[NO_SEND_QUOTA, ("GATEWAY__SESSION__IN_FLIGHT_MAX", "8")]).await;
    let cohorts = "never-acks=25%,slow-reader=25%";
    let summary = play(&node, cohorts, &["--existing", "8", "--profile", "send(6s@60)"]).await;
    for cohort in [Cohort::NeverAcks, Cohort::SlowReader] {
        assert!(count(&summary, cohort, "withheld") > 10.0, "{}: {summary}", cohort.name());
        assert_eq!(count(&summary, cohort, "failed"), 0.0, "they write as everybody does: {summary}");
    }
    let ledger = |figure: &str| summary["ledger"][figure].as_f64().unwrap();
    assert_eq!(ledger("acked"), ledger("delivered") + ledger("withheld"), "{summary}");
    // The two who never ack were handed what the window holds, and nothing of it was acked.
    let acked = node.metric("spillway_gateway_acks_total", "").await;
    assert!(acked <= ledger("delivered") - 8.0, "{acked} of {}: {summary}", ledger("delivered"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_vanishes_is_noticed_and_gets_everything_in_the_end() {
    const SETTINGS: [(&str, &str); 3] =
        [NO_SEND_QUOTA, ("RPC__KEEPALIVE_INTERVAL", "1s"), ("RPC__KEEPALIVE_TIMEOUT", "1s")];
    let node = Node::start("cohorts-half-open", &SETTINGS).await;
    let summary = play(&node, "half-open=25%", &["--existing", "8", "--profile", "send(10s@20)"]).await;
    assert!(count(&summary, Cohort::HalfOpen, "ok") >= 2.0, "{summary}");
    let ledger = &summary["ledger"];
    assert_eq!(ledger["acked"], ledger["delivered"], "{summary}");
    // The service had noticed by itself before they came back: otherwise the new sessions would have replaced the dead ones.
    let replaced = node.metric("spillway_gateway_session_ends_total", "replaced").await;
    assert!(replaced < 2.0, "{replaced} sessions of the dead were open until they came back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_is_closed_again_and_again() {
    let node = Node::start("cohorts-idle", &[NO_SEND_QUOTA, ("RPC__HANDSHAKE_TIMEOUT", "500ms")]).await;
    let summary = play(&node, "connect-and-idle=25%", &["--existing", "8", "--profile", "send(5s@20)"]).await;
    let connected = count(&summary, Cohort::ConnectAndIdle, "ok");
    // Two who hold four each, and open another when one is closed.
    assert!(connected > 16.0, "{summary}");
    let refused = node.metric("spillway_rpc_server_connections_refused_total", "silent").await;
    assert!(refused >= 16.0 && refused <= connected, "{refused} of {connected}");
    assert_eq!(count(&summary, Cohort::Polite, "failed"), 0.0, "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_are_many_and_others_go_on() {
    let node = Node::start("cohorts-reset", &[NO_SEND_QUOTA]).await;
    let before = node.metric("spillway_rpc_server_started_total", "\"Session\"").await;
    let summary = play(&node, "rst-stream-flood=25%", &["--existing", "8", "--profile", "send(5s@20)"]).await;
    let opened = count(&summary, Cohort::RstStreamFlood, "attempts");
    assert!(opened > 64.0, "{summary}");
    let seen = node.metric("spillway_rpc_server_started_total", "\"Session\"").await - before;
    assert!(seen > 32.0 && seen <= opened + 64.0, "{seen} seen of {opened}");
    assert_eq!(count(&summary, Cohort::Polite, "failed"), 0.0, "{summary}");
    assert_eq!(summary["ledger"]["acked"], summary["ledger"]["delivered"], "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_identity_in_two_places_replaces_itself_and_loses_nothing() {
    let node = Node::start("cohorts-twice", &[NO_SEND_QUOTA]).await;
    let summary = play(&node, "multi-login=25%", &["--existing", "8", "--profile", "send(6s@20)"]).await;
    let logins = count(&summary, Cohort::MultiLogin, "ok");
    assert!(logins > 8.0, "{summary}");
    let replaced = node.metric("spillway_gateway_session_ends_total", "replaced").await;
    assert!(replaced > 4.0, "{replaced} of {logins}");
    assert_eq!(summary["ledger"]["acked"], summary["ledger"]["delivered"], "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_are_refused_and_the_walk_through_all_numbers_is_slow() {
    let node = Node::start("cohorts-guess", &[NO_SEND_QUOTA]).await;
    let cohorts = "wrong-otp=25%,contact-scraper=25%";
    let summary = play(&node, cohorts, &["--existing", "8", "--profile", "send(6s@20)"]).await;
    let guesses =
        count(&summary, Cohort::WrongOtp, "attempts") - count(&summary, Cohort::WrongOtp, "first_attempts");
    assert!(guesses > 2.0 && count(&summary, Cohort::WrongOtp, "first_attempts") > 1.0, "{summary}");
    let checked = node.metric("spillway_verification_checks_total", "wrong").await;
    assert!(checked >= count(&summary, Cohort::WrongOtp, "ok"), "{checked}: {summary}");
    let reasons = &summary["operations"]["wrong_otp_check"]["reasons"];
    assert!(reasons["guessed"].is_null(), "{summary}");
    let scraper = |figure| count(&summary, Cohort::ContactScraper, figure);
    assert!(scraper("attempts") > 2.0, "{summary}");
    let numbers = node.metric("spillway_gateway_discover_numbers_total", "").await;
    // All that were answered, and at most those that were asked about.
    assert!(
        numbers >= 1_000.0 * scraper("ok") && numbers <= 1_000.0 * scraper("attempts"),
        "{numbers}: {summary}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harm_is_the_same_run_twice_and_the_polite_are_offered_the_same() {
    let out = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_spillway-under-test");
    let asked = ["--harm", "--cohorts", "hot-loop=20%,never-acks=20%", "--seed", "7", "--quiet"];
    let load = ["--existing", "10", "--sends", "20", "--calm", "2", "--profile", "send(4s@20)"];
    let gates =
        ["--gate", "hot-loop.send.refused == 0", "--gate", "harm.p99 < 60s", "--gate", "polite.send.ok > 50"];
    let own = ["--server-binary", binary, "--out"];
    let arguments = asked.iter().chain(&load).chain(&gates).chain(&own);
    let code = surge(arguments.map(OsString::from).chain([out.path().into()])).await;
    assert!(
        matches!(code, ExitCode::Pass | ExitCode::ObjectiveMissed | ExitCode::GeneratorOverloaded),
        "{code:?}"
    );
    let together = summary(out.path());
    let harm = &together["harm"];
    let alone: Value = serde_json::from_slice(
        &std::fs::read(Path::new(harm["folder"].as_str().unwrap()).join("summary.json")).unwrap(),
    )
    .unwrap();
    assert_eq!(harm["alone"]["sends"], harm["together"]["sends"], "{harm}");
    assert_eq!(alone["operations"]["existing_send"]["offered"], harm["alone"]["sends"]);
    assert!(alone["operations"].get("hot_loop_send").is_none(), "the rude are silent in it: {alone}");
    assert_eq!(alone["ledger"]["acked"], alone["ledger"]["delivered"], "and take their mail: {alone}");
    assert!(count(&together, Cohort::HotLoop, "ok") > 1.0, "{together}");
    let difference = harm["together"]["p99_ms"].as_f64().unwrap() - harm["alone"]["p99_ms"].as_f64().unwrap();
    assert!((harm["p99_ms"].as_f64().unwrap() - difference).abs() < 1e-9, "{harm}");
    for gate in together["gates"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|gate| gate["figure"].as_str().unwrap().contains('<'))
    {
        assert_eq!(gate["pass"], true, "{gate}");
    }
}

#[tokio::test]
async fn shares_that_are_wrong_run_nothing() {
    let out = tempfile::tempdir().unwrap();
    let of = async |arguments: &[&str]| {
        let out = [OsString::from("--out"), out.path().into()];
        surge(out.into_iter().chain(arguments.iter().map(OsString::from))).await
    };
    assert_eq!(of(&["--cohorts", "hot-lop=5%"]).await, ExitCode::Usage);
    assert_eq!(of(&["--cohorts", "polite=90%,hot-loop=5%"]).await, ExitCode::Usage);
    assert_eq!(of(&["--cohorts", "hot-loop=1%", "--existing", "10"]).await, ExitCode::Usage);
    assert_eq!(of(&["--harm"]).await, ExitCode::Usage);
    assert_eq!(of(&["--gate", "hot-loop.sned.response.p99 < 1s"]).await, ExitCode::Usage);
    assert!(!out.path().join("latest").exists(), "nothing ran");
}
