//! `surge simulate autoscale`: autoscalers on the curves of January and October 2021, in virtual time.

use std::path::Path;

use spillway_simulator::autoscale::{Comparison, Curve, Setting};
use spillway_types::{Clock, SystemClock};

use crate::cli::SimulateOptions;
use crate::curve::{Column, Hours, signal_2021};
use crate::run_folder::{RunFolder, RunFolderError};
use crate::slo::ExitCode;

/// Beside the scenarios that ship with the simulator. A file of this name goes first.
pub(crate) const NAME: &str = "autoscale";

/// Plays it, prints the tables, and leaves a folder with `summary.json`; an order that does not hold is
/// [`ExitCode::ObjectiveMissed`].
///
/// # Errors
///
/// When the folder cannot be written.
pub(crate) fn play(options: &SimulateOptions) -> Result<ExitCode, RunFolderError> {
    let folder = RunFolder::create(&options.out, SystemClock.now(), NAME)?;
    let comparison = Comparison::of(&curves(), &Setting::default(), options.seed);
    print!("{}", comparison.print());
    folder.write_autoscale(&comparison)?;
    println!("{}", folder.path().display());
    let missed = comparison.orders().iter().any(|order| !order.holds);
    Ok(if missed { ExitCode::ObjectiveMissed } else { ExitCode::Pass })
}

pub(crate) fn is_asked_for(file: &Path) -> bool {
    file == Path::new(NAME) && !file.exists()
}

/// The day of the steepest rise and the one before, that of the highest hour and the one before, the whole month 240 times as fast,
/// and the hours in which a rival was away.
fn curves() -> [Curve; 4] {
    let hours = signal_2021(Column::Reconciled);
    let of = |name: &str, days: std::ops::RangeInclusive<usize>, hour_s: f64| {
        Curve::of_hours(name, &multiples(&hours, days), hour_s)
    };
    [
        of("8 and 9 January 2021", 8..=9, 3_600.0),
        of("14 and 15 January 2021", 14..=15, 3_600.0),
        of("January 2021, an hour in 15 s", 1..=31, 15.0),
        Curve::october_2021(),
    ]
}

/// Of these days of the month.
fn multiples(hours: &Hours, days: std::ops::RangeInclusive<usize>) -> Vec<f64> {
    let first = (days.start() - 1) * 24;
    let count = days.count() * 24;
    hours.iter().skip(first).take(count).map(|hour| hour.multiplier).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curves_are_the_days_that_they_are_called_after() {
        let [rise, peak, month, october] = curves();
        assert_eq!((rise.seconds(), peak.seconds()), (48 * 3_600, 48 * 3_600));
        assert_eq!((month.seconds(), october.seconds()), (744 * 15, 19 * 3_600));
        // Midnight of 9 January: five times the hour before.
        assert_eq!((rise.multiple(86_399), rise.multiple(86_400)), (6.93, 36.16));
        assert_eq!((peak.highest(), month.highest()), (362.66, 362.66));
    }

    #[test]
    fn a_file_of_that_name_goes_first() {
        assert!(is_asked_for(Path::new("autoscale")));
        assert!(!is_asked_for(Path::new("autoscaler")));
    }
}
