//! Multipliers by the hour, read from CSV, and their replay in less time than they took.
//!
//! The columns are `utc_hour`, one or more multiplier columns of which one is picked, and optionally `day_tag`, which
//! says how well an hour is known. Lines that start with `#` are comments.

use std::io;
use std::time::Duration;

use super::{Curve, CurveError};

#[derive(Debug, thiserror::Error)]
pub enum HourlyError {
    #[error("the curve has no column `{column}`; its columns are {columns}")]
    Column { column: String, columns: String },
    #[error("line {line}, column `{column}`: `{value}` is not {expected}")]
    Field { line: u64, column: String, value: String, expected: &'static str },
    #[error("the curve has no hours")]
    Empty,
    #[error("no hour of the curve has a multiplier above 0")]
    Flat,
    #[error("the curve cannot be read as CSV")]
    Csv(#[source] csv::Error),
    #[error("the curve cannot be replayed")]
    Curve(#[from] CurveError),
}

/// How well an hour's multiplier is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A source states the day's figure.
    Sourced,
    /// Arithmetic on sourced figures.
    Derived,
    /// A guess between known points.
    Interpolated,
}

#[derive(Clone, Debug)]
pub struct Hour {
    /// As written in the file, for example `2021-01-15T15:00Z`.
    pub utc: String,
    /// Rate relative to an ordinary day's mean.
    pub multiplier: f64,
    pub evidence: Option<Evidence>,
}

#[derive(Clone, Debug)]
pub struct Hours(Vec<Hour>);

impl Hours {
    /// Reads the hours with the multipliers of one column.
    pub fn read(csv: impl io::Read, column: &str) -> Result<Self, HourlyError> {
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(csv);
        let headers = reader.headers().map_err(HourlyError::Csv)?.clone();
        let find = |name: &str| headers.iter().position(|header| header == name);
        let required = |name: &str| {
            find(name).ok_or_else(|| HourlyError::Column {
                column: name.to_owned(),
                columns: headers.iter().collect::<Vec<_>>().join(", "),
            })
        };
        let (hour_at, multiplier_at, tag_at) = (required("utc_hour")?, required(column)?, find("day_tag"));

        let mut hours = Vec::new();
        for record in reader.records() {
            let record = record.map_err(HourlyError::Csv)?;
            let line = record.position().map_or(0, csv::Position::line);
            let field = |at: usize| record.get(at).unwrap_or_default();
            let wrong = |column: &str, value: &str, expected| HourlyError::Field {
                line,
                column: column.to_owned(),
                value: value.to_owned(),
                expected,
            };

            let value = field(multiplier_at);
            let multiplier = value
                .parse()
                .ok()
                .filter(|multiplier: &f64| multiplier.is_finite() && *multiplier >= 0.0)
                .ok_or_else(|| wrong(column, value, "a number of at least 0"))?;
            let evidence = match tag_at.map(field) {
                None | Some("") => None,
                Some("sourced") => Some(Evidence::Sourced),
                Some("derived") => Some(Evidence::Derived),
                Some("interpolated") => Some(Evidence::Interpolated),
                Some(other) => return Err(wrong("day_tag", other, "sourced, derived or interpolated")),
            };
            hours.push(Hour { utc: field(hour_at).to_owned(), multiplier, evidence });
        }
        if hours.is_empty() { Err(HourlyError::Empty) } else { Ok(Self(hours)) }
    }

    /// Compresses all hours into `duration`, scaled so that the highest hour is offered at `peak_per_s`. Each hour
    /// becomes a plateau, so every hour keeps its share of the total.
    pub fn replay(self, duration: Duration, peak_per_s: f64) -> Result<Replay, HourlyError> {
        let highest = self.0.iter().map(|hour| hour.multiplier).fold(0.0, f64::max);
        if highest <= 0.0 {
            return Err(HourlyError::Flat);
        }
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let length = duration / count;
        let mut curve = Curve::default();
        for hour in &self.0 {
            curve = curve.then_step(peak_per_s * hour.multiplier / highest, length)?;
        }
        Ok(Replay { hours: self.0, hour_length: length, curve })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Hour> {
        self.0.iter()
    }
}

/// Recorded hours, played in `curve.duration()`.
#[derive(Clone, Debug)]
pub struct Replay {
    pub curve: Curve,
    hours: Vec<Hour>,
    hour_length: Duration,
}

impl Replay {
    /// A curve that nobody recorded.
    pub fn of(curve: Curve) -> Self {
        let hour_length = curve.duration();
        Self { curve, hours: Vec::new(), hour_length }
    }

    /// The recorded hour that is played at a time since the start of the replay; `None` after its end.
    pub fn hour_at(&self, at: Duration) -> Option<&Hour> {
        let index = at.as_nanos().checked_div(self.hour_length.as_nanos())?;
        self.hours.get(usize::try_from(index).ok()?)
    }

    /// Recorded time that passes in a unit of replayed time.
    pub fn compression(&self) -> f64 {
        3600.0 / self.hour_length.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(csv: &str) -> String {
        Hours::read(csv.as_bytes(), "mult").unwrap_err().to_string()
    }

    #[test]
    fn a_bad_value_is_named_by_line_and_column() {
        assert_eq!(
            error("# a comment\nutc_hour,mult\n2021-01-01T00:00Z,1.0\n2021-01-01T01:00Z,-3\n"),
            "line 4, column `mult`: `-3` is not a number of at least 0"
        );
        assert_eq!(
            error("utc_hour,mult,day_tag\nx,1.0,rumour\n"),
            "line 2, column `day_tag`: `rumour` is not sourced, derived or interpolated"
        );
        assert_eq!(
            error("utc_hour,other\n"),
            "the curve has no column `mult`; its columns are utc_hour, other"
        );
        assert_eq!(error("utc_hour,mult\n"), "the curve has no hours");
    }

    #[test]
    fn a_short_line_says_that_it_is_not_csv() {
        assert!(matches!(Hours::read("utc_hour,mult\nx\n".as_bytes(), "mult"), Err(HourlyError::Csv(_))));
    }

    #[test]
    fn hours_are_compressed_and_scaled_to_the_peak() {
        let hours = Hours::read("utc_hour,mult\na,1\nb,4\nc,2\n".as_bytes(), "mult").unwrap();
        let replay = hours.replay(Duration::from_secs(6), 100.0).unwrap();
        assert_eq!(replay.curve.peak_per_s(), 100.0);
        assert_eq!(replay.curve.total(), (25.0 + 100.0 + 50.0) * 2.0);
        assert_eq!(replay.hour_at(Duration::from_secs(3)).unwrap().utc, "b");
        assert!(replay.hour_at(Duration::from_secs(6)).is_none());
        assert_eq!(replay.compression(), 1800.0);
    }
}
