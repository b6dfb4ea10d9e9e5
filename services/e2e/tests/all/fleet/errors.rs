use std::fs;
use std::os::unix::fs::PermissionsExt;

use nkeys::KeyPair;
use tokio::net::TcpStream;

use super::super::start::{USAGE, fails_with, text};
use super::member::{Member, free_address};
use super::own_nats::OwnNats;
use super::site::Site;

/// It ends with 1, and says this on one line.
async fn fails(site: &Site, role: &str, settings: &[(&str, &str)], says: &[&str]) {
    let base = site.settings();
    let all: Vec<_> =
        base.iter().map(|(key, value)| (*key, &**value)).chain(settings.iter().copied()).collect();
    fails_with(&["--roles", role], &all, 1, says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused() {
    let site = Site::new("newer-schema").await;
    let identity = format!("{}_identity", site.prefix);
    site.execute(&[
        format!(
            "CREATE KEYSPACE {identity} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}}"
        ),
        format!(
            "CREATE TABLE {identity}.schema_version \
             (name text, step int, what text, applied_at timestamp, PRIMARY KEY (name, step))"
        ),
        format!(
            "INSERT INTO {identity}.schema_version (name, step, what, applied_at) \
             VALUES ('spillway', 999, 'of the future', 0)"
        ),
    ]);
    let says = [identity.as_str(), "newer Spillway", "version 999", "run that version"];
    fails(&site, "mailbox", &[], &says).await;
    let applied = site.run(&["schema", "apply"]).await;
    assert_eq!(applied.status.code(), Some(1));
    let said = String::from_utf8(applied.stderr).unwrap();
    assert!(says.iter().all(|part| said.contains(part)), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_the_server_does_not_know_are_named() {
    let site = Site::new("wrong-nkey").await;
    let (known, stranger) = (KeyPair::new_user(), KeyPair::new_user());
    let server =
        OwnNats::start(&format!("authorization {{ users: [ {{ nkey: {} }} ] }}", known.public_key())).await;
    let servers = format!("[\"nats://{}\"]", server.address);
    let start = |name: &str, pair: &KeyPair| {
        let file = site.folder().join(name);
        fs::write(&file, pair.seed().unwrap()).unwrap();
        let settings = [("BUS__NATS__SERVERS", servers.as_str()), ("BUS__NATS__NKEY", text(&file))];
        Member::start(&site, &["--roles", "gateway"], &settings)
    };
    let mut refused = start("stranger", &stranger);
    let says = ["refuses our credentials", "nats.credentials or nats.nkey"];
    refused.until_it_says("bus requests", &says).await;
    assert_eq!(refused.terminate().await.code(), Some(0));
    let mut welcome = start("known", &known);
    welcome.until_ready().await;
    assert_eq!(welcome.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_only_small_messages_is_named() {
    let site = Site::new("max-payload").await;
    let server = OwnNats::start("max_payload: 64KB").await;
    let servers = format!("[\"nats://{}\"]", server.address);
    let mut gateway =
        Member::start(&site, &["--roles", "gateway"], &[("BUS__NATS__SERVERS", servers.as_str())]);
    gateway.until_it_says("bus requests", &["max_payload is 65536 bytes", "512KB"]).await;
    assert_eq!(gateway.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contact_point_where_nobody_is_is_named() {
    let site = Site::new("contact-point").await;
    let nobody = free_address();
    let points = format!("[{nobody:?}]");
    let settings = [("STORE__CQL__CONTACT_POINTS", points.as_str())];
    let mut control = Member::start(&site, &["--roles", "control"], &settings);
    control.until_it_says("store", &["no database answers at", &nobody]).await;
    assert_eq!(control.terminate().await.code(), Some(0));
    fails_with(&["schema", "status"], &settings, 1, &["no database answers at", &nobody]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_that_cannot_be_used_are_named() {
    let site = Site::new("fleet-secrets").await;
    let file = site.folder().join("theirs.toml");
    let settings = [("SECRETS__FILE", text(&file))];
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    fails(&site, "gateway", &settings, &[text(&file), "does not exist", "spillway secrets new"]).await;
    assert!(!file.exists(), "a fleet's secrets are not made by themselves");

    fs::copy(&site.secrets, &file).unwrap();
    mode(0o644);
    fails(&site, "gateway", &settings, &[text(&file), "can be read by others", "chmod 600"]).await;

    let zeros = "A".repeat(43);
    fs::write(&file, format!("pepper_version = 1\npepper = \"{zeros}\"\nmaster = \"{zeros}\"\n")).unwrap();
    mode(0o600);
    fails(&site, "gateway", &settings, &[text(&file), "master is a placeholder"]).await;

    fails_with(&["secrets", "new", text(&site.secrets)], &[], 1, &["exists already", "lose every account"])
        .await;
}

#[tokio::test]
async fn settings_of_a_fleet_that_cannot_work_together_are_named() {
    fails_with(&["--roles", "mailbox"], &[], USAGE, &["roles is mailbox", "bus.kind"]).await;
    fails_with(&["--roles", "gatway"], &[], 2, &["gatway", "--roles"]).await;
    let bus = ("BUS__KIND", "nats");
    let servers = ("BUS__NATS__SERVERS", r#"["nats://127.0.0.1:1"]"#);
    fails_with(&["--roles=gateway"], &[bus], USAGE, &["bus.nats.servers is empty"]).await;
    let says = ["store.kind = \"cql\"", "gateway,mailbox"];
    fails_with(&["--roles=mailbox,gateway"], &[bus, servers], USAGE, &says).await;
    fails_with(&["--roles=gateway"], &[bus, servers], USAGE, &["secrets.file", "spillway secrets new"]).await;
}

/// Codes are read by tests only, which say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_of_codes_stays_closed_in_a_fleet() {
    let site = Site::with_schema("codes-port").await;
    for (arguments, is_open) in
        [(&["--roles=registration"][..], false), (&["--roles=registration", "--allow-sandbox-codes"], true)]
    {
        let codes = free_address();
        let mut registration = Member::start(&site, arguments, &[("LISTEN__SANDBOX_CODES", codes.as_str())]);
        registration.until_ready().await;
        assert_eq!(TcpStream::connect(&codes).await.is_ok(), is_open);
        assert_eq!(registration.terminate().await.code(), Some(0));
    }
}
