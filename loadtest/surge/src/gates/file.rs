//! Gates in a file, with faults beside them.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;
use toml::Spanned;

use super::Rule;
use super::parse::ParseError;
use crate::cohorts::{Shares, SharesError};
use crate::faults::{Fault, FaultError};

/// What a `--gates` file says.
///
/// ```toml
/// # `false`: only what is in this file is judged, beside losses and the generator's health.
/// defaults = true
/// gates = ["send.response.p99 < 250ms", "e2e.lost == 0"]
/// cohorts = "hot-loop=5%,never-acks=5%"
///
/// [[gate]]
/// check = "send.response.p99 < 1s"
/// any = "10s"
/// after = "10s"
/// abort = true
///
/// [[fault]]
/// at = "30s"
/// run = "kill -9 $SURGE_SERVER_PID"
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateFile {
    /// Whether the gates that every run has are judged, too.
    pub defaults: bool,
    pub rules: Vec<Rule>,
    pub faults: Vec<Fault>,
    /// Who does not behave; `--cohorts` comes before it.
    pub cohorts: Option<Shares>,
}

#[derive(Debug, thiserror::Error)]
pub enum GateFileError {
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}:{column}: {error}", path.display())]
    Check { path: PathBuf, line: usize, column: usize, error: Box<ParseError> },
    #[error("{}:{line}:{column}: {error}", path.display())]
    Fault { path: PathBuf, line: usize, column: usize, error: FaultError },
    #[error("{}:{line}:{column}: {error}", path.display())]
    Cohorts { path: PathBuf, line: usize, column: usize, error: SharesError },
    #[error("{} is not understood", path.display())]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "yes")]
    defaults: bool,
    #[serde(default)]
    gates: Vec<Spanned<String>>,
    #[serde(default)]
    gate: Vec<Table>,
    #[serde(default)]
    fault: Vec<FaultTable>,
    cohorts: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    check: Spanned<String>,
    any: Option<Spanned<String>>,
    after: Option<Spanned<String>>,
    #[serde(default)]
    abort: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultTable {
    at: Spanned<String>,
    run: String,
    label: Option<String>,
}

const fn yes() -> bool {
    true
}

impl GateFile {
    /// # Errors
    ///
    /// With file, line and column of what is wrong.
    pub fn read(path: &Path) -> Result<Self, GateFileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| GateFileError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, GateFileError> {
        let file: File = toml::from_str(text)
            .map_err(|source| GateFileError::Toml { path: path.to_owned(), source: Box::new(source) })?;
        let check = |check: &Spanned<String>| {
            Rule::parse(check.get_ref()).map_err(|error| {
                // The span begins at the quotation mark.
                let (line, column) = position(text, check.span().start + 1 + error.at.start);
                GateFileError::Check { path: path.to_owned(), line, column, error: Box::new(error) }
            })
        };
        let mut rules = file.gates.iter().map(check).collect::<Result<Vec<_>, _>>()?;
        for table in &file.gate {
            let mut rule = check(&table.check)?;
            // The same words as in a check, so that there is one reader of them.
            for (word, value) in [("any", &table.any), ("after", &table.after)] {
                let Some(value) = value else { continue };
                let whole = format!("{} {word} {}", rule.text, value.get_ref());
                rule = Rule::parse(&whole).map_err(|error| {
                    let (line, column) = position(text, value.span().start + 1);
                    GateFileError::Check { path: path.to_owned(), line, column, error: Box::new(error) }
                })?;
            }
            if table.abort && !rule.abort {
                rule = Rule::parse(&format!("{} abort", rule.text)).map_err(|error| {
                    let (line, column) = position(text, table.check.span().start + 1);
                    GateFileError::Check { path: path.to_owned(), line, column, error: Box::new(error) }
                })?;
            }
            rules.push(rule);
        }
        let faults = file.fault.into_iter().map(|table| {
            let fault = Fault::new(table.at.get_ref(), &table.run, table.label);
            fault.map_err(|error| {
                let (line, column) = position(text, table.at.span().start + 1);
                GateFileError::Fault { path: path.to_owned(), line, column, error }
            })
        });
        let faults = faults.collect::<Result<_, _>>()?;
        let cohorts = file.cohorts.map(|cohorts| {
            cohorts.get_ref().parse().map_err(|error| {
                let (line, column) = position(text, cohorts.span().start + 1);
                GateFileError::Cohorts { path: path.to_owned(), line, column, error }
            })
        });
        Ok(Self { defaults: file.defaults, rules, faults, cohorts: cohorts.transpose()? })
    }
}

/// Line and column, from 1, of a byte.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<GateFile, GateFileError> {
        GateFile::parse(Path::new("gates.toml"), text)
    }

    #[test]
    fn lists_and_tables_say_the_same() {
        let file = parse(
            "defaults = false\ngates = [\"e2e.lost == 0\"]\n\n[[gate]]\ncheck = \"send.response.p99 < 1s\"\nany = \"10s\"\n\
             after = \"warmup\"\nabort = true\n\n[[fault]]\nat = \"30s\"\nrun = \"true\"\n",
        )
        .unwrap();
        assert!(!file.defaults);
        assert_eq!(file.rules[1], Rule::parse("send.response.p99 < 1s any 10s after warmup abort").unwrap());
        assert_eq!(file.faults.len(), 1);
        assert!(parse("").unwrap().defaults);
    }

    #[test]
    fn a_mistake_is_found_by_line_and_column() {
        let error = parse("gates = [\n  \"e2e.lost == 0\",\n  \"sned.response.p99 < 1s\",\n]\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("gates.toml:3:4: no operation is called `sned` (did you mean `send`?)"),
            "{error}"
        );
        let error =
            parse("[[gate]]\ncheck = \"send.response.p99 < 1s\"\nany = \"ten\"\n").unwrap_err().to_string();
        assert!(error.starts_with("gates.toml:3:8: "), "{error}");
        let error = parse("[[gate]]\nchek = \"e2e.lost == 0\"\n").unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains("chek") && why.contains("line 2"), "{error}: {why}");
        let error = parse("[[fault]]\nat = \"soon\"\nrun = \"true\"\n").unwrap_err().to_string();
        assert!(error.starts_with("gates.toml:2:7: "), "{error}");
        let error = parse("cohorts = \"hot-lop=5%\"\n").unwrap_err().to_string();
        assert!(
            error.starts_with("gates.toml:1:12: no cohort is called `hot-lop` (did you mean `hot-loop`?)"),
            "{error}"
        );
        let shares = parse("cohorts = \"hot-loop=5%\"").unwrap().cohorts.unwrap();
        assert_eq!(shares, "hot-loop=5%".parse().unwrap());
    }
}
