//! What a room is judged by.

use std::time::Duration;

use super::{End, Visit};
use crate::summary::Percentiles;

/// A wait is judged when it, or what was told, is at least so long: less is the time between two polls.
const JUDGED_LEAST_S: f64 = 10.0;
/// The error of a shorter wait is taken relative to this, because the service rounds what it tells to 5 s below two minutes.
const RELATIVE_TO_LEAST_S: f64 = 60.0;
/// Half of that step, by which a range may be off at each end; what is two minutes or more is taken at its word.
const ROUNDED_BY_S: f64 = 2.5;
const ROUNDED_BELOW_S: f64 = 120.0;
/// Admissions are compared with seats over so many seconds at least in which somebody waited.
const BITE_LEAST: usize = 10;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoomFigures {
    /// People who got a place.
    pub entered: u64,
    pub admitted: u64,
    /// Of those, who waited for less than a second.
    pub at_once: u64,
    /// Who still had a place at the end, and no turn.
    pub waiting: u64,
    pub failed: u64,
    pub places_lost: u64,
    /// From asking for a place to the turn.
    pub wait_ms: Percentiles,
    /// From the turn to the device knowing of it, because devices ask when they are told to.
    pub noticed_ms: Percentiles,
    pub estimates: Estimates,
    /// By how much somebody asked for a place after somebody else had one, and had the turn before.
    pub overtaking_ms: f64,
    /// Turns over seats less one, the most over any stretch of ten seconds or more from when people began to wait. One second's seats are
    /// not counted, because that is how often the service publishes them.
    pub over_admission_ratio: Option<f64>,
    /// Of the seats while somebody waited, those that were given.
    pub seats_used_ratio: Option<f64>,
}

/// First estimates against the truth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimates {
    pub judged: u64,
    /// Mean of |middle of the range - wait| / wait, where waits below a minute count as one.
    pub mape_ratio: Option<f64>,
    pub mean_error_ms: Option<f64>,
    /// Of those judged, whose wait ended inside the range, give or take half the step to which it is rounded.
    pub inside_ratio: Option<f64>,
    pub below: u64,
    pub above: u64,
}

/// What one second looked like.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SecondInRoom {
    pub entered: u64,
    pub turns: u64,
    /// At its end.
    pub waiting: u64,
    /// Of those whose turn came in it and who had been told: the middle of the first range, and the wait, on average.
    pub told_s: Option<f64>,
    pub waited_s: Option<f64>,
}

impl RoomFigures {
    /// `seats`: what the service meant to let in, in each second of the run; `None` when that is not known or not bounded.
    pub fn of(visits: &[Visit], seats: &[Option<f64>]) -> Self {
        let turns: Vec<_> = visits.iter().filter(|visit| visit.turn().is_some()).collect();
        let waits = turns.iter().filter_map(|visit| visit.waited());
        let noticed = turns.iter().filter_map(|visit| match visit.end {
            End::Admitted { at, .. } => Some(at.saturating_sub(visit.turn()?)),
            End::Waiting { .. } | End::Failed { .. } => None,
        });
        let count = |of: fn(&End) -> bool| visits.iter().filter(|visit| of(&visit.end)).count() as u64;
        let (over_admission_ratio, seats_used_ratio) = admissions(visits, seats);
        Self {
            entered: visits.len() as u64,
            admitted: count(|end| matches!(end, End::Admitted { .. })),
            at_once: waits.clone().filter(|wait| *wait < Duration::from_secs(1)).count() as u64,
            waiting: count(|end| matches!(end, End::Waiting { .. })),
            failed: count(|end| matches!(end, End::Failed { .. })),
            places_lost: visits.iter().map(|visit| u64::from(visit.places_lost)).sum(),
            wait_ms: percentiles(waits),
            noticed_ms: percentiles(noticed),
            estimates: Estimates::of(visits),
            overtaking_ms: overtaking(&turns).as_secs_f64() * 1_000.0,
            over_admission_ratio,
            seats_used_ratio,
        }
    }
}

impl Estimates {
    fn of(visits: &[Visit]) -> Self {
        let mut found = Self::default();
        let (mut relative, mut absolute, mut errors) = (0.0, 0.0, 0_u64);
        for visit in visits {
            let Some(told) = visit.told else { continue };
            let slack = if told.high.as_secs_f64() < ROUNDED_BELOW_S { ROUNDED_BY_S } else { 0.0 };
            let (low, high) = (told.low.as_secs_f64() - slack, told.high.as_secs_f64() + slack);
            match (visit.turn(), visit.end) {
                (Some(turn), _) => {
                    let wait = turn.saturating_sub(told.at).as_secs_f64();
                    if wait.max(told.middle_s()) < JUDGED_LEAST_S {
                        continue;
                    }
                    let error = (told.middle_s() - wait).abs();
                    errors += 1;
                    absolute += error;
                    relative += error / wait.max(RELATIVE_TO_LEAST_S);
                    found.judged += 1;
                    found.below += u64::from(wait < low);
                    found.above += u64::from(wait > high);
                }
                // Nobody knows for how much longer, but it is more than was told.
                (None, End::Waiting { at }) if at.saturating_sub(told.at).as_secs_f64() > high => {
                    found.judged += 1;
                    found.above += 1;
                }
                (None, _) => {}
            }
        }
        let mean = |sum: f64| (errors > 0).then(|| sum / errors as f64);
        found.mape_ratio = mean(relative);
        found.mean_error_ms = mean(absolute * 1_000.0);
        found.inside_ratio =
            (found.judged > 0).then(|| 1.0 - (found.below + found.above) as f64 / found.judged as f64);
        found
    }
}

