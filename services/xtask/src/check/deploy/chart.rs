//! Helm's own opinion, the chart's unit tests, and the schemas of Kubernetes and of custom resources.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::value_sets::ValueSet;
use crate::tools::schemas::{KUBERNETES, Schemas, WITHOUT_SCHEMA};
use crate::tools::{self, quietly};
use crate::{cargo, chart};

/// What a set of values makes of the chart.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) name: String,
    pub(super) file: PathBuf,
}

pub(super) fn lint_and_render(sets: &[ValueSet]) -> Result<Vec<Rendered>> {
    eprintln!("\n=== helm lint, helm template ({} sets of values)", sets.len());
    let folder = cargo::target().join("check/rendered");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let newest = KUBERNETES[KUBERNETES.len() - 1];
    sets.iter()
        .map(|set| {
            let mut lint = tools::HELM.command();
            lint.args(["lint", "--strict"]).args(set.arguments()).arg(chart::folder());
            quietly(&format!("helm lint with the values {}", set.name), &mut lint)?;
            let mut template = tools::HELM.command();
            template.args(["template", "try", "--namespace=messaging", "--kube-version", newest]);
            template.args(set.arguments()).arg(chart::folder());
            let text = quietly(&format!("helm template with the values {}", set.name), &mut template)?;
            let file = folder.join(format!("{}.yaml", set.name));
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(Rendered { name: set.name.clone(), file })
        })
        .collect()
}

pub(super) fn unit_tests() -> Result<()> {
    let mut tests = tools::HELM_UNITTEST.command();
    tests.arg("--strict").args(["--file", "tests/*_test.yaml"]).arg(chart::folder());
    cargo::step("helm-unittest", &mut tests)
}

pub(super) fn conform(rendered: &[Rendered], schemas: &Schemas) -> Result<()> {
    eprintln!("\n=== kubeconform (Kubernetes {}; without a schema: {WITHOUT_SCHEMA})", KUBERNETES.join(", "));
    for version in KUBERNETES {
        let mut conform = tools::KUBECONFORM.command();
        conform.args(["-strict", "-kubernetes-version", version, "-skip", WITHOUT_SCHEMA]);
        conform.arg("-schema-location").arg(schemas.pattern());
        conform.args(rendered.iter().map(|rendered| &rendered.file));
        quietly(&format!("kubeconform for Kubernetes {version}"), &mut conform)?;
    }
    Ok(())
}
