//! Who we are to a NATS server: a key, a key with a JWT, or whatever the server's address says.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::{KeyPair, KeyPairType};

use crate::nats::NatsConfig;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("`credentials` and `nkey` are both set: one of them says who we are")]
    Both,
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds no {section}: a credentials file has a JWT and a seed, each between dashed lines", path.display())]
    Section { path: PathBuf, section: &'static str },
    #[error("{} holds no valid nkey seed", path.display())]
    Seed { path: PathBuf, source: nkeys::error::Error },
    #[error("the seed in {} is not a user's (`SU...`)", .0.display())]
    NotAUser(PathBuf),
}

pub(super) enum Identity {
    /// The user and password in the server's address, if it has any.
    Address,
    Key {
        jwt: Option<String>,
        pair: Box<KeyPair>,
    },
}

impl Identity {
    pub(super) fn load(config: &NatsConfig) -> Result<Self, IdentityError> {
        let read = |path: &PathBuf| {
            fs::read_to_string(path).map_err(|source| IdentityError::Read { path: path.clone(), source })
        };
        match (&config.credentials, &config.nkey) {
            (Some(_), Some(_)) => Err(IdentityError::Both),
            (None, None) => Ok(Self::Address),
            (None, Some(path)) => Ok(Self::Key { jwt: None, pair: user_key(path, read(path)?.trim())? }),
            (Some(path), None) => {
                let file = read(path)?;
                let section = |section| {
                    between_dashes(&file, section)
                        .ok_or_else(|| IdentityError::Section { path: path.clone(), section })
                };
                let (jwt, seed) = (section("USER JWT")?, section("USER NKEY SEED")?);
                Ok(Self::Key { jwt: Some(jwt.to_owned()), pair: user_key(path, seed)? })
            }
        }
    }
}

fn user_key(path: &Path, seed: &str) -> Result<Box<KeyPair>, IdentityError> {
    let pair =
        KeyPair::from_seed(seed).map_err(|source| IdentityError::Seed { path: path.to_owned(), source })?;
    match pair.key_pair_type() {
        KeyPairType::User => Ok(Box::new(pair)),
        _ => Err(IdentityError::NotAUser(path.to_owned())),
    }
}

/// The line after `-----BEGIN ... <section>-----`.
fn between_dashes<'a>(file: &'a str, section: &str) -> Option<&'a str> {
    let mut lines = file.lines().map(str::trim);
    lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(section))?;
    lines.next().filter(|line| !line.is_empty() && !line.starts_with('-'))
}

/// What a server that asks is told: the public key and the signed nonce, both as text.
pub(super) fn answer(pair: &KeyPair, nonce: &str) -> Result<(String, String), nkeys::error::Error> {
    let signature = pair.sign(nonce.as_bytes())?;
    Ok((pair.public_key(), BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("Address"),
            Self::Key { jwt: Some(_), pair } => write!(f, "Credentials({})", pair.public_key()),
            Self::Key { jwt: None, pair } => write!(f, "Nkey({})", pair.public_key()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn write(dir: &Path, text: &str) -> Option<PathBuf> {
        let path = dir.join("file");
        fs::write(&path, text).unwrap();
        Some(path)
    }

    #[test]
    fn a_credentials_file_gives_the_jwt_and_signs_with_its_seed() {
        let (dir, user) = (tempfile::tempdir().unwrap(), KeyPair::new_user());
        let text = format!(
            "-----BEGIN NATS USER JWT-----\r\neyJ0.e30.sig\r\n------END NATS USER JWT------\r\n\r\n\
             ***** IMPORTANT *****\r\n-----BEGIN USER NKEY SEED-----\r\n{}\r\n------END USER NKEY SEED------\r\n",
            user.seed().unwrap()
        );
        let config = NatsConfig { credentials: write(dir.path(), &text), ..NatsConfig::default() };
        let Ok(Identity::Key { jwt: Some(jwt), pair }) = Identity::load(&config) else { panic!() };
        assert_eq!(jwt, "eyJ0.e30.sig");
        let (key, signature) = answer(&pair, "nonce").unwrap();
        assert_eq!(key, user.public_key());
        user.verify(b"nonce", &BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        assert!(!format!("{:?}", Identity::load(&config)).contains(&user.seed().unwrap()));
    }

    #[test]
    fn wrong_files_are_told_apart_and_seeds_stay_out_of_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let nkey = |text: &str| NatsConfig { nkey: write(dir.path(), text), ..NatsConfig::default() };
        let account = KeyPair::new_account().seed().unwrap();
        let broken = KeyPair::new_user().seed().unwrap().replacen('A', "B", 1) + "A";
        let credentials = NatsConfig { credentials: write(dir.path(), "hello"), ..NatsConfig::default() };
        let missing = NatsConfig { nkey: Some(dir.path().join("none")), ..NatsConfig::default() };
        let both = NatsConfig { credentials: missing.nkey.clone(), ..missing.clone() };

        let text = |config: &NatsConfig| {
            let error = Identity::load(config).unwrap_err();
            format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default())
        };
        assert!(text(&credentials).contains("holds no USER JWT"));
        assert!(text(&missing).starts_with("cannot read"));
        assert!(text(&both).contains("both set"));
        for (seed, expected) in [(&account, "not a user's"), (&broken, "no valid nkey seed")] {
            let text = text(&nkey(seed));
            assert!(text.contains(expected) && !text.contains(seed.as_str()), "{text}");
        }
    }
}
