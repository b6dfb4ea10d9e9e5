use std::sync::Arc;
use std::time::Duration;

use spillway_api::v1;
use spillway_api::v1::place::State as Answer;
use spillway_types::Timestamp;
use spillway_waiting_room::{
    CLAIM_WINDOW, Challenge, Estimate, Flags, Outlook, PassId, SealKeys, SealedTicket, Ticket, TicketError,
    Told, Turn,
};

use super::standing::reason;
use super::state::State;
use super::{ROOM, Room, RoomError};
use crate::wire::wire_duration;

/// When control has not been heard yet, which is a matter of a second.
const NOT_HEARD_YET: Duration = Duration::from_secs(3);
/// As if it took so long; asked for again after ten seconds or so.
const NOBODY_IS_CALLED: Duration = Duration::from_secs(20);

impl Room {
    /// Answered from memory: one hash and one comparison.
    pub(crate) fn poll(&self, request: &v1::PollRequest) -> Result<v1::Place, RoomError> {
        let now = self.0.clock.now();
        let (ticket, sealed) = match open(&request.ticket, &self.0.keys.at(now), now) {
            Ok(opened) => opened,
            Err(RoomError::Ticket(TicketError::Expired(_))) => {
                let over = Some(Answer::Over(v1::Over {}));
                return Ok(v1::Place { ticket: request.ticket.clone(), state: over });
            }
            Err(error) => return Err(error),
        };
        Ok(self.place(ticket, sealed, told(request, now)))
    }

    /// Where the holder of a ticket is now.
    pub(super) fn place(&self, ticket: Ticket, sealed: SealedTicket, told: Option<Told>) -> v1::Place {
        let (now, clock) = (self.now(), self.0.clock.now());
        let keys = self.0.keys.at(clock);
        let mut state = self.state();
        // Whoever has a ticket has come, though all who knew of it may have died.
        state.saw(ticket.seq);
        let (ticket, sealed) = if state.turned_away.holds(PassId { room: ROOM, seq: ticket.seq }) {
            let ticket = Ticket { flags: ticket.flags.and(Flags::NEVER_CALLED), ..ticket };
            (ticket, ticket.seal(&keys))
        } else {
            (ticket, sealed)
        };
        let place = state.place(ticket.seq);
        let turn = state.turn(&ticket, now, clock);
        let answer = |sealed: &SealedTicket, state| v1::Place {
            ticket: sealed.as_bytes().to_vec().into(),
            state: Some(state),
        };
        match turn {
            Turn::Waiting => {
                state.presence.heard(place);
                let outlook = state.outlook.clone();
                // Who is never called looks like the last of all, for ever.
                let never = ticket.flags.contains(Flags::NEVER_CALLED);
                let place = if never { state.issued } else { place };
                let estimate = |outlook: &Arc<Outlook>| {
                    if !state.awaits_draw(ticket.seq) {
                        return outlook.estimate(place, &state.view, now);
                    }
                    let opens_in = state.opens_at.map_or(Duration::ZERO, |opens_at| opens_at.since(clock));
                    outlook.before_opening(opens_in, state.issued, &state.view, now)
                };
                let estimate = outlook.as_ref().map(estimate);
                let Some((outlook, estimate)) = outlook.zip(estimate) else {
                    let waiting = v1::Waiting {
                        poll_after: Some(wire_duration(NOT_HEARD_YET)),
                        reason: v1::WaitReason::ControlGone.into(),
                        ..v1::Waiting::default()
                    };
                    return answer(&sealed, Answer::Waiting(waiting));
                };
                let estimate = told.map_or(estimate, |told| estimate.after(told, clock));
                let reason = reason(estimate.reason, &state);
                let frozen = state.view.last().is_some_and(|last| last.frozen());
                let State { appointments, polls_max, .. } = &mut *state;
                // While nobody is called, those in front have no turn to be in time for.
                let least = if frozen { NOBODY_IS_CALLED } else { Duration::ZERO };
                let (wait, stretch, rng) = (estimate.likely.max(least), outlook.stretch, &mut rand::rng());
                let pause = appointments.poll_after(wait, stretch, *polls_max, now, rng);
                answer(&sealed, Answer::Waiting(waiting(&estimate, pause, reason)))
            }
            Turn::Called { left, .. } => answer(&sealed, called(&keys, &sealed, clock, left)),
            Turn::CallAgain(late) => {
                let sealed = Ticket { late: Some(late), ..ticket }.seal(&keys);
                answer(&sealed, called(&keys, &sealed, clock, CLAIM_WINDOW))
            }
            Turn::Over => answer(&sealed, Answer::Over(v1::Over {})),
        }
    }
}

pub(super) fn open(
    bytes: &[u8],
    keys: &SealKeys,
    now: Timestamp,
) -> Result<(Ticket, SealedTicket), RoomError> {
    let ticket = Ticket::open(bytes, keys, ROOM, now)?;
    let sealed = bytes.try_into().map_err(|_| TicketError::Length(bytes.len()))?;
    Ok((ticket, SealedTicket::from_bytes(sealed)))
}

/// What cannot be read was not said: it only makes the next answer truer.
fn told(request: &v1::PollRequest, now: Timestamp) -> Option<Told> {
    let high = Duration::try_from(request.told_at_most?).ok()?;
    let ago = Duration::try_from(request.told_ago?).ok()?;
    Some(Told { high, at: now.saturating_sub(ago) })
}

fn waiting(estimate: &Estimate, pause: Duration, reason: v1::WaitReason) -> v1::Waiting {
    v1::Waiting {
        ahead: estimate.ahead,
        at_least: Some(wire_duration(estimate.low)),
        at_most: Some(wire_duration(estimate.high)),
        poll_after: Some(wire_duration(pause)),
        reason: reason.into(),
    }
}

fn called(keys: &SealKeys, sealed: &SealedTicket, clock: Timestamp, left: Duration) -> Answer {
    Answer::Called(v1::Called {
        challenge: Challenge::new(keys, sealed, clock).as_bytes().to_vec().into(),
        claim_within: Some(wire_duration(left)),
    })
}
