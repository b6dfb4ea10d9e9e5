//! JSON schemas that kubeconform reads without a network: Kubernetes' own from the wheel of `kubernetes-validate`, those of custom
//! resources from the modules that define them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Workspace, folder, once, quietly, remove};
use crate::yaml;

/// The oldest that is supported somewhere, the one that most run, the newest.
pub(crate) const KUBERNETES: [&str; 3] = ["1.34.0", "1.35.0", "1.37.0"];
const WHEEL: &str = "kubernetes-validate==1.37.0";

/// Whose custom resources the chart makes: the module, and the files in it.
const CUSTOM: [(&str, &[&str]); 3] = [
    ("github.com/kedacore/keda/v2@v2.20.2", &["config/crd/bases/keda.sh_scaledobjects.yaml"]),
    (
        "github.com/prometheus-operator/prometheus-operator@v0.93.0",
        &[
            "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        ],
    ),
    (
        "sigs.k8s.io/gateway-api@v1.6.1",
        &[
            "config/crd/standard/gateway.networking.k8s.io_grpcroutes.yaml",
            "config/crd/standard/gateway.networking.k8s.io_backendtlspolicies.yaml",
        ],
    ),
];

/// Kinds whose definitions no module has: the ScyllaDB operator's is not served by Go's proxy, the cluster autoscaler's is not in one.
pub(crate) const WITHOUT_SCHEMA: &str = "ScyllaCluster,CapacityBuffer";

#[derive(Debug)]
pub(crate) struct Schemas {
    folder: PathBuf,
}

/// Makes them unless they are here.
pub(crate) fn obtain() -> Result<Schemas> {
    // Whatever is made of other things has another name.
    let versions: Vec<_> =
        CUSTOM.iter().filter_map(|(module, _)| module.rsplit_once("@v")).map(|(_, v)| v).collect();
    let name = format!(
        "schemas-{}-{}",
        WHEEL.rsplit_once('=').map_or("", |(_, version)| version),
        versions.join("-")
    );
    let schemas = Schemas { folder: folder().join(name) };
    if !schemas.folder.exists() {
        once(&schemas.folder, make)?;
    }
    Ok(schemas)
}

impl Schemas {
    /// What kubeconform is told: where to look for a kind.
    pub(crate) fn pattern(&self) -> String {
        format!(
            "{}/{{{{.NormalizedKubernetesVersion}}}}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
            self.folder.display()
        )
    }

    /// The definitions of the custom resources, for a real API server.
    pub(crate) fn custom_resources(&self) -> PathBuf {
        self.folder.join("crds")
    }
}

fn make(part: &Path) -> Result<()> {
    fs::create_dir_all(part)?;
    built_in(part)?;
    let go = Workspace::open("definitions of custom resources")?;
    let crds = part.join("crds");
    fs::create_dir_all(&crds)?;
    for (module, files) in CUSTOM {
        let source = go.module(module)?;
        for file in files {
            let from = source.join(file);
            let text = fs::read_to_string(&from).with_context(|| format!("{module} has no {file}"))?;
            let name = from.file_name().context("a file has a name")?;
            fs::write(crds.join(name), &text)?;
            custom(part, &text).with_context(|| format!("{module}, {file}"))?;
        }
    }
    go.close()
}

/// What the wheel has for each version.
fn built_in(part: &Path) -> Result<()> {
    eprintln!("\n=== obtain schemas of Kubernetes {} (once)", KUBERNETES.join(", "));
    let wheels = part.join("wheels");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"])
        .arg(&wheels);
    quietly("downloading the schemas", pip.arg(WHEEL)).context(
        "Python 3 with pip fetches the schemas, once; install your system's packages `python3` and `python3-pip`",
    )?;
    let wheel = fs::read_dir(&wheels)?.next().context("pip fetched nothing")??.path();
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "--extract"]).arg(&wheel).arg(&wheels);
    quietly("unpacking the schemas", &mut unzip)?;
    for version in KUBERNETES {
        let from = wheels.join(format!("kubernetes_validate/kubernetes-json-schema/v{version}-local-strict"));
        let to = part.join(format!("v{version}"));
        fs::create_dir_all(&to)?;
        let mut count = 0;
        for file in fs::read_dir(&from).with_context(|| format!("the wheel has no schemas of {version}"))? {
            let file = file?.path();
            let mut schema: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
            relink(&mut schema);
            fs::write(to.join(file.file_name().context("a file has a name")?), schema.to_string())?;
            count += 1;
        }
        ensure!(count > 100, "the wheel has only {count} schemas of {version}");
    }
    remove(&wheels)
}

/// The wheel's own links lead to an address; they shall lead to the file beside.
fn relink(node: &mut Value) {
    match node {
        Value::Object(map) => {
            map.remove("$id");
            for (key, value) in map {
                match value {
                    Value::String(link) if key == "$ref" => {
                        *link = link.replace("/api/_definitions.json", "_definitions.json");
                    }
                    value => relink(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(relink),
        _ => {}
    }
}

/// One schema for each version of a custom resource, for each version of Kubernetes, under the name that kubeconform asks for.
fn custom(part: &Path, text: &str) -> Result<()> {
    for definition in yaml::documents(text)? {
        let spec = &definition["spec"];
        let (Some(group), Some(kind)) = (spec["group"].as_str(), spec["names"]["kind"].as_str()) else {
            continue;
        };
        let group = group.split('.').next().unwrap_or(group);
        for version in spec["versions"].as_array().context("it has no versions")? {
            let name = version["name"].as_str().context("a version has a name")?;
            let mut schema = version["schema"]["openAPIV3Schema"].clone();
            close(&mut schema);
            // The API server's to check.
            schema["properties"]["metadata"] = json!({"type": "object"});
            let file = format!("{}-{group}-{name}.json", kind.to_lowercase());
            for kubernetes in KUBERNETES {
                fs::write(part.join(format!("v{kubernetes}")).join(&file), schema.to_string())?;
            }
        }
    }
    Ok(())
}

/// Says of each object whose properties are listed that it has no others, and says "or" and "nothing" as JSON schema does.
fn close(node: &mut Value) {
    match node {
        Value::Object(map) => {
            if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
                map.remove("anyOf");
                map.insert("type".to_owned(), json!(["string", "integer"]));
            } else if map.get("properties").is_some_and(Value::is_object)
                && !map.contains_key("additionalProperties")
                && map.get("x-kubernetes-preserve-unknown-fields") != Some(&Value::Bool(true))
            {
                map.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            if map.remove("nullable") == Some(Value::Bool(true))
                && let Some(Value::String(kind)) = map.get("type")
            {
                let either = json!([kind, "null"]);
                map.insert("type".to_owned(), either);
            }
            map.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused_where_fields_are_listed() {
        let mut schema = json!({
            "type": "object",
            "properties": {
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}]},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {}}},
                "none": {"type": "string", "nullable": true},
            },
        });
        close(&mut schema);
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["port"]["type"], json!(["string", "integer"]));
        assert!(schema["properties"]["any"].get("additionalProperties").is_none());
        assert_eq!(schema["properties"]["none"]["type"], json!(["string", "null"]));
    }

    #[test]
    fn links_lead_to_files() {
        let mut schema = json!({"$id": "x", "items": [{"$ref": "/api/_definitions.json#/definitions/a"}]});
        relink(&mut schema);
        assert_eq!(schema, json!({"items": [{"$ref": "_definitions.json#/definitions/a"}]}));
    }
}
