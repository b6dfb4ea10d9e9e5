//! Starting: what is wrong is said, with the name of what to change.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::process::Command;
use tokio::time::timeout;

use super::support::{Node, PATIENCE, binary};

/// `EX_USAGE`: starting again with the same settings will not help.
pub(crate) const USAGE: i32 = 64;

/// Runs the binary to its end.
pub(crate) async fn run<A: AsRef<OsStr>>(arguments: &[A], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for port in ["LISTEN__PUBLIC", "LISTEN__SANDBOX_CODES", "ADMIN__LISTEN"] {
        command.env(format!("SPILLWAY_{port}"), "127.0.0.1:0");
    }
    for (key, value) in settings {
        command.env(format!("SPILLWAY_{key}"), value);
    }
    timeout(PATIENCE, command.output()).await.expect("it does not end").unwrap()
}

/// It ends with this code, and one line of its errors says all of this.
async fn fails(settings: &[(&str, &str)], code: i32, says: &[&str]) {
    fails_with(&[], settings, code, says).await;
}

pub(crate) async fn fails_with(arguments: &[&str], settings: &[(&str, &str)], code: i32, says: &[&str]) {
    let output = run(arguments, settings).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.lines().any(|line| says.iter().all(|part| line.contains(part))), "{says:?} not in: {text}");
    assert!(!text.contains("panicked"), "{text}");
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_key_that_does_not_exist_is_named_with_the_one_that_was_meant() {
    let (wrong, right) = ("gateway.session.hello_timeot", "gateway.session.hello_timeout");
    let variable = "SPILLWAY_GATEWAY__SESSION__HELLO_TIMEOT";
    fails(&[("GATEWAY__SESSION__HELLO_TIMEOT", "1s")], USAGE, &[wrong, right, variable]).await;
    fails(&[("GATEWAY__SESSION__HELLO_TIMEOUT", "soon")], USAGE, &[right, "wrong value"]).await;
    fails(&[("QUOTAS__MESAGES__BURST", "1")], USAGE, &["mesages", "did you mean `messages`"]).await;
    fails(&[("MAILBOX__NEAR_FULL_PERCENT", "101")], USAGE, &["near_full_percent", "101"]).await;
    fails(&[("LISTEN__SANDBOX_CODES", "0.0.0.0:0")], USAGE, &["listen.sandbox_codes", "loopback"]).await;
    fails(&[("CONFIG", "/nowhere/spillway.toml")], USAGE, &["/nowhere/spillway.toml"]).await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spillway.toml");
    fs::write(&file, "[node]\ndata = \"x\"\n\n[gateway.session]\nhello_timeot = \"1s\"\n").unwrap();
    fails(&[("CONFIG", text(&file))], USAGE, &[wrong, right, text(&file), "line 5"]).await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = ("NODE__DATA", text(folder.path()));
    let ports = [
        ("LISTEN__PUBLIC", "listen.public"),
        ("ADMIN__LISTEN", "admin.listen"),
        ("CONTROL__SCALER__LISTEN", "control.scaler.listen"),
    ];
    for (key, setting) in ports {
        fails(&[data, (key, &address)], 1, &[&address, setting]).await;
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made before the ports were had");
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named_with_the_reason() {
    let mut node = Node::start("folder", &[]).await;
    let data = node.data();
    let store = data.join("store");
    let settings = [("NODE__DATA", text(&data))];
    fails(&settings, 1, &[text(&store), "in use by another process"]).await;
    assert!(node.server.signal("TERM").await.is_ok());
    assert_eq!(node.server.wait().await.unwrap().code(), Some(0), "the other process was not disturbed");

    let format = fs::read_to_string(store.join("format")).unwrap();
    fs::write(store.join("format"), "spillway-store 999\n").unwrap();
    fails(&settings, 1, &[text(&store), "newer Spillway", "999"]).await;
    fs::write(store.join("format"), format).unwrap();

    let (secrets, aside) = (data.join("secrets.toml"), data.join("aside.toml"));
    fs::rename(&secrets, &aside).unwrap();
    fails(&settings, 1, &[text(&secrets), "missing", "backup"]).await;
    assert!(!secrets.exists(), "no new secrets for an old store");
    fs::rename(&aside, &secrets).unwrap();
    node.start_again().await;

    let file = data.join("a-file");
    fs::write(&file, "not a folder").unwrap();
    fails(&[("NODE__DATA", text(&file))], 1, &[text(&file)]).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a folder");
}

#[tokio::test]
async fn tls_files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (data, absent, noise) =
        (folder.path().join("data"), folder.path().join("absent.pem"), folder.path().join("noise.pem"));
    fs::write(&noise, "noise").unwrap();
    for (certificate, problem) in [(&absent, "cannot read"), (&noise, "holds no certificate")] {
        let settings = [
            ("NODE__DATA", text(&data)),
            ("TLS__CERTIFICATE", text(certificate)),
            ("TLS__PRIVATE_KEY", text(&noise)),
        ];
        fails(&settings, 1, &[text(certificate), problem]).await;
    }
}

#[tokio::test]
async fn settings_are_checked_and_printed_without_starting() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let settings = [("NODE__DATA", text(&data)), ("MAILBOX__MESSAGES_MAX", "77")];
    let checked = run(&["--check-config"], &settings).await;
    assert!(checked.status.success());
    let bad = run(&["--check-config"], &[("MAILBOX__MESSAGES_MAX", "0")]).await;
    assert_eq!(bad.status.code(), Some(USAGE));

    let printed = run(&["--print-config"], &settings).await;
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("messages_max = 77"), "{printed}");
    assert!(printed.contains("[control.scaler]"), "{printed}");
    let file = folder.path().join("printed.toml");
    fs::write(&file, &printed).unwrap();
    let again = run(&["--config", text(&file), "--print-config"], &[]).await;
    assert_eq!(String::from_utf8(again.stdout).unwrap(), printed, "what is printed can be loaded");

    let limits = run(&["--print-limits"], &[("QUOTAS__MESSAGES__BURST", "61")]).await;
    let limits = String::from_utf8(limits.stdout).unwrap();
    let row =
        limits.lines().find(|line| line.starts_with("* messages")).unwrap_or_else(|| panic!("{limits}"));
    assert!(row.contains("61"), "{row}");
    assert!(!data.exists(), "nothing was started");
}
