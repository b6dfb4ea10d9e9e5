//! What came of the waiting room.

use crate::room::RoomFigures;
use crate::run::Plan;
use crate::run::arrivals::Measured;
use crate::slo::{Judgeable, Observations, figure};
use crate::summary::RoomSummary;
use crate::timeline::Row;

/// Waits that are compared with what was told are judged when there are so many.
const ESTIMATES_LEAST: u64 = 100;

/// `None` when nobody came to a waiting room.
pub(super) fn room(measured: &Measured) -> Option<RoomFigures> {
    let seats: Vec<_> = measured.rows.iter().map(seats_of).collect();
    (!measured.visits.is_empty()).then(|| RoomFigures::of(&measured.visits, &seats))
}

/// While nobody is let in there is nothing to compare with.
fn seats_of(row: &Row) -> Option<f64> {
    row.room.filter(|room| !room.frozen)?.rate_per_s
}

pub(super) fn judgeable(room: &RoomFigures) -> Judgeable {
    Judgeable {
        estimates: room.estimates.judged >= ESTIMATES_LEAST && room.estimates.mape_ratio.is_some(),
        seats: room.over_admission_ratio.is_some(),
    }
}

pub(super) fn observe_room(observed: &mut Observations, room: &RoomFigures) {
    observed
        .set(figure::ROOM_OVERTAKING_MS, Some(room.overtaking_ms))
        .set(figure::ROOM_PLACES_LOST, Some(room.places_lost as f64))
        .set(figure::ROOM_ESTIMATE_MAPE_RATIO, room.estimates.mape_ratio)
        .set(figure::ROOM_ESTIMATE_INSIDE_RATIO, room.estimates.inside_ratio)
        .set(figure::ROOM_OVER_ADMISSION_RATIO, room.over_admission_ratio);
}

pub(super) fn summary_of(room: &RoomFigures, plan: &Plan, finished: u64, rows: &[Row]) -> RoomSummary {
    let estimates = &room.estimates;
    RoomSummary {
        ordered_per_s: plan.admit_per_s,
        entered: room.entered,
        admitted: room.admitted,
        at_once: room.at_once,
        finished,
        still_waiting: room.waiting,
        failed: room.failed,
        places_lost: room.places_lost,
        most_waiting: rows.iter().filter_map(|row| row.room).map(|room| room.waiting).max().unwrap_or(0),
        wait_ms: room.wait_ms,
        noticed_ms: room.noticed_ms,
        estimates_judged: estimates.judged,
        estimate_mape_ratio: estimates.mape_ratio,
        estimate_mean_error_ms: estimates.mean_error_ms,
        estimate_inside_ratio: estimates.inside_ratio,
        estimates_below: estimates.below,
        estimates_above: estimates.above,
        overtaking_ms: room.overtaking_ms,
        over_admission_ratio: room.over_admission_ratio,
        seats_used_ratio: room.seats_used_ratio,
    }
}
