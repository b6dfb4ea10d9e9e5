//! Axes: round ticks that people can count in, and fewer points than pixels.

use super::chart::Tick;
use crate::timeline::Row;

/// More than a plot has pixels to show, on most screens.
const POINTS_MAX: usize = 600;

/// A scale from zero to a round number at or above `highest`, with its ticks.
pub(super) fn from_zero(highest: f64) -> (f64, Vec<f64>) {
    let highest = if highest.is_finite() && highest > 0.0 { highest } else { 1.0 };
    let rough = highest / 4.0;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(magnitude * 10.0);
    let steps = (highest / step).ceil().max(1.0) as u32;
    (step * f64::from(steps), (0..=steps).map(|k| step * f64::from(k)).collect())
}

/// Ticks under a plot: the dates being replayed where there are any, else the seconds of the run.
pub(super) fn time_ticks(rows: &[Row]) -> Vec<Tick> {
    let mut ticks = Vec::new();
    let mut last_day = None;
    for row in rows {
        let Some((month, day)) = row.replayed.as_deref().and_then(month_and_day) else {
            continue;
        };
        if last_day.replace(day) != Some(day) && (day == 1 || (day % 5 == 0 && day < 31)) {
            ticks.push(Tick {
                at: row.second as f64,
                label: format!("{day} {month}"),
                minor: day != 1 && day % 10 != 0,
            });
        }
    }
    if ticks.len() > 1 && ticks.len() < 40 {
        return ticks;
    }
    let end = rows.last().map_or(0.0, |row| row.second as f64);
    let (_, seconds) = from_zero(end);
    let inside = seconds.into_iter().filter(|second| *second <= end);
    inside.map(|at| Tick { at, label: format!("{at} s"), minor: false }).collect()
}

/// `15 Jan` for `2021-01-15T15:00Z`.
pub(super) fn day_in_words(utc: &str) -> Option<String> {
    let (month, day) = month_and_day(utc)?;
    Some(format!("{day} {month}"))
}

/// `15 Jan 15:00 UTC` for `2021-01-15T15:00Z`.
pub(super) fn date_in_words(utc: &str) -> Option<String> {
    let (month, day) = month_and_day(utc)?;
    Some(format!("{day} {month} {} UTC", utc.get(11..16)?))
}

fn month_and_day(utc: &str) -> Option<(&'static str, u32)> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month: usize = utc.get(5..7)?.parse().ok()?;
    Some((MONTHS.get(month.checked_sub(1)?)?, utc.get(8..10)?.parse().ok()?))
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Combine {
    Mean,
    /// For percentiles: a bad second must not hide among good ones.
    Highest,
}

/// How many rows become one point.
pub(super) fn stride(rows: usize) -> usize {
    rows.div_ceil(POINTS_MAX).max(1)
}

/// One value for each `stride` of values.
pub(super) fn thin(values: &[Option<f64>], stride: usize, combine: Combine) -> Vec<Option<f64>> {
    let combined = values.chunks(stride).map(|chunk| {
        let known: Vec<f64> = chunk.iter().flatten().copied().collect();
        (!known.is_empty()).then(|| match combine {
            Combine::Mean => known.iter().sum::<f64>() / known.len() as f64,
            Combine::Highest => known.iter().copied().fold(f64::MIN, f64::max),
        })
    });
    combined.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_hold_the_highest() {
        assert_eq!(from_zero(812.0), (1_000.0, vec![0.0, 250.0, 500.0, 750.0, 1_000.0]));
        assert_eq!(from_zero(0.0).0, 1.0);
        for highest in [0.003, 1.0, 3.3, 9.99, 4_000.0, 123_456.0] {
            let (top, ticks) = from_zero(highest);
            assert!(
                top >= highest && top <= highest * 1.7 && (2..=6).contains(&ticks.len()),
                "{highest} {top}"
            );
        }
    }

    #[test]
    fn thinning_keeps_the_worst_second() {
        let values = [Some(1.0), Some(9.0), None, None, Some(2.0)];
        assert_eq!(thin(&values, 2, Combine::Highest), [Some(9.0), None, Some(2.0)]);
        assert_eq!(thin(&values, 2, Combine::Mean), [Some(5.0), None, Some(2.0)]);
    }

    #[test]
    fn dates_are_read_from_the_curve() {
        assert_eq!(date_in_words("2021-01-15T15:00Z").unwrap(), "15 Jan 15:00 UTC");
        assert_eq!(date_in_words("hour 3"), None);
    }
}
