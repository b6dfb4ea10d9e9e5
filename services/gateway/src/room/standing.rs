use std::time::Duration;

use spillway_api::internal::v1::RoomBound;
use spillway_api::v1;
use spillway_waiting_room::{Mode, Reason};

use super::Room;
use super::state::State;

/// The waiting room as a gateway sees it, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomView {
    /// `paced`, `open`, `overload`, `stopped` or `not open`.
    pub mode: &'static str,
    /// Places that were given out, and that were called.
    pub issued: u64,
    pub frontier: u64,
    /// About how many wait and still ask.
    pub waiting: f64,
    /// Seats a second; `None` where nothing bounds it.
    pub per_second: Option<f64>,
    /// What bounds it, as in `Status.Get`; empty where nothing does.
    pub bounded_by: &'static str,
    /// How long somebody waits who comes now, as he would be told. `None`: control has not been heard.
    pub estimate: Option<(Duration, Duration)>,
    /// How long nothing has been heard from control.
    pub silence: Duration,
}

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Paced => "paced",
        Mode::Open => "open",
        Mode::Overload => "overload",
        Mode::Stopped => "stopped",
        Mode::NotOpen => "not open",
    }
}

impl Room {
    /// `None`: control has not been heard yet.
    pub(crate) fn view(&self) -> Option<RoomView> {
        let now = self.now();
        let state = self.state();
        let last = state.view.last()?;
        let is_bounded = !matches!(state.bound, RoomBound::Unspecified | RoomBound::Unlimited);
        let estimate = state.outlook.as_ref().map(|outlook| {
            let next = last.issued.max(state.issued) + 1;
            let estimate = outlook.estimate(next, &state.view, now);
            (estimate.low, estimate.high)
        });
        Some(RoomView {
            mode: mode_name(last.mode),
            issued: last.issued.max(state.issued),
            frontier: state.view.frontier(now),
            waiting: state.outlook.as_ref().map_or(0.0, |outlook| outlook.crowd.total()),
            per_second: is_bounded.then_some(last.rate),
            bounded_by: bound_name(state.bound),
            estimate,
            silence: state.view.silence(now).unwrap_or_default(),
        })
    }

    /// How the room stands, as this gateway has heard last. `None`: it has not yet.
    pub(crate) fn standing(&self) -> Option<v1::SignUpStatus> {
        let state = self.state();
        let last = state.view.last()?;
        let waiting = state.outlook.as_ref().map_or(0.0, |outlook| outlook.crowd.total());
        // A room that nothing bounds has a rate that means nothing.
        let is_bounded = !matches!(state.bound, RoomBound::Unspecified | RoomBound::Unlimited);
        Some(v1::SignUpStatus {
            // `as` saturates.
            waiting: waiting.round() as u64,
            is_held: last.frozen(),
            per_second: is_bounded.then_some(last.rate),
            bounded_by: bound_name(state.bound).to_owned(),
        })
    }
}

const fn bound_name(bound: RoomBound) -> &'static str {
    match bound {
        RoomBound::Unspecified | RoomBound::Unlimited => "",
        RoomBound::Setting => "setting",
        RoomBound::Provider => "provider",
        RoomBound::Budget => "budget",
        RoomBound::Country => "country",
        RoomBound::Store => "store",
        RoomBound::Gateways => "gateways",
        RoomBound::Operator => "operator",
    }
}

/// What somebody who waits is told, when it is longer than he was told, or longer than he may like.
pub(super) fn reason(estimated: Option<Reason>, state: &State) -> v1::WaitReason {
    let is_shut = state.view.last().is_some_and(|last| last.rate <= 0.0);
    match (estimated, state.bound) {
        (Some(Reason::Frozen), _) => v1::WaitReason::Frozen,
        (Some(Reason::NotOpen), _) => v1::WaitReason::NotOpen,
        (Some(Reason::ControlGone), _) => v1::WaitReason::ControlGone,
        (slower, RoomBound::Budget | RoomBound::Country) if slower.is_some() || is_shut => {
            v1::WaitReason::Budget
        }
        (slower, RoomBound::Provider) if slower.is_some() || is_shut => v1::WaitReason::Codes,
        (Some(Reason::Slower), _) => v1::WaitReason::Slower,
        (None, _) => v1::WaitReason::Unspecified,
    }
}
