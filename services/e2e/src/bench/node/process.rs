//! A service of its own for a measurement.

use std::path::PathBuf;

use anyhow::{Context, Result};
use surge::server::{ServerOptions, ServerProcess};
use tempfile::TempDir;

use crate::bench::Options;
use crate::bench::people::{People, SHADOWED_LIMITS};

/// A running service with clients. Everything ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) server: ServerProcess,
    pub(crate) people: People,
    folder: TempDir,
}

impl Node {
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        Self::start_with(options, &[]).await
    }

    /// With further settings.
    pub(crate) async fn start_with(options: &Options, settings: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let mut server = server_options(options, folder.path().join("data"));
        server
            .settings
            .extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let server = ServerProcess::start(&server).await?;
        let codes = server.codes.clone().context("the service serves no sandbox codes")?;
        let people = People::reach(&server.public, &[codes]).await?;
        Ok(Self { server, people, folder })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

pub(crate) fn server_options(options: &Options, data: PathBuf) -> ServerOptions {
    let mut settings: Vec<_> = SHADOWED_LIMITS
        .iter()
        .map(|limit| (format!("SPILLWAY_QUOTAS__{limit}__SHADOW"), "true".to_owned()))
        .collect();
    settings.push(("SPILLWAY_TELEMETRY__LEVEL".to_owned(), "warn".to_owned()));
    let log = data.with_extension("log");
    ServerOptions { binary: options.server.clone(), data, log, settings, arguments: Vec::new() }
}
