//! Where things are in a fleet's folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::FleetError;

#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Before the name of each log; a folder ends in `/`.
    log_prefix: PathBuf,
}

impl Folder {
    /// A whole path, because processes are recognised by paths in their command lines.
    pub(crate) fn at(path: &Path) -> Result<Self, FleetError> {
        let path = absolute(path)?;
        Ok(Self { log_prefix: path.join("logs/"), path })
    }

    pub(crate) fn with_log_prefix(self, prefix: Option<&Path>) -> Result<Self, FleetError> {
        let log_prefix = prefix.map_or_else(|| Ok(self.log_prefix), absolute)?;
        Ok(Self { log_prefix, ..self })
    }

    pub(crate) fn make(&self) -> io::Result<()> {
        ["run", "logs", "settings", "data"]
            .iter()
            .try_for_each(|part| fs::create_dir_all(self.path.join(part)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn description(&self) -> PathBuf {
        self.path.join("fleet.json")
    }

    pub(crate) fn secrets(&self) -> PathBuf {
        self.path.join("secrets.toml")
    }

    pub(crate) fn settings(&self, file: &str) -> PathBuf {
        self.path.join("settings").join(file)
    }

    pub(crate) fn data(&self, node: &str) -> PathBuf {
        self.path.join("data").join(node)
    }

    pub(crate) fn log(&self, node: &str) -> PathBuf {
        let mut log = self.log_prefix.clone().into_os_string();
        log.push(format!("{node}.log"));
        log.into()
    }

    pub(crate) fn record(&self, node: &str) -> PathBuf {
        self.path.join("run").join(format!("{node}.json"))
    }

    pub(crate) fn records(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path.join("run")).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect()
    }
}

fn absolute(path: &Path) -> Result<PathBuf, FleetError> {
    std::path::absolute(path).map_err(|source| FleetError::File { path: path.to_owned(), source })
}
