//! The frontier as a gateway sees it.

use std::collections::VecDeque;
use std::time::Duration;

use spillway_types::Timestamp;

use crate::frontier::{Frontier, Mode};
use crate::ticket::{Late, Ticket};
use crate::turn::{CLAIM_WINDOW, LATE_MAX, Turn};

/// The last publication, and enough of those before to know since when a place has been called.
///
/// Between publications the frontier goes on at the published speed. When control is gone it goes on so for a minute, then at the floor. It
/// never goes back. It may point beyond the last number that has been given out by as much as is let in between two publications:
/// so whoever enters an empty room is called at once.
///
/// Time is monotonic and the gateway's own; only [`Late::called`] goes by the wall clock, because the ticket carries it to other gateways.
#[derive(Clone, Debug, Default)]
pub struct View {
    heard: VecDeque<Heard>,
    last: Option<Frontier>,
    /// Nothing below has ever been told.
    reached: u64,
    /// The highest number that this gateway has given out, or that was published.
    issued: u64,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Duration,
    number: u64,
    /// Where the frontier was published to be, and how fast.
    f: u64,
    speed: f64,
}

/// Publications that are remembered: the window's, and some for those that come close together after a change of holder.
const HEARD_MAX: usize = 180;
/// How long control may be silent until the floor counts.
const GOES_ON_FOR: Duration = Duration::from_secs(60);
/// After how long of silence control is called gone. Three publications may be lost.
pub(crate) const GONE_AFTER: Duration = Duration::from_secs(4);

impl View {
    /// Takes up a publication. Answers whether it was news: those of a holder who has lost the lease, and older ones, are passed over.
    pub fn hear(&mut self, frontier: &Frontier, now: Duration) -> bool {
        let newer = |last: &Frontier| {
            frontier.epoch >= last.epoch && (frontier.epoch, frontier.number) > (last.epoch, last.number)
        };
        if !self.last.as_ref().is_none_or(newer) {
            return false;
        }
        self.reached = self.frontier(now).max(frontier.f);
        self.issued = self.issued.max(frontier.issued);
        if self.heard.len() == HEARD_MAX {
            self.heard.pop_front();
        }
        // A new holder may not have heard of the last steps of the one before.
        let f = self.heard.back().map_or(frontier.f, |before| before.f.max(frontier.f));
        let (number, speed) = (frontier.number, frontier.speed);
        self.heard.push_back(Heard { at: now, number, f, speed });
        self.last = Some(*frontier);
        true
    }

    /// This gateway has given out `seq`.
    pub fn issued(&mut self, seq: u64) {
        self.issued = self.issued.max(seq);
    }

    pub const fn last(&self) -> Option<&Frontier> {
        self.last.as_ref()
    }

    /// How long nothing has been heard; `None` if nothing ever was.
    pub fn silence(&self, now: Duration) -> Option<Duration> {
        self.heard.back().map(|heard| now.saturating_sub(heard.at))
    }

    /// Whether control is gone, and the frontier goes on by itself.
    pub fn control_gone(&self, now: Duration) -> bool {
        self.silence(now).is_none_or(|silence| silence >= GONE_AFTER)
    }

    /// The highest place that has been called.
    pub fn frontier(&self, now: Duration) -> u64 {
        let (Some(last), Some(heard)) = (&self.last, self.heard.back()) else { return self.reached };
        let since = now.saturating_sub(heard.at);
        let gone_on = match last.mode {
            Mode::Overload | Mode::Stopped | Mode::NotOpen => 0.0,
            Mode::Open => f64::MAX,
            Mode::Paced => {
                last.speed * since.min(GOES_ON_FOR).as_secs_f64()
                    + last.floor * since.saturating_sub(GOES_ON_FOR).as_secs_f64()
            }
        };
        // `as` saturates.
        let f = last.f.saturating_add(gone_on as u64).min(self.issued);
        f.max(self.reached)
    }

    /// Whose turn it is. `place`: the ticket's number, or its place in a [`crate::Lottery`].
    pub fn turn(&self, ticket: &Ticket, place: u64, now: Duration, clock: Timestamp) -> Turn {
        if place > self.frontier(now) || ticket.flags.contains(crate::ticket::Flags::NEVER_CALLED) {
            return Turn::Waiting;
        }
        let closed = self.last.is_some_and(|last| place <= last.closed());
        if closed {
            return Turn::Over;
        }
        let (publication, ago) = self.called(place, now);
        let ago = ticket.late.map_or(ago, |late| clock.since(late.called));
        let left = CLAIM_WINDOW.saturating_sub(ago);
        if !left.is_zero() {
            return Turn::Called { left, publication };
        }
        match ticket.late.map_or(0, |late| late.times) {
            LATE_MAX.. => Turn::Over,
            times => Turn::CallAgain(Late { times: times + 1, called: clock }),
        }
    }