fn overtaking(turns: &[&Visit]) -> Duration {
    let mut by_turn = turns.to_vec();
    by_turn.sort_by_key(|visit| visit.turn());
    let (mut latest, mut most) = (Duration::ZERO, Duration::ZERO);
    for visit in by_turn {
        most = most.max(latest.saturating_sub(visit.entered));
        latest = latest.max(visit.asked);
    }
    most
}

/// How many more turns came than there were seats, and the share of seats that were given, in seconds at whose beginning and end somebody waited.
fn admissions(visits: &[Visit], seats: &[Option<f64>]) -> (Option<f64>, Option<f64>) {
    let rows = by_second(visits, seats.len());
    let (mut most, mut used, mut of) = (None::<f64>, 0.0, 0.0);
    let (mut before, mut length, mut given, mut there) = (0, 0, 0.0, 0.0);
    for (row, seats) in rows.iter().zip(seats) {
        let waited = before > 0 && row.waiting > 0;
        before = row.waiting;
        let Some(seats) = seats.filter(|_| waited) else {
            (length, given, there) = (0, 0.0, 0.0);
            continue;
        };
        let turns = row.turns as f64;
        (length, given, there) = (length + 1, given + turns, there + seats);
        (used, of) = (used + turns, of + seats);
        if length >= BITE_LEAST && there > 0.0 {
            let over = (given - seats) / there - 1.0;
            most = Some(most.map_or(over, |most| most.max(over)));
        }
    }
    (most, most.map(|_| used / of))
}

/// The room second by second, of as many seconds as the run has.
pub fn by_second(visits: &[Visit], seconds: usize) -> Vec<SecondInRoom> {
    let mut rows = vec![SecondInRoom::default(); seconds];
    let mut sums = vec![(0.0, 0.0, 0.0); seconds];
    let mut change = vec![0_i64; seconds + 1];
    for visit in visits {
        let entered = visit.entered.as_secs() as usize;
        let Some(row) = rows.get_mut(entered) else { continue };
        row.entered += 1;
        change[entered] += 1;
        let left = match visit.end {
            End::Admitted { at, .. } => visit.turn().unwrap_or(at),
            End::Waiting { at } | End::Failed { at } => at,
        };
        let left = (left.as_secs() as usize).max(entered);
        // Who still waits when the run ends is there until then.
        if !matches!(visit.end, End::Waiting { .. }) {
            change[left.min(seconds)] -= 1;
        }
        if let (Some(_), Some(row)) = (visit.turn(), rows.get_mut(left)) {
            row.turns += 1;
            if let Some((told, waited)) = visit.told_and_waited_s() {
                let sum = &mut sums[left];
                *sum = (sum.0 + 1.0, sum.1 + told, sum.2 + waited);
            }
        }
    }
    let mut waiting = 0;
    for (second, row) in rows.iter_mut().enumerate() {
        waiting += change[second];
        row.waiting = u64::try_from(waiting).unwrap_or(0);
        let (count, told, waited) = sums[second];
        if count > 0.0 {
            (row.told_s, row.waited_s) = (Some(told / count), Some(waited / count));
        }
    }
    rows
}

