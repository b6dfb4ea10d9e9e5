//! What is offered to the role, second by second.

/// Hours in which a rival is away, and over which his people's interest fades; `surge_history.md` §3, "Overlay for an outage-driven surge".
const OUTAGE_HOURS: f64 = 6.0;
const FADING_HOURS: f64 = 12.0;
/// Minutes in which the word gets around. The source says "within the first hour"; this is as steep as it could have been.
const RISE_MINUTES: f64 = 5.0;
/// An hour of an ordinary day first, so that nothing starts at its start.
const CALM_HOURS: f64 = 1.0;
/// Telegram on 4 October 2021 took 70 million people in a day, 47 times its 1.5 million (`surge_history.md` §1, row 8).
const DAY_MULTIPLE: f64 = 47.0;

/// Requests a second over time, in straight pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    pub name: String,
    /// Second and multiple of an ordinary sign-up rate. Between two of them it changes evenly.
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// Hours as they were recorded, each a plateau of `hour_s` seconds, as the load tool replays them. A plateau keeps the
    /// hour's sum and makes its beginning a step, which is harder than what happened.
    pub fn of_hours(name: &str, multiples: &[f64], hour_s: f64) -> Self {
        let plateau = |(hour, multiple): (usize, &f64)| {
            let from = hour as f64 * hour_s;
            [(from, *multiple), (from + hour_s, *multiple)]
        };
        Self { name: name.to_owned(), points: multiples.iter().enumerate().flat_map(plateau).collect() }
    }

    /// 4 October 2021: a rival is away for six hours. Hardly anybody, then everybody within minutes, then a long evening.
    ///
    /// The height is what makes the day 47 times an ordinary one.
    pub fn october_2021() -> Self {
        // The plateau, and two triangles beside it, are 47 days' worth of ordinary sign-ups.
        let rise = RISE_MINUTES / 60.0;
        let peak = DAY_MULTIPLE * 24.0 / (OUTAGE_HOURS - rise / 2.0 + FADING_HOURS / 2.0);
        let points = [
            (0.0, 1.0),
            (CALM_HOURS, 1.0),
            (CALM_HOURS + rise, peak),
            (CALM_HOURS + OUTAGE_HOURS, peak),
            (CALM_HOURS + OUTAGE_HOURS + FADING_HOURS, 1.0),
        ];
        Self {
            name: "October 2021, a rival away for six hours".to_owned(),
            points: points.map(|(hour, multiple)| (hour * 3_600.0, multiple)).to_vec(),
        }
    }

    pub fn seconds(&self) -> u64 {
        self.points.last().map_or(0, |(at, _)| at.ceil() as u64)
    }

    pub fn highest(&self) -> f64 {
        self.points.iter().map(|(_, multiple)| *multiple).fold(0.0, f64::max)
    }

    /// The multiple in the middle of a second.
    pub fn multiple(&self, second: u64) -> f64 {
        let at = second as f64 + 0.5;
        let after = self.points.partition_point(|(from, _)| *from <= at);
        match (after.checked_sub(1).and_then(|before| self.points.get(before)), self.points.get(after)) {
            (Some((from, a)), Some((to, b))) => a + (b - a) * (at - from) / (to - from),
            (Some((_, last)), None) => *last,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn october_is_the_day_that_is_known_of_it() {
        let curve = Curve::october_2021();
        assert_eq!(curve.seconds(), 19 * 3_600);
        let surge: f64 = (3_600..curve.seconds()).map(|second| curve.multiple(second)).sum();
        let days = surge / 86_400.0;
        assert!((days - DAY_MULTIPLE).abs() < 1.0, "{days}");
        assert!((curve.multiple(10) - 1.0).abs() < 1e-9);
        assert!((curve.multiple(3 * 3_600) - curve.highest()).abs() < 1e-9);
    }

    #[test]
    fn hours_are_plateaus() {
        let curve = Curve::of_hours("mine", &[1.0, 4.0], 60.0);
        assert_eq!(curve.seconds(), 120);
        assert_eq!([0, 59, 60, 119].map(|second| curve.multiple(second)), [1.0, 1.0, 4.0, 4.0]);
    }
}
