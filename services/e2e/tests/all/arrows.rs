//! The arrows of the architecture, read from the manifests. services/README.md draws them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// A crate, and the only crates of this workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("spillway-types", &[]),
    ("spillway-api", &["types"]),
    ("spillway-chassis", &[]),
    ("spillway-admission", &["types"]),
    ("spillway-waiting-room", &["types"]),
    ("spillway-bus", &["types", "chassis"]),
    ("spillway-store", &["types", "chassis"]),
    ("spillway-rpc", &["types", "api", "chassis", "bus", "admission", "waiting-room"]),
    ("spillway-client", &["types", "api", "admission", "waiting-room"]),
    ("spillway-gateway", &["types", "api", "rpc", "bus", "chassis", "admission", "waiting-room"]),
    ("spillway-registration", &["types", "api", "rpc", "bus", "chassis", "store"]),
    ("spillway-mailbox", &["types", "api", "rpc", "bus", "chassis", "store"]),
    ("spillway-directory", &["types", "api", "rpc", "bus", "chassis", "store"]),
    ("spillway-control", &["types", "api", "rpc", "bus", "chassis", "store", "waiting-room"]),
    (
        "spillway",
        &[
            "types",
            "api",
            "rpc",
            "bus",
            "chassis",
            "store",
            "admission",
            "gateway",
            "registration",
            "mailbox",
            "directory",
            "control",
        ],
    ),
    ("spillway-fleet", &[]),
    ("spillway-simulator", &["types", "admission", "waiting-room"]),
    ("surge", &["types", "api", "client", "fleet", "simulator"]),
    ("xtask", &["fleet"]),
];

/// Crates outside the workspace that only these inside may touch. The load tool plays its loads against NATS and PostgreSQL, too, as systems to compare with;
/// what it knows of them is no part of the service.
const WRAPPED: &[(&str, &[&str])] = &[
    // The load tool's workers have a server of their own, and must not measure the service through its own bus.
    ("async-nats", &["spillway-bus", "surge"]),
    ("fjall", &["spillway-store"]),
    ("governor", &["spillway-admission"]),
    ("opentelemetry", &["spillway-chassis"]),
    ("opentelemetry-otlp", &["spillway-chassis"]),
    ("rusmpp", &["spillway-registration"]),
    ("scylla", &["spillway-store"]),
    ("tokio-postgres", &["surge"]),
];

#[test]
fn nobody_depends_on_more_than_the_architecture_allows() {
    let dependencies = dependencies();
    let members: BTreeSet<_> = dependencies.keys().cloned().collect();
    for (name, allowed) in ARROWS {
        let allowed: BTreeSet<_> = allowed.iter().map(|name| format!("spillway-{name}")).collect();
        let inside = dependencies[*name].intersection(&members);
        // A crate's tests may switch on a feature of the crate itself.
        let inside: BTreeSet<_> = inside.filter(|inside| inside != name).cloned().collect();
        let forbidden: Vec<_> = inside.difference(&allowed).collect();
        assert!(
            forbidden.is_empty(),
            "{name} depends on {forbidden:?}; see the arrows in services/README.md"
        );
    }
}

#[test]
fn every_crate_has_its_arrows_written_down() {
    let known: BTreeSet<_> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let members: BTreeSet<_> = dependencies().into_keys().filter(|name| name != "spillway-e2e").collect();
    assert_eq!(members, known);
}

#[test]
fn wrapped_crates_stay_wrapped() {
    for (name, dependencies) in dependencies() {
        for (wrapped, wrappers) in WRAPPED {
            let may = wrappers.contains(&name.as_str());
            assert!(may || !dependencies.contains(*wrapped), "{name} depends on {wrapped}");
        }
    }
}

/// Each member of the workspace and what its manifest names, development dependencies included.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let named = package["dependencies"].as_array().unwrap().iter();
            let named = named.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), named)
        })
        .collect()
}
