//! Environment variables as configuration keys.

use toml::{Table, Value};

use super::error::{ConfigError, Origin};

/// A variable that sets a key.
pub(super) struct Variable {
    name: String,
    /// Dotted, in lower case.
    key: String,
    text: String,
    value: Value,
    /// Why the value did not fit before it was taken as a string.
    first_message: Option<String>,
}

/// This process's environment, without the variables that are not Unicode.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The variables with the prefix, in the order of their names, so that the same mistakes give the same message.
pub(super) fn variables(env: impl Iterator<Item = (String, String)>, prefix: &str) -> Vec<Variable> {
    let mut variables: Vec<Variable> = env
        .filter_map(|(name, text)| {
            let key = name.strip_prefix(prefix)?.strip_prefix('_')?;
            if is_foreign(key, &text) {
                return None;
            }
            let key = key.to_ascii_lowercase().replace("__", ".");
            let value = parse(&text);
            Some(Variable { name, key, text, value, first_message: None })
        })
        .collect();
    variables.sort_by(|a, b| a.name.cmp(&b.name));
    variables
}

/// Variables that share the prefix without being meant for the configuration: `_CONFIG` names the file, `_TEST_` is for
/// the tests, and Kubernetes describes a service named `spillway...` to every pod of its namespace in the rest.
fn is_foreign(key: &str, text: &str) -> bool {
    if key.contains("__") {
        return false;
    }
    let of_service_link = key.ends_with("SERVICE_HOST")
        || key.contains("SERVICE_PORT")
        || ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
        || ["_TCP_", "_UDP_", "_SCTP_"].iter().any(|protocol| key.contains(protocol));
    key == "CONFIG" || key.starts_with("TEST_") || of_service_link
}

fn parse(text: &str) -> Value {
    text.parse().unwrap_or_else(|_not_toml: toml::de::Error| Value::String(text.to_owned()))
}

/// Lays the variables over the file.
pub(super) fn merge(mut table: Table, variables: &[Variable]) -> Result<Table, ConfigError> {
    for variable in variables {
        let mut place = &mut table;
        let mut parents: Vec<&str> = variable.key.split('.').collect();
        let leaf = parents.pop().unwrap_or_default();
        for parent in parents {
            let entry = place.entry(parent).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(next) = entry else {
                return Err(ConfigError::Value {
                    key: variable.key.clone(),
                    origin: variable.origin(),
                    message: format!(
                        "{parent:?} is set to a value elsewhere, so nothing can be set below it"
                    ),
                });
            };
            place = next;
        }
        place.insert(leaf.to_owned(), variable.value.clone());
    }
    Ok(table)
}

impl Variable {
    /// Whether the variable gave `key`, or the whole of which `key` is a part, its value.
    pub(super) fn sets(&self, key: &str) -> bool {
        key.strip_prefix(&self.key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// Whether the variable made `key` exist by setting something below it.
    pub(super) fn is_below(&self, key: &str) -> bool {
        self.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Takes the text as it stands, after its TOML value did not fit (a password of digits, say). False when it is
    /// taken so already.
    pub(super) fn retry_as_string(&mut self, message: &str) -> bool {
        if self.value.is_str() {
            return false;
        }
        self.value = Value::String(self.text.clone());
        self.first_message = Some(message.to_owned());
        true
    }

    pub(super) fn first_message(&self) -> Option<&str> {
        self.first_message.as_deref()
    }

    pub(super) fn origin(&self) -> Origin {
        Origin::Variable { name: self.name.clone() }
    }
}
