//! The secrets of one installation: never in the configuration. One process alone makes them on its first start and
//! keeps them beside its store; the processes of a fleet are given one file, which a person makes.
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

pub(crate) const FILE: &str = "secrets.toml";
const PEPPER_VERSION: u8 = 1;
/// Rights that nobody else may have to the file. The group may read it: that is how Kubernetes mounts a secret for a
/// process that is not root.
const SHARED: u32 = 0o037;

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
    #[error("{} does not exist; make it once with `spillway secrets new FILE` and give it to every process", file.display())]
    Absent { file: PathBuf },
    #[error("{} exists already, and replacing it would lose every account", file.display())]
    Exists { file: PathBuf },
    #[error("{}: {name} is a placeholder; make a file with `spillway secrets new FILE`", file.display())]
    Placeholder { file: PathBuf, name: &'static str },
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
    match load(&file) {
        Err(SecretsError::Absent { .. }) if store.exists() => {
            Err(SecretsError::Missing { data: data.to_owned(), file })
        }
        Err(SecretsError::Absent { .. }) => {
            fs::create_dir_all(data).map_err(|source| SecretsError::Io { file: file.clone(), source })?;
            create(&file)
        }
        outcome => outcome,
    }
}

/// Reads the secrets of a fleet.
pub(crate) fn load(file: &Path) -> Result<Secrets, SecretsError> {
    match fs::read_to_string(file) {
        Ok(text) => {
            check_permissions(file)?;
            parse(file, &text)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SecretsError::Absent { file: file.to_owned() })
        }
        Err(source) => Err(SecretsError::Io { file: file.to_owned(), source }),
    }
}

/// Makes new secrets in a file that does not exist.
pub(crate) fn create(file: &Path) -> Result<Secrets, SecretsError> {
    if file.exists() {
        return Err(SecretsError::Exists { file: file.to_owned() });
    }
    let secrets = Secrets { master: Secret::random(), pepper: Pepper::new(PEPPER_VERSION, Secret::random()) };
    write(file, &secrets).map_err(|source| SecretsError::Io { file: file.to_owned(), source })?;
    Ok(secrets)
}

fn parse(file: &Path, text: &str) -> Result<Secrets, SecretsError> {
    let damaged = |problem: String| SecretsError::Damaged { file: file.to_owned(), problem };
    // The parser's own message would quote the line, and the line is a secret.
    let stored: Stored =
        toml::from_str(text).map_err(|_| damaged("it is not the file Spillway wrote".into()))?;
    let secret = |name: &'static str, text: &str| {
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| damaged(format!("{name} is not base64")))?;
        if bytes.windows(2).all(|pair| pair[0] == pair[1]) {
            return Err(SecretsError::Placeholder { file: file.to_owned(), name });
        }
        Secret::try_from(bytes.as_slice()).map_err(|error| damaged(format!("{name}: {error}")))
    };
    Ok(Secrets {
        master: secret("master", &stored.master)?,
        pepper: Pepper::new(stored.pepper_version, secret("pepper", &stored.pepper)?),
    })
}

fn write(file: &Path, secrets: &Secrets) -> io::Result<()> {
    let stored = Stored {
        pepper_version: PEPPER_VERSION,
        pepper: STANDARD_NO_PAD.encode(secrets.pepper.expose()),
        master: STANDARD_NO_PAD.encode(secrets.master.expose()),
    };
    let text = toml::to_string(&stored).map_err(io::Error::other)?;
    // Under another name first: a crash leaves either no file or a whole one.
    let unfinished = file.with_extension("toml.new");
    let mut writer = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    writer.write_all(b"# Made by Spillway. Back it up, and keep it from others.\n")?;
    writer.write_all(text.as_bytes())?;
    writer.sync_all()?;
    fs::rename(&unfinished, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn check_permissions(file: &Path) -> Result<(), SecretsError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::metadata(file).map_err(|source| SecretsError::Io { file: file.to_owned(), source })?;
    match metadata.permissions().mode() & SHARED {
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
    fn a_fleet_is_given_its_secrets_and_never_makes_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fleet.toml");
        assert!(matches!(load(&file), Err(SecretsError::Absent { .. })));
        let made = create(&file).unwrap();
        assert!(load(&file).unwrap().master == made.master);
        assert!(matches!(create(&file), Err(SecretsError::Exists { .. })));
    }

    #[test]
    fn a_placeholder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fleet.toml");
        let zeros = STANDARD_NO_PAD.encode([0; 32]);
        let text = format!("pepper_version = 1\npepper = \"{zeros}\"\nmaster = \"{zeros}\"\n");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(matches!(load(&file), Err(SecretsError::Placeholder { name: "master", .. })));
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