fn percentiles(durations: impl Iterator<Item = Duration>) -> Percentiles {
    let mut millis: Vec<f64> = durations.map(|duration| duration.as_secs_f64() * 1_000.0).collect();
    millis.sort_by(f64::total_cmp);
    let at = |quantile: f64| {
        let rank = (millis.len() as f64 * quantile).ceil() as usize;
        millis.get(rank.max(1) - 1).copied()
    };
    Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: millis.last().copied() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::Told;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn turned(entered: f64, turn: f64) -> Visit {
        let end = End::Admitted { turn: Some(s(turn)), at: s(turn + 4.0) };
        Visit { asked: s(entered), entered: s(entered), told: None, places_lost: 0, end }
    }

    fn told(entered: f64, turn: f64, (low, high): (f64, f64)) -> Visit {
        let told = Some(Told { at: s(entered), low: s(low), high: s(high) });
        Visit { told, ..turned(entered, turn) }
    }

    fn waiting(entered: f64, at: f64, range: (f64, f64)) -> Visit {
        Visit { end: End::Waiting { at: s(at) }, ..told(entered, 0.0, range) }
    }

    #[test]
    fn who_still_waits_is_counted_as_that() {
        let lost = Visit { places_lost: 1, ..turned(0.0, 9.0) };
        let failed = Visit { end: End::Failed { at: s(3.0) }, ..turned(0.0, 0.0) };
        let visits = [turned(0.0, 0.5), lost, waiting(5.0, 20.0, (30.0, 40.0)), failed];
        let figures = RoomFigures::of(&visits, &[]);
        assert_eq!((figures.entered, figures.admitted, figures.at_once), (4, 2, 1));
        assert_eq!((figures.waiting, figures.failed, figures.places_lost), (1, 1, 1));
        assert_eq!((figures.wait_ms.p50, figures.wait_ms.max), (Some(500.0), Some(9_000.0)));
        assert_eq!(figures.noticed_ms.p99, Some(4_000.0));
    }

    #[test]
    fn an_estimate_is_compared_with_the_turn() {
        let visits = [
            told(0.0, 100.0, (100.0, 140.0)),
            // 120 s were told to be at most 60.
            told(0.0, 120.0, (40.0, 60.0)),
            // Inside, by the rounding.
            told(0.0, 18.0, (20.0, 30.0)),
            // Too short to say anything.
            told(0.0, 3.0, (0.0, 10.0)),
            // Nothing was told.
            turned(0.0, 500.0),
        ];
        let found = Estimates::of(&visits);
        assert_eq!((found.judged, found.below, found.above), (3, 0, 1));
        let errors = [20.0 / 100.0, 70.0 / 120.0, 7.0 / 60.0];
        assert!((found.mape_ratio.unwrap() - errors.iter().sum::<f64>() / 3.0).abs() < 1e-9);
        assert!((found.mean_error_ms.unwrap() - 97_000.0 / 3.0).abs() < 1e-6);
        assert!((found.inside_ratio.unwrap() - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_wait_that_came_out_much_shorter_is_judged_too() {
        let found = Estimates::of(&[told(0.0, 2.0, (50.0, 60.0))]);
        assert_eq!((found.judged, found.below, found.inside_ratio), (1, 1, Some(0.0)));
    }

    #[test]
    fn who_waits_for_longer_than_was_told_counts_although_the_end_is_not_known() {
        let found = Estimates::of(&[waiting(0.0, 30.0, (10.0, 20.0)), waiting(0.0, 12.0, (10.0, 20.0))]);
        assert_eq!((found.judged, found.above), (1, 1));
        assert_eq!((found.mape_ratio, found.inside_ratio), (None, Some(0.0)));
    }

    #[test]
    fn overtaking_is_by_how_much_later_the_overtaker_came() {
        assert_eq!(RoomFigures::of(&[turned(0.0, 9.0), turned(1.0, 10.0)], &[]).overtaking_ms, 0.0);
        let overtaken = [turned(0.0, 12.0), turned(1.0, 10.0), turned(1.5, 11.0)];
        assert_eq!(RoomFigures::of(&overtaken, &[]).overtaking_ms, 1_500.0);
        // Who asked before the other had a place did not come later.
        let slow = Visit { entered: s(3.0), ..turned(0.0, 12.0) };
        assert_eq!(RoomFigures::of(&[slow, turned(2.0, 10.0)], &[]).overtaking_ms, 0.0);
    }

    /// Ten people a second have come at once; two a second are let in.
    fn crowd(per_s: f64) -> Vec<Visit> {
        (0..100).map(|n| turned(0.0, 1.0 + f64::from(n) / per_s)).collect()
    }

    #[test]
    fn turns_are_compared_with_seats_while_somebody_waits() {
        let seats = [Some(2.0); 60];
        let figures = RoomFigures::of(&crowd(2.0), &seats);
        // The seats of one second are not counted.
        assert!(figures.over_admission_ratio.unwrap() <= 0.0, "{figures:?}");
        assert!((figures.seats_used_ratio.unwrap() - 1.0).abs() < 0.03, "{figures:?}");
        let figures = RoomFigures::of(&crowd(3.0), &seats);
        assert!((0.35..0.5).contains(&figures.over_admission_ratio.unwrap()), "{figures:?}");
        // Half of the seats.
        let figures = RoomFigures::of(&crowd(1.0), &seats);
        assert!((figures.seats_used_ratio.unwrap() - 0.5).abs() < 0.03, "{figures:?}");
    }

    #[test]
    fn seats_that_are_not_known_say_nothing() {
        let figures = RoomFigures::of(&crowd(3.0), &[None; 60]);
        assert_eq!((figures.over_admission_ratio, figures.seats_used_ratio), (None, None));
        let figures = RoomFigures::of(&[turned(0.0, 0.0)], &[Some(2.0); 60]);
        assert_eq!(figures.over_admission_ratio, None, "nobody waited");
    }

    #[test]
    fn seconds_add_up() {
        let visits = [told(0.2, 2.5, (0.0, 10.0)), turned(1.0, 1.1), waiting(1.5, 3.9, (10.0, 20.0))];
        let rows = by_second(&visits, 5);
        let waiting: Vec<_> = rows.iter().map(|row| row.waiting).collect();
        assert_eq!(waiting, [1, 2, 1, 1, 1]);
        assert_eq!((rows[1].entered, rows[1].turns, rows[2].turns), (2, 1, 1));
        assert_eq!((rows[2].told_s, rows[1].told_s), (Some(5.0), None));
        assert!((rows[2].waited_s.unwrap() - 2.3).abs() < 1e-9);
    }
}
