//! Messages about wrong configuration, written for whoever has to mend it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;
use toml::Value;

use super::Mistake;

/// How alike two names must be for one to be suggested for the other, from 0 to 1: a mistake in every third letter.
const LIKENESS_MIN: f64 = 0.65;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{origin} is not valid TOML: {message}")]
    Syntax { origin: Origin, message: String },
    #[error("unknown key {key:?} in {origin}; {}", advice(suggestion.as_deref(), valid))]
    UnknownKey {
        key: String,
        origin: Origin,
        /// The full name of the key that was probably meant.
        suggestion: Option<String>,
        /// The names that are valid in its place.
        valid: Vec<String>,
    },
    /// The message says what was expected and what was found.
    #[error("wrong value for {key:?} in {origin}: {message}")]
    Value { key: String, origin: Origin, message: String },
}

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File {
        path: PathBuf,
        /// From 1.
        line: Option<usize>,
    },
    Variable {
        name: String,
    },
    Unknown,
}

impl ConfigError {
    pub(super) fn from_mistake<T: Serialize + Default>(mistake: Mistake, origin: Origin) -> Self {
        let Mistake { key, message, .. } = mistake;
        let Some(valid) = valid_names(&message) else {
            let key = if key.is_empty() { "the configuration".to_owned() } else { key };
            return Self::Value { key, origin, message };
        };
        let suggestion = suggest(&key, &valid, &default_keys::<T>());
        Self::UnknownKey { key, origin, suggestion, valid }
    }
}

/// The names in serde's message about an unknown field. It alone lists every name: a serialised default lacks those
/// whose default is `None`.
fn valid_names(message: &str) -> Option<Vec<String>> {
    let rest = message.strip_prefix("unknown field ")?;
    // The odd pieces stand between backticks; the first is the unknown name.
    Some(rest.split('`').skip(1).step_by(2).skip(1).map(str::to_owned).collect())
}

/// The likest name in the same table, else a key of the same name in another one.
fn suggest(key: &str, valid: &[String], everywhere: &[String]) -> Option<String> {
    let (parent, name) = key.rsplit_once('.').map_or(("", key), |(parent, name)| (parent, name));
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(name, other);
    let sibling = valid
        .iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(
            |(_, candidate)| {
                if parent.is_empty() { candidate.clone() } else { format!("{parent}.{candidate}") }
            },
        );
    sibling.or_else(|| everywhere.iter().find(|other| other.rsplit('.').next() == Some(name)).cloned())
}

fn default_keys<T: Serialize + Default>() -> Vec<String> {
    let mut keys = Vec::new();
    if let Ok(default) = Value::try_from(T::default()) {
        collect_keys("", &default, &mut keys);
    }
    keys
}

fn collect_keys(prefix: &str, value: &Value, keys: &mut Vec<String>) {
    let Value::Table(table) = value else { return };
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        collect_keys(&key, value, keys);
        keys.push(key);
    }
}

fn advice(suggestion: Option<&str>, valid: &[String]) -> String {
    match (suggestion, valid) {
        (Some(suggestion), _) => format!("did you mean {suggestion:?}?"),
        (None, []) => "there are no keys here".to_owned(),
        (None, valid) => format!("the keys here are {}", valid.join(", ")),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{} (line {line})", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable { name } => write!(f, "environment variable {name}"),
            Self::Unknown => f.write_str("the configuration"),
        }
    }
}
