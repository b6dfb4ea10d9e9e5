//! The service of a run that was given none: embedded, on this machine, with data that is thrown away.

use std::path::PathBuf;

use super::RunError;
use crate::cli::RunOptions;
use crate::run_folder::RunFolder;
use crate::server::{ServerOptions, ServerProcess};
use crate::target::Target;

/// Everybody comes from one address here, so limits of networks would see one very busy network.
const NETWORK_LIMITS: [&str; 2] = ["VERIFICATION_START_NETWORK", "AUTHENTICATE"];

pub(super) async fn start(options: &RunOptions, folder: &RunFolder) -> Result<ServerProcess, RunError> {
    let settings = NETWORK_LIMITS
        .iter()
        .map(|limit| (format!("SPILLWAY_QUOTAS__{limit}__ENABLED"), "false".to_owned()))
        .collect();
    let server = ServerOptions {
        binary: options.server_binary.clone().unwrap_or_else(beside_this_program),
        data: folder.path().join("server"),
        log: folder.path().join("server.log"),
        settings,
        arguments: options.server_arg.clone(),
    };
    Ok(ServerProcess::start(&server).await?)
}

pub(super) fn target(server: &ServerProcess) -> Target {
    Target {
        public: server.public.clone(),
        codes: server.codes.iter().cloned().collect(),
        pids: vec![server.pid()],
    }
}

fn beside_this_program() -> PathBuf {
    let name = format!("spillway{}", std::env::consts::EXE_SUFFIX);
    match std::env::current_exe() {
        Ok(path) => path.with_file_name(name),
        // Looked up on the path then.
        Err(_) => PathBuf::from(name),
    }
}
