//! The waiting room's frontier on its way from control to everybody: the domain's types, and the wire's.

use spillway_api::internal::v1::{RoomMode, RoomPool, RoomState};
use spillway_types::Timestamp;
use spillway_waiting_room::{Crowd, Factors, Frontier, Leaving, Mode, Outlook, Pool};

/// Of [`spillway_waiting_room::HORIZONS`], the one that stands for all: two minutes.
const SHORT: usize = 1;

/// What is published. Everything that is not of the frontier or the outlook is left as it is by default.
pub fn room_state(frontier: &Frontier, outlook: &Outlook) -> RoomState {
    let mode = match frontier.mode {
        Mode::Paced => RoomMode::Paced,
        Mode::Overload => RoomMode::Overload,
        Mode::Stopped => RoomMode::Stopped,
        Mode::NotOpen => RoomMode::NotOpen,
        Mode::Open => RoomMode::Open,
    };
    RoomState {
        number: frontier.number,
        frontier: frontier.f,
        speed: frontier.speed,
        rate: frontier.rate,
        show_up: frontier.show_up,
        floor: frontier.floor,
        mode: mode.into(),
        issued: frontier.issued,
        marks: frontier.marks.to_vec(),
        pool: frontier.pool.map(|Pool { first, count }| RoomPool { first, count }),
        pace: outlook.pace,
        slow: outlook.slow,
        fast: outlook.fast,
        leaving: outlook.leaving.likely,
        leaving_least: outlook.leaving.least,
        leaving_most: outlook.leaving.most,
        // For gateways that do not know of the others yet.
        low: outlook.factors.low[SHORT],
        high: outlook.factors.high[SHORT],
        lows: outlook.factors.low.to_vec(),
        highs: outlook.factors.high.to_vec(),
        slower: outlook.slower,
        stretch: outlook.stretch,
        generation: outlook.generation,
        knot_places: outlook.crowd.knots().iter().map(|(place, _)| *place).collect(),
        knot_counts: outlook.crowd.knots().iter().map(|(_, count)| *count).collect(),
        ..RoomState::default()
    }
}

/// The frontier in what a holder has published under `token`, at `at` by its clock.
pub fn frontier_of(token: u64, at: Timestamp, room: &RoomState) -> Frontier {
    let mut marks = [0; 4];
    marks.iter_mut().zip(&room.marks).for_each(|(mark, sent)| *mark = *sent);
    Frontier {
        epoch: token,
        number: room.number,
        at,
        f: room.frontier,
        speed: room.speed,
        rate: room.rate,
        show_up: room.show_up,
        floor: room.floor,
        mode: match room.mode() {
            RoomMode::Overload => Mode::Overload,
            RoomMode::Stopped => Mode::Stopped,
            RoomMode::NotOpen => Mode::NotOpen,
            RoomMode::Open => Mode::Open,
            RoomMode::Paced | RoomMode::Unspecified => Mode::Paced,
        },
        issued: room.issued,
        pool: room.pool.map(|RoomPool { first, count }| Pool { first, count }),
        marks,
    }
}

/// What estimates are made of, in what was published.
///
/// A holder of before there were factors by length publishes one for all of them.
pub fn outlook_of(room: RoomState) -> Outlook {
    let each = |list: &[f64], one: f64| list.try_into().unwrap_or([one; 4]);
    let is_old = room.lows.is_empty();
    let leaving = Leaving {
        likely: room.leaving,
        least: if is_old { room.leaving } else { room.leaving_least },
        most: if is_old { room.leaving } else { room.leaving_most },
    };
    let factors = Factors { low: each(&room.lows, room.low), high: each(&room.highs, room.high) };
    Outlook {
        pace: room.pace,
        slow: room.slow,
        fast: room.fast,
        leaving,
        factors,
        slower: room.slower,
        stretch: room.stretch,
        generation: room.generation,
        crowd: Crowd::from_knots(room.knot_places.into_iter().zip(room.knot_counts).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_arrives() {
        for (mode, pool) in [
            (Mode::Paced, None),
            (Mode::Overload, None),
            (Mode::Stopped, None),
            (Mode::NotOpen, Some(Pool { first: 1, count: 0 })),
            (Mode::Open, Some(Pool { first: 1, count: 2_000 })),
        ] {
            let frontier = Frontier {
                epoch: 3,
                number: 17,
                at: Timestamp::from_millis(5),
                f: 100,
                speed: 1.5,
                rate: 1.25,
                show_up: 0.8,
                floor: 0.1,
                mode,
                issued: 4_000,
                pool,
                marks: [90, 80, 70, 60],
            };
            let outlook = Outlook {
                pace: 1.0,
                slow: 0.5,
                fast: 2.0,
                leaving: Leaving { likely: 0.001, least: 0.0005, most: 0.002 },
                factors: Factors { low: [0.8, 0.85, 0.9, 0.95], high: [1.1, 1.2, 1.3, 1.4] },
                slower: true,
                stretch: 1.5,
                generation: 9,
                crowd: Crowd::from_knots(vec![(100, 0.0), (4_000, 3_500.5)]),
            };
            let state = room_state(&frontier, &outlook);
            assert_eq!(frontier_of(3, Timestamp::from_millis(5), &state), frontier);
            assert_eq!(outlook_of(state.clone()), outlook);
            let old = RoomState { lows: Vec::new(), highs: Vec::new(), ..state };
            let outlook = outlook_of(old);
            assert_eq!(outlook.factors, Factors { low: [0.85; 4], high: [1.2; 4] });
            assert_eq!(outlook.leaving, Leaving { likely: 0.001, least: 0.001, most: 0.001 });
        }
    }
}
