//! Configuration: defaults, under a TOML file, under environment variables.
//!
//! The struct is the schema. It has `#[serde(default, deny_unknown_fields)]` at every level, so each key has a default
//! and a mistyped one is an error instead of a setting that silently does nothing. Durations are written `"30s"`
//! (`humantime_serde`). There is no merging below a key: an enum or a list in the file replaces the default one whole.
//!
//! `SPILLWAY_GATEWAY__LISTEN=0.0.0.0:7000` sets `gateway.listen`: the prefix, one underscore, then the key in upper
//! case with two underscores for each dot. The value is read as TOML (`3`, `true`, `["gateway", "mailbox"]`); what is
//! not TOML, or does not fit the key, is taken as a string.
//!
//! Errors show the wrong value, so a secret's type deserialises from any string and is checked afterwards.

mod environment;
mod error;

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use environment::Variable;
pub use environment::process_environment;
pub use error::{ConfigError, Origin};

/// A configuration file that has been read.
struct File<'a> {
    path: &'a Path,
    text: String,
}

/// What serde had to say about one key.
struct Mistake {
    /// Dotted; empty for the configuration as a whole.
    key: String,
    message: String,
    /// Known when the input was text.
    offset_bytes: Option<usize>,
}

/// Loads a configuration; `prefix` is that of the environment variables, without the underscore (`SPILLWAY`).
///
/// # Errors
///
/// When the file cannot be read, is not TOML, or it or the environment has a wrong key or value. The message says
/// where, and what to write instead.
pub fn load<T>(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    prefix: &str,
) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    let file = file.map(File::read).transpose()?;
    let table = file.as_ref().map(File::table).transpose()?.unwrap_or_default();
    let mut variables = environment::variables(env, prefix);
    loop {
        let merged = environment::merge(table.clone(), &variables)?;
        let mistake = match deserialize::<T, _>(Value::Table(merged)) {
            Ok(config) => return Ok(config),
            Err(mistake) => mistake,
        };
        // Each turn takes one more variable as a string, so this ends.
        let suspect = variables.iter_mut().find(|variable| variable.sets(&mistake.key));
        if suspect.is_none_or(|variable| !variable.retry_as_string(&mistake.message)) {
            return Err(explain::<T>(mistake, file.as_ref(), &variables));
        }
    }
}

/// The whole configuration as TOML, for `--print-config`. Types of secrets must serialise to something harmless.
///
/// # Panics
///
/// When `config` holds what TOML cannot express, such as an integer above `i64::MAX`.
pub fn to_toml<T: Serialize>(config: &T) -> String {
    toml::to_string_pretty(config).expect("a configuration that TOML can express")
}

impl<'a> File<'a> {
    fn read(path: &'a Path) -> Result<Self, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self { path, text }),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    fn table(&self) -> Result<Table, ConfigError> {
        self.text.parse::<Table>().map_err(|error| ConfigError::Syntax {
            origin: self.origin(error.span().map(|span| span.start)),
            message: error.message().to_owned(),
        })
    }

    fn origin(&self, offset_bytes: Option<usize>) -> Origin {
        let before = offset_bytes.and_then(|offset| self.text.as_bytes().get(..offset));
        let line = before.map(|before| before.iter().filter(|byte| **byte == b'\n').count() + 1);
        Origin::File { path: self.path.to_owned(), line }
    }
}

fn deserialize<'de, T, D>(input: D) -> Result<T, Mistake>
where
    T: DeserializeOwned,
    D: serde::Deserializer<'de, Error = toml::de::Error>,
{
    serde_path_to_error::deserialize(input).map_err(|error| {
        let key = error.path().to_string();
        let error = error.into_inner();
        Mistake {
            // The root's path is a lone dot.
            key: if key == "." { String::new() } else { key },
            message: error.message().to_owned(),
            offset_bytes: error.span().map(|span| span.start),
        }
    })
}

/// Finds out where the mistake was made: in the variable that set the key, in the file, or in a variable below it.
fn explain<T>(mistake: Mistake, file: Option<&File<'_>>, variables: &[Variable]) -> ConfigError
where
    T: DeserializeOwned + Serialize + Default,
{
    if let Some(variable) = variables.iter().find(|variable| variable.sets(&mistake.key)) {
        let message = variable.first_message().unwrap_or(&mistake.message).to_owned();
        let origin = variable.origin();
        return ConfigError::from_mistake::<T>(Mistake { message, ..mistake }, origin);
    }
    let in_file = file.and_then(|file| {
        let input = toml::Deserializer::parse(&file.text).ok()?;
        let mistake = deserialize::<T, _>(input).err()?;
        let origin = file.origin(mistake.offset_bytes);
        Some((mistake, origin))
    });
    if let Some((mistake, origin)) = in_file {
        return ConfigError::from_mistake::<T>(mistake, origin);
    }
    let below = variables.iter().find(|variable| variable.is_below(&mistake.key));
    let origin = below.map_or(Origin::Unknown, Variable::origin);
    ConfigError::from_mistake::<T>(mistake, origin)
}

#[cfg(test)]
mod tests;
