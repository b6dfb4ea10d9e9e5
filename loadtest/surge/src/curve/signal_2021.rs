//! The shipped curve of Signal's new users in January 2021. Its provenance is in `profiles/README.md`.

use super::Hours;

pub const SIGNAL_2021: &str = "signal-2021";

const CSV: &str = include_str!("../../profiles/signal-2021.csv");

/// Which reading of the sources to replay; they disagree by about a tenth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Column {
    /// Keeps every sourced day, the weekly totals and the month's total.
    #[default]
    Reconciled,
    /// Keeps the claim of 47 million between 4 and 17 January, which forces a cliff after it.
    AsReported,
}

impl Column {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reconciled => "mult_reconciled",
            Self::AsReported => "mult_as_reported",
        }
    }
}

/// The 744 hours of January 2021.
pub fn signal_2021(column: Column) -> Hours {
    Hours::read(CSV.as_bytes(), column.name())
        .expect("the shipped curve is well formed; a test reads both columns")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::curve::Evidence;

    #[test]
    fn the_shipped_curve_holds_what_its_readme_says() {
        for (column, month_millions) in [(Column::Reconciled, 50.62), (Column::AsReported, 50.63)] {
            let hours: Vec<_> = signal_2021(column).iter().cloned().collect();
            assert_eq!(hours.len(), 744);
            let highest = hours.iter().max_by(|a, b| a.multiplier.total_cmp(&b.multiplier)).unwrap();
            assert_eq!((highest.utc.as_str(), highest.multiplier), ("2021-01-15T15:00Z", 362.66));
            assert_eq!(highest.evidence, Some(Evidence::Sourced));
            let millions = hours.iter().map(|hour| hour.multiplier).sum::<f64>() * 35_071.0 / 24.0 / 1e6;
            assert!((millions - month_millions).abs() < 0.05, "{millions}");
        }
    }

    #[test]
    fn a_month_fits_into_a_minute() {
        let replay = signal_2021(Column::Reconciled).replay(Duration::from_secs(60), 800.0).unwrap();
        assert!((replay.curve.peak_per_s() - 800.0).abs() < 1e-9);
        assert!((replay.curve.duration().as_secs_f64() - 60.0).abs() < 1e-3);
        assert_eq!(replay.hour_at(Duration::from_secs(28)).unwrap().utc, "2021-01-15T11:00Z");
    }
}
