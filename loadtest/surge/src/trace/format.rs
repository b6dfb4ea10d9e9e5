//! Which of the formats a header announces.

use std::path::Path;

use super::TraceError;

/// What rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Counts,
    Events,
    Multiples,
}

/// Where in a record everything is.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) format: Format,
    pub(super) names: Vec<String>,
    pub(super) time: usize,
    /// Of one unit of a time that is a number, in seconds.
    pub(super) unit_s: f64,
    pub(super) op: Option<usize>,
    /// The count or the multiple.
    pub(super) value: usize,
    pub(super) user: Option<usize>,
    pub(super) peer: Option<usize>,
    pub(super) bytes: Option<usize>,
}

/// Names of the column of times, and their units.
const TIMES: [(&str, f64); 7] = [
    ("t_s", 1.0),
    ("t_ms", 1e-3),
    ("utc_hour", 1.0),
    ("time", 1.0),
    ("timestamp", 1.0),
    ("t", 1.0),
    ("t_us", 1e-6),
];

impl Columns {
    pub(super) fn find(
        path: &Path,
        header: &csv::StringRecord,
        column: Option<&str>,
    ) -> Result<Self, TraceError> {
        let names: Vec<_> = header.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        let columns = || names.join(", ");
        let at = |name: &str| names.iter().position(|known| known == name);
        let time = TIMES.iter().find_map(|(name, unit_s)| Some((at(name)?, *unit_s)));
        let no_trace = || TraceError::Header { path: path.to_owned(), columns: columns() };
        let (time, unit_s) = time.ok_or_else(no_trace)?;
        let (format, value) = match (column, at("count")) {
            (Some(column), _) => {
                let column = column.to_ascii_lowercase();
                let missing = || TraceError::Column {
                    path: path.to_owned(),
                    column: column.clone(),
                    columns: columns(),
                };
                (Format::Multiples, at(&column).ok_or_else(missing)?)
            }
            (None, Some(count)) => (Format::Counts, count),
            (None, None) => match multiples(&names).as_slice() {
                [one] => (Format::Multiples, *one),
                [] if at("op").is_some() || names.len() == 1 => (Format::Events, time),
                [] => return Err(no_trace()),
                several => {
                    let columns: Vec<_> = several.iter().map(|at| names[*at].as_str()).collect();
                    return Err(TraceError::Ambiguous { path: path.to_owned(), columns: columns.join(", ") });
                }
            },
        };
        let (op, user, peer, bytes) = (at("op"), at("user"), at("peer"), at("bytes"));
        Ok(Self { format, time, unit_s, op, value, user, peer, bytes, names })
    }
}

fn multiples(names: &[String]) -> Vec<usize> {
    let exactly = names.iter().position(|name| name == "mult");
    match exactly {
        Some(at) => vec![at],
        None => {
            names.iter().enumerate().filter(|(_, name)| name.starts_with("mult")).map(|(at, _)| at).collect()
        }
    }
}
