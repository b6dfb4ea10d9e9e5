//! The service of a run that was given none: embedded, on this machine, with data that is thrown away.

use std::fs;
use std::path::{Path, PathBuf};

use super::RunError;
use crate::carrier::Carrier;
use crate::cli::RunOptions;
use crate::profile::Profile;
use crate::run_folder::{RunFolder, RunFolderError};
use crate::server::{ServerOptions, ServerProcess};
use crate::target::Target;

/// Everybody comes from one address here, so limits of networks would see one very busy network.
const NETWORK_LIMITS: [&str; 2] = ["VERIFICATION_START_NETWORK", "AUTHENTICATE"];

/// Hundreds write here what a million would, so a limit of each of them would be that of the load. It is computed all the same.
const PERSONAL_LIMITS: [&str; 1] = ["MESSAGES"];

/// Everybody comes through the waiting room. A place costs no work, because this machine would have to do it for every phone.
const ROOM: [(&str, &str); 2] = [("REQUIRED", "true"), ("PROOF_OF_WORK", "false")];

pub(super) async fn start(
    options: &RunOptions,
    folder: &RunFolder,
    carrier: Option<&Carrier>,
) -> Result<ServerProcess, RunError> {
    let limits =
        NETWORK_LIMITS.iter().map(|limit| (format!("SPILLWAY_QUOTAS__{limit}__ENABLED"), "false".to_owned()));
    let shadowed =
        PERSONAL_LIMITS.iter().map(|limit| (format!("SPILLWAY_QUOTAS__{limit}__SHADOW"), "true".to_owned()));
    let room =
        ROOM.iter().map(|(name, value)| (format!("SPILLWAY_GATEWAY__ROOM__{name}"), (*value).to_owned()));
    let mut arguments = options.server_arg.clone();
    if let Some(carrier) = carrier {
        let path = folder.path().join("server.toml");
        write(&path, &provider(options, carrier))?;
        arguments.splice(0..0, ["--config".into(), path.into()]);
    }
    let server = ServerOptions {
        binary: options.server_binary.clone().unwrap_or_else(beside_this_program),
        data: folder.path().join("server"),
        log: folder.path().join("server.log"),
        settings: limits.chain(shadowed).chain(room).collect(),
        arguments,
    };
    Ok(ServerProcess::start(&server).await?)
}

/// This process as the only provider, for money, so that the service minds what becomes of its codes.
fn provider(options: &RunOptions, carrier: &Carrier) -> String {
    let micros = (options.code_cost * 1e6).round().clamp(1.0, 1e12) as u64;
    // A sixth of the run instead of a minute, so that it is over what became of a code while the run lasts.
    let grace_s =
        if options.profile == Profile::Pumping { (options.surge().as_secs() / 6).clamp(2, 60) } else { 60 };
    format!(
        "[[registration.providers]]\nname = \"surge\"\nkind = \"http\"\ncost = {{ default = {micros} }}\n\
         http = {{ url = \"{}\" }}\n\n\
         [registration.budget]\nhour = 1_000_000_000_000_000\n\n\
         [registration.routing]\ngrace_min = \"{grace_s}s\"\n\n\
         # A code is good for less than the provider is bad, and a second one can be had in between.\n\
         [registration.verification]\ncode_lifetime = \"10s\"\nsms_delays = [\"10s\", \"20s\", \"60s\"]\n",
        carrier.url()
    )
}

fn write(path: &Path, text: &str) -> Result<(), RunFolderError> {
    fs::write(path, text).map_err(|source| RunFolderError::Write { path: path.to_owned(), source })
}

pub(super) fn target(server: &ServerProcess) -> Target {
    Target {
        public: server.public.clone(),
        codes: server.codes.iter().cloned().collect(),
        admin: vec![server.admin.clone()],
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
