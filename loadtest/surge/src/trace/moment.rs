//! Times in traces.

/// Seconds, as a number or since 1970 when it is a date: `12.5`, `2021-01-15T15:00Z`, `2021-01-15 15:00:12.250+01:00`.
pub(super) fn seconds(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    iso8601(text)
}

fn iso8601(text: &str) -> Option<f64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) =
        (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (clock, offset_s) = offset(rest)?;
    let mut parts = clock.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = match parts.next() {
        Some(second) if second.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            second.parse().ok()?
        }
        Some(_) => return None,
        None => 0.0,
    };
    if parts.next().is_some() || hour > 24 || minute > 59 || second > 60.999_999 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    Some(days as f64 * 86_400.0 + hour as f64 * 3_600.0 + minute as f64 * 60.0 + second - offset_s)
}

/// The clock without its time zone, and that zone; none is UTC.
fn offset(rest: &str) -> Option<(&str, f64)> {
    if let Some(clock) = rest.strip_suffix(['Z', 'z']) {
        return Some((clock, 0.0));
    }
    let Some(at) = rest.rfind(['+', '-']) else { return Some((rest, 0.0)) };
    let (clock, zone) = rest.split_at_checked(at)?;
    let sign = if zone.starts_with('-') { -1.0 } else { 1.0 };
    let zone = zone.trim_start_matches(['+', '-']).replace(':', "");
    let hours = digits(zone.get(..2)?, 2)?;
    let minutes = if zone.len() == 4 { digits(zone.get(2..)?, 2)? } else { 0 };
    Some((clock, sign * (hours as f64 * 3_600.0 + minutes as f64 * 60.0)))
}

fn digits(text: &str, length: usize) -> Option<i64> {
    (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since 1970-01-01: `days_from_civil` of howardhinnant.github.io/date_algorithms.html.
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dates_are_seconds() {
        assert_eq!(seconds("12.5"), Some(12.5));
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(seconds("2021-01-15T15:00Z"), Some(1_610_722_800.0));
        assert_eq!(seconds("2021-01-15 16:00:12.250+01:00"), Some(1_610_722_812.25));
        assert_eq!(seconds("2021-01-15T09:30:00-0530"), Some(1_610_722_800.0));
        assert_eq!(seconds("2024-02-29T23:59:59Z"), Some(1_709_251_199.0));
        for wrong in
            ["", "noon", "NaN", "2021-13-01T00:00Z", "2021-01-15", "2021-01-15T25:00Z", "2021-1-5T00:00Z"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
