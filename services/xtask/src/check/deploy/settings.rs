//! Whether the service accepts what the chart tells it: its settings and the variables of each Deployment's containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::chart::Rendered;
use crate::tools::quietly;
use crate::yaml;

pub(super) fn check(rendered: &[Rendered], spillway: &Path) -> Result<()> {
    eprintln!("\n=== spillway --check-config");
    for Rendered { name, file } in rendered {
        let objects =
            yaml::documents(&fs::read_to_string(file)?).with_context(|| format!("{}", file.display()))?;
        let settings = settings_file(&objects, file)?;
        let mut asked = 0;
        for deployment in objects.iter().filter(|object| object["kind"] == "Deployment") {
            let pod = &deployment["spec"]["template"]["spec"];
            for container in array(&pod["containers"]).filter(|container| container["name"] == "spillway") {
                let of = deployment["metadata"]["name"].as_str().unwrap_or_default();
                ask(spillway, &settings, container)
                    .with_context(|| format!("the values {name} make settings that {of} cannot use"))?;
                asked += 1;
            }
        }
        ensure!(asked > 0, "the values {name} make no Deployment of Spillway");
    }
    Ok(())
}

/// Runs it as the container would, but for the file's place, to the end of reading its settings.
fn ask(spillway: &Path, settings: &Path, container: &Value) -> Result<()> {
    let mut command = Command::new(spillway);
    command.arg("--check-config").arg(format!("--config={}", settings.display()));
    let arguments = array(&container["args"]).filter_map(Value::as_str);
    command.args(arguments.filter(|argument| !argument.starts_with("--config=")));
    command.env_clear();
    for variable in array(&container["env"]) {
        let Some(name) = variable["name"].as_str() else { continue };
        // What comes from a Secret is not known here; a setting that is nothing without it has to come from the file.
        if let Some(value) = variable["value"].as_str() {
            command.env(name, value);
        }
    }
    quietly("spillway --check-config", &mut command).map(drop)
}

/// The ConfigMap's file, as a file.
fn settings_file(objects: &[Value], beside: &Path) -> Result<PathBuf> {
    let text = objects
        .iter()
        .filter(|object| object["kind"] == "ConfigMap")
        .find_map(|object| object["data"]["spillway.toml"].as_str())
        .context("no ConfigMap has a spillway.toml")?;
    let file = beside.with_extension("toml");
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
