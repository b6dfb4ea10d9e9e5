//! Calendar text of a timestamp, without a time-zone library.

use spillway_types::Timestamp;

/// `2021-01-15T15:00:00Z`
pub fn rfc3339(at: Timestamp) -> String {
    let Civil { year, month, day, hour, minute, second } = Civil::of(at);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `20210115T150000Z`: sorts by time and is fit for a file name.
pub fn compact(at: Timestamp) -> String {
    let Civil { year, month, day, hour, minute, second } = Civil::of(at);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    /// Counts in years that start in March, so that the leap day comes last; this is `civil_from_days` of
    /// howardhinnant.github.io/date_algorithms.html for days since 1970.
    fn of(at: Timestamp) -> Self {
        let seconds = at.as_millis() / 1_000;
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            hour: seconds / 3_600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_around_leap_days_are_right() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_610_722_800, "2021-01-15T15:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(seconds * 1_000)), expected);
        }
        assert_eq!(compact(Timestamp::from_millis(1_610_722_800_000)), "20210115T150000Z");
    }
}
