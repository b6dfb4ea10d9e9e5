//! The secrets of one installation: made on the first start, kept beside the store, never in the configuration.
//!
//! Losing the file loses every account: no credential could be checked and no number found. Therefore a store
//! without its secrets is refused rather than given new ones.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use spillway_types::{Pepper, Secret};

const FILE: &str = "secrets.toml";

/// What every role's keys are derived from.
#[derive(Debug)]
pub(crate) struct Secrets {
    pub(crate) master: Secret,
    pub(crate) pepper: Pepper,
}

#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error(
        "{} holds a store, but {} is missing; restore it from a backup: without it no account can be used",
        data.display(),
        file.display()
    )]
    Missing { data: PathBuf, file: PathBuf },
    #[error("{} is damaged: {problem}; restore it from a backup", file.display())]
    Damaged { file: PathBuf, problem: String },
    #[error("{} can be read by others; run `chmod 600` on it", file.display())]
    Exposed { file: PathBuf },
    #[error("cannot read or write {}", file.display())]
    Io {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    pepper_version: u8,
    pepper: String,
    master: String,
}

/// Reads the secrets, or makes them when the data folder holds no store yet.
pub(crate) fn load_or_create(data: &Path, store: &Path) -> Result<Secrets, SecretsError> {
    let file = data.join(FILE);
    match fs::read_to_string(&file) {
        Ok(text) => {
            check_permissions(&file)?;
            parse(&file, &text)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if store.exists() {
                return Err(SecretsError::Missing { data: data.to_owned(), file });
            }
            let (master, pepper) = (Secret::random(), Secret::random());
            create(data, &file, &master, &pepper).map_err(|source| SecretsError::Io { file, source })?;
            Ok(Secrets { master, pepper: Pepper::new(1, pepper) })
        }
        Err(source) => Err(SecretsError::Io { file, source }),
    }
}

fn parse(file: &Path, text: &str) -> Result<Secrets, SecretsError> {
    let damaged = |problem: String| SecretsError::Damaged { file: file.to_owned(), problem };
    // The parser's own message would quote the line, and the line is a secret.
    let stored: Stored =
        toml::from_str(text).map_err(|_| damaged("it is not the file Spillway wrote".into()))?;
    let secret = |name: &str, text: &str| {
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| damaged(format!("{name} is not base64")))?;
        Secret::try_from(bytes.as_slice()).map_err(|error| damaged(format!("{name}: {error}")))
    };
    Ok(Secrets {
        master: secret("master", &stored.master)?,
        pepper: Pepper::new(stored.pepper_version, secret("pepper", &stored.pepper)?),
    })
}

fn create(data: &Path, file: &Path, master: &Secret, pepper: &Secret) -> io::Result<()> {
    fs::create_dir_all(data)?;
    let stored = Stored {
        pepper_version: 1,
        pepper: STANDARD_NO_PAD.encode(pepper.expose()),
        master: STANDARD_NO_PAD.encode(master.expose()),
    };
    let text = toml::to_string(&stored).map_err(io::Error::other)?;
    // Under another name first: a crash leaves either no file or a whole one.
    let unfinished = file.with_extension("toml.new");
    let mut writer = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    writer.write_all(b"# Made by Spillway on its first start. Back it up, and keep it from others.\n")?;
    writer.write_all(text.as_bytes())?;
    writer.sync_all()?;
    fs::rename(&unfinished, file)?;
    File::open(data)?.sync_all()
}

fn check_permissions(file: &Path) -> Result<(), SecretsError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::metadata(file).map_err(|source| SecretsError::Io { file: file.to_owned(), source })?;
    match metadata.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => Err(SecretsError::Exposed { file: file.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_start_reads_what_the_first_made() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        let first = load_or_create(folder.path(), &store).unwrap();
        fs::create_dir(&store).unwrap();
        let second = load_or_create(folder.path(), &store).unwrap();
        assert!(first.master == second.master);
    }

    #[test]
    fn a_store_without_its_secrets_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir(&store).unwrap();
        assert!(matches!(load_or_create(folder.path(), &store), Err(SecretsError::Missing { .. })));
    }

    #[test]
    fn a_readable_or_damaged_file_is_refused_without_quoting_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = (folder.path().join("store"), folder.path().join(FILE));
        load_or_create(folder.path(), &store).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create(folder.path(), &store), Err(SecretsError::Exposed { .. })));
        fs::write(&file, "master = \"hunter2\"").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let error = load_or_create(folder.path(), &store).unwrap_err();
        assert!(matches!(error, SecretsError::Damaged { .. }));
        assert!(!error.to_string().contains("hunter2"));
    }
}