    /// Under which publication a place was called, and how long ago. What was called before this gateway first heard of a frontier counts as
    /// called then, so that nobody loses his turn by a gateway's restart.
    fn called(&self, place: u64, now: Duration) -> (u64, Duration) {
        // The last publication whose frontier had not reached the place.
        let after = self.heard.partition_point(|heard| heard.f < place);
        let index = after.saturating_sub(1);
        let Some(heard) = self.heard.get(index) else { return (0, Duration::ZERO) };
        let end = self.heard.get(index + 1).map_or(now, |next| next.at);
        let beyond = place.saturating_sub(heard.f) as f64;
        let travel = if heard.speed > 0.0 { beyond / heard.speed } else { f64::MAX };
        let travel = Duration::try_from_secs_f64(travel).unwrap_or(Duration::MAX);
        let at = heard.at.saturating_add(travel).min(end);
        // Not `heard.number` for what the first publication had passed already: it was called under one before.
        let number = if after == 0 { heard.number.saturating_sub(1) } else { heard.number };
        (number, now.saturating_sub(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceKey, NetworkHash};
    use crate::ticket::{Flags, Room, TICKET_LIFETIME};

    const SECOND: Duration = Duration::from_secs(1);

    fn published(epoch: u64, number: u64, f: u64) -> Frontier {
        let (speed, floor) = (10.0, 1.0);
        Frontier { epoch, number, f, speed, floor, rate: 10.0, issued: 10_000, ..Frontier::NONE }
    }

    fn ticket(seq: u64, late: Option<Late>) -> Ticket {
        Ticket {
            room: Room(0),
            seq,
            issued: Timestamp::ZERO,
            lifetime: TICKET_LIFETIME,
            late,
            flags: Flags::default(),
            device: DeviceKey::from_bytes([0; 32]).hash(),
            network: NetworkHash::from_bytes([0; 8]),
        }
    }

    #[test]
    fn without_control_it_goes_on_for_a_minute_and_then_at_the_floor() {
        let mut view = View::default();
        assert!(view.hear(&published(1, 1, 100), Duration::ZERO));
        assert_eq!(view.frontier(SECOND), 110);
        assert_eq!(view.frontier(SECOND * 60), 700);
        assert_eq!(view.frontier(SECOND * 160), 800);
        // Never beyond what was given out.
        assert_eq!(view.frontier(SECOND * 1_000_000), 10_000);
        assert!(view.control_gone(SECOND * 4) && !view.control_gone(SECOND * 3));
    }

    #[test]
    fn an_old_holder_is_passed_over_and_nothing_goes_back() {
        let mut view = View::default();
        view.hear(&published(2, 5, 100), Duration::ZERO);
        assert!(!view.hear(&published(1, 9, 900), SECOND));
        assert!(!view.hear(&published(2, 5, 900), SECOND));
        // A new holder that has heard nothing of the last seconds.
        assert!(view.hear(&published(3, 4, 50), SECOND * 3));
        assert_eq!(view.frontier(SECOND * 3), 130);
    }

    #[test]
    fn who_misses_the_window_is_called_again_three_times() {
        let mut view = View::default();
        let second = |second: u64| SECOND * u32::try_from(second).unwrap();
        for number in 0..150 {
            view.hear(&published(1, number + 1, number * 10), second(number));
        }
        let turn =
            |late, at: u64| view.turn(&ticket(55, late), 55, second(at), Timestamp::from_millis(at * 1_000));
        assert_eq!(
            turn(None, 100),
            Turn::Called { left: CLAIM_WINDOW - second(100) + Duration::from_millis(5_500), publication: 6 }
        );
        let late = |times, at: u64| Late { times, called: Timestamp::from_millis(at * 1_000) };
        assert_eq!(turn(None, 149), Turn::CallAgain(late(1, 149)));
        assert_eq!(turn(Some(late(1, 140)), 149), Turn::Called { left: second(111), publication: 6 });
        assert_eq!(turn(Some(late(3, 20)), 149), Turn::Over);
        assert_eq!(view.turn(&ticket(5_000, None), 5_000, second(149), Timestamp::ZERO), Turn::Waiting);
    }

    #[test]
    fn whoever_enters_an_empty_room_is_called_at_once() {
        let mut view = View::default();
        view.hear(&Frontier { issued: 100, ..published(1, 1, 100) }, Duration::ZERO);
        assert_eq!(view.frontier(SECOND), 100);
        view.issued(103);
        let turn = view.turn(&ticket(103, None), 103, SECOND / 2, Timestamp::ZERO);
        assert!(matches!(turn, Turn::Called { .. }), "{turn:?}");
    }

    #[test]
    fn a_gateway_that_starts_anew_takes_nobodys_turn() {
        let mut view = View::default();
        let frontier = Frontier { marks: [300, 200, 100, 50], ..published(1, 700, 400) };
        view.hear(&frontier, SECOND);
        let turn = |seq| view.turn(&ticket(seq, None), seq, SECOND * 2, Timestamp::ZERO);
        assert_eq!(turn(120), Turn::Called { left: CLAIM_WINDOW - SECOND, publication: 699 });
        assert_eq!(turn(50), Turn::Over);
    }
}
