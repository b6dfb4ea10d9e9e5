//! Go as a builder: its caches, its proxy, what it is told.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Source, Tool, folder, quietly, remove};
use crate::cargo;

/// The oldest that the modules in `services/xtask/go` accept.
const GO_LEAST: &str = "1.26";

/// Go with caches of its own, unless the environment names some. Only one at a time, because who is done removes them.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// To be removed when all is built.
    own: Option<PathBuf>,
    _alone: File,
}

impl Workspace {
    /// `what` is wanted from it.
    pub(crate) fn open(what: &str) -> Result<Self> {
        let version = Command::new("go").args(["env", "GOVERSION"]).output();
        let there = version.as_ref().is_ok_and(|output| output.status.success());
        ensure!(
            there,
            "`go` is missing; it obtains {what}, once. Install Go {GO_LEAST} or later (https://go.dev/dl, or your system's package `golang`)"
        );
        eprintln!("\n=== obtain {what} (once; Go takes some minutes)");
        let named = std::env::var_os("GOPATH").is_some() || std::env::var_os("GOMODCACHE").is_some();
        let own = if named { None } else { Some(std::path::absolute(folder().join("go"))?) };
        let lock = folder().join("go.lock");
        let alone = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
        alone.lock().with_context(|| format!("cannot lock {}", lock.display()))?;
        Ok(Self { own, _alone: alone })
    }

    pub(crate) fn close(self) -> Result<()> {
        match &self.own {
            Some(caches) => remove(caches),
            None => Ok(()),
        }
    }

    /// The executable becomes `wanted`.
    pub(super) fn build(&self, tool: &Tool, wanted: &Path) -> Result<()> {
        let flags: Vec<_> = tool.stamps.iter().map(|stamp| format!("-X {stamp}")).collect();
        let flags = format!("-ldflags=-s -w {}", flags.join(" "));
        let mut go = self.command();
        match &tool.source {
            Source::Package(package) => {
                // `go install` chooses the name itself.
                let bin = wanted.with_extension("bin");
                remove(&bin)?;
                go.arg("install").arg(&flags).arg("-tags").arg(tool.tags);
                go.arg(format!("{package}@v{}", tool.version)).env("GOBIN", &bin);
                self.run(tool, &mut go)?;
                std::fs::rename(bin.join(tool.name), wanted)
                    .with_context(|| format!("Go did not build {}", tool.name))?;
                remove(&bin)
            }
            Source::Module { folder, package } => {
                go.current_dir(cargo::root().join("services/xtask/go").join(folder));
                go.args(["build", "-mod=readonly"]).arg(&flags).arg("-o").arg(wanted).arg(package);
                self.run(tool, &mut go)
            }
        }
    }

    fn run(&self, tool: &Tool, go: &mut Command) -> Result<()> {
        eprintln!("    {} {}", tool.name, tool.version);
        let what = format!("building {} {}", tool.name, tool.version);
        quietly(&what, go).map(drop).with_context(|| {
            format!("{} could not be built; Go's module proxy must be reachable once", tool.name)
        })
    }

    /// The folder of a module's files.
    pub(super) fn module(&self, module: &str) -> Result<PathBuf> {
        let mut go = self.command();
        let told = quietly(&format!("downloading {module}"), go.args(["mod", "download", "-json", module]))
            .context("Go's module proxy must be reachable once")?;
        let told: Value = serde_json::from_str(&told).context("Go did not say where the module is")?;
        Ok(PathBuf::from(told["Dir"].as_str().context("the module has no folder")?))
    }

    fn command(&self) -> Command {
        let mut go = Command::new("go");
        // Of no checkout, with no path of this machine inside, and without a C compiler.
        go.env("CGO_ENABLED", "0").env("GOFLAGS", "-modcacherw -buildvcs=false -trimpath");
        if let Some(own) = &self.own {
            go.env("GOPATH", own.join("path")).env("GOCACHE", own.join("cache"));
        }
        go
    }
}
