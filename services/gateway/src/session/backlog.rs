//! What a session still has to read from its mailbox.
//!
//! A read starts at the settled watermark, because message ids are not in the order of arrival: something may always
//! have come in below what was read last. It goes on page by page. What the window has no room for stays in the store
//! and is read again from where the session stopped.
//!
//! A read that is meant to bring something (the first one, and those after a hint that had no room) holds back live
//! hints, so that old messages come before new ones; it then notes that something arrived under it, and is followed
//! by another. A sweep, which is meant to find nothing, does not.

use std::time::Duration;

use spillway_admission::Tier;
use spillway_types::MessageId;
use tokio::time::Instant;

/// How long a session with a nearly full window waits for more acks before it asks for a small page.
const PATIENCE: Duration = Duration::from_millis(50);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Everything that was stored when the session opened.
    First,
    /// Something that is known to be there.
    CatchUp,
    /// Something that may be there.
    Sweep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// The next page is wanted: from the watermark, or after this id.
    Wanted {
        after: Option<MessageId>,
        not_before: Instant,
        patient_until: Instant,
    },
    /// It has been asked for.
    Asked {
        after: Option<MessageId>,
    },
}

#[derive(Debug)]
pub(crate) struct Backlog {
    state: State,
    purpose: Purpose,
    /// Something arrived that the present read may miss.
    again: bool,
    /// A hint has told of it.
    told: bool,
    /// Nobody has told this session of anything: many may read for the same reason.
    in_turn: bool,
    retry_after: Duration,
}

/// What a handled page means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Unfinished,
    Finished,
    /// The session has given its client everything that was stored when it opened.
    FirstFinished,
}

impl Backlog {
    /// Starts with the first read.
    pub(crate) fn new(now: Instant) -> Self {
        let mut backlog = Self {
            state: State::Idle,
            purpose: Purpose::First,
            again: false,
            told: false,
            in_turn: true,
            retry_after: FIRST_RETRY,
        };
        backlog.want(None, now);
        backlog
    }

    /// Whether hints should wait for the read to bring their messages.
    pub(crate) fn holds_hints(&self) -> bool {
        self.state != State::Idle && self.purpose != Purpose::Sweep
    }

    /// Whether what was stored when the session opened is still being read.
    pub(crate) fn is_first_read(&self) -> bool {
        self.purpose == Purpose::First
    }

    /// Looks at the mailbox, unless that is going on anyway.
    pub(crate) fn sweep(&mut self, now: Instant) {
        if self.state == State::Idle {
            (self.purpose, self.in_turn) = (Purpose::Sweep, true);
            self.want(None, now);
        }
    }

    /// There may be something to read that nobody has told of, and nobody in this room has: the bus was away.
    pub(crate) fn outage(&mut self, now: Instant) {
        if self.state == State::Idle {
            (self.purpose, self.in_turn) = (Purpose::CatchUp, true);
            self.want(None, now);
        } else {
            self.again = true;
        }
    }

    /// There is something to read which the read that is going on may miss.
    pub(crate) fn catch_up(&mut self, now: Instant) {
        if self.state == State::Idle {
            (self.purpose, self.in_turn) = (Purpose::CatchUp, false);
            self.want(None, now);
        } else {
            (self.again, self.told) = (true, true);
        }
    }

    /// As what the read waits for its turn among those of other sessions, if it should: it is one of many with the same cause, such as
    /// a herd that has come or an outage that is over, and they would push everybody's sends aside. One that is meant to find
    /// nothing comes after the sends.
    pub(crate) fn turn(&self) -> Option<Tier> {
        self.in_turn.then(|| if self.purpose == Purpose::Sweep { Tier::Lookup } else { Tier::Send })
    }

    /// When to ask for a page, given room for `room` messages in a window of `window`.
    pub(crate) fn due(&self, room: usize, window: usize) -> Option<Instant> {
        match self.state {
            State::Wanted { not_before, patient_until, .. } if room > 0 => {
                let is_small = room < window / 4;
                Some(if is_small { patient_until.max(not_before) } else { not_before })
            }
            _ => None,
        }
    }

    /// The page is being asked for: from the watermark, or after the id.
    pub(crate) fn ask(&mut self) -> Option<MessageId> {
        let State::Wanted { after, .. } = self.state else { return None };
        self.state = State::Asked { after };
        after
    }

    /// The page has been delivered up to `last`, or there was nothing in it.
    pub(crate) fn page(&mut self, last: Option<MessageId>, more: bool, now: Instant) -> Read {
        self.retry_after = FIRST_RETRY;
        if let (Some(_), true) = (last, more) {
            self.want(last, now);
            return Read::Unfinished;
        }
        self.state = State::Idle;
        let was_first = self.purpose == Purpose::First;
        if std::mem::take(&mut self.again) {
            self.purpose = Purpose::CatchUp;
            self.in_turn = !std::mem::take(&mut self.told);
            self.want(None, now);
        }
        if was_first {
            self.purpose = if self.state == State::Idle { Purpose::Sweep } else { Purpose::CatchUp };
            return Read::FirstFinished;
        }
        Read::Finished
    }

    /// There was no room for what comes after `last`.
    pub(crate) fn no_room(&mut self, last: Option<MessageId>, now: Instant) {
        self.retry_after = FIRST_RETRY;
        if self.purpose == Purpose::Sweep {
            self.purpose = Purpose::CatchUp;
        }
        // There is mail.
        self.in_turn = false;
        let after = last.or(match self.state {
            State::Asked { after } => after,
            _ => None,
        });
        self.state = State::Wanted { after, not_before: now, patient_until: now + PATIENCE };
    }

    /// The page did not come. It is asked for again later.
    pub(crate) fn failed(&mut self, now: Instant) {
        let State::Asked { after } = self.state else { return };
        let not_before = now + self.retry_after;
        self.retry_after = (self.retry_after * 2).min(LAST_RETRY);
        self.state = State::Wanted { after, not_before, patient_until: not_before };
    }

    fn want(&mut self, after: Option<MessageId>, now: Instant) {
        self.state = State::Wanted { after, not_before: now, patient_until: now + PATIENCE };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 256;

    fn id(n: u8) -> MessageId {
        MessageId::from_bytes([n; 16])
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_read_goes_page_by_page_and_ends_once() {
        let now = Instant::now();
        let mut backlog = Backlog::new(now);
        assert_eq!(backlog.ask(), None);
        assert_eq!(backlog.page(Some(id(5)), true, now), Read::Unfinished);
        assert_eq!(backlog.ask(), Some(id(5)));
        assert!(backlog.holds_hints());
        assert_eq!(backlog.page(None, false, now), Read::FirstFinished);
        assert!(!backlog.holds_hints());
        backlog.sweep(now);
        backlog.ask();
        assert_eq!(backlog.page(None, false, now), Read::Finished);
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_under_a_read_causes_another_from_the_watermark() {
        let now = Instant::now();
        let mut backlog = Backlog::new(now);
        backlog.ask();
        backlog.catch_up(now);
        assert_eq!(backlog.page(Some(id(9)), false, now), Read::FirstFinished);
        assert!(backlog.holds_hints());
        assert_eq!(backlog.due(WINDOW, WINDOW), Some(now));
        assert_eq!(backlog.ask(), None, "from the watermark");
        assert_eq!(backlog.page(None, false, now), Read::Finished);
        assert_eq!(backlog.due(WINDOW, WINDOW), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_window_stops_the_read_where_it_was() {
        let now = Instant::now();
        let mut backlog = Backlog::new(now);
        backlog.ask();
        backlog.no_room(Some(id(3)), now);
        assert_eq!(backlog.due(0, WINDOW), None);
        assert_eq!(backlog.due(1, WINDOW), Some(now + PATIENCE));
        assert_eq!(backlog.due(WINDOW / 4, WINDOW), Some(now));
        assert_eq!(backlog.ask(), Some(id(3)));
        backlog.no_room(None, now);
        assert_eq!(backlog.ask(), Some(id(3)), "a page that brought nothing does not go back to the start");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_lets_hints_pass_until_it_finds_too_much() {
        let now = Instant::now();
        let mut backlog = Backlog::new(now);
        backlog.ask();
        backlog.page(None, false, now);
        backlog.sweep(now);
        backlog.ask();
        assert!(!backlog.holds_hints());
        backlog.no_room(None, now);
        assert!(backlog.holds_hints());
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_knows_of_mail_reads_out_of_turn() {
        let now = Instant::now();
        let mut backlog = Backlog::new(now);
        assert_eq!(backlog.turn(), Some(Tier::Send));
        backlog.ask();
        backlog.outage(now);
        backlog.page(None, false, now);
        assert!(
            backlog.turn() == Some(Tier::Send) && backlog.holds_hints(),
            "another read, because the bus was away under the first"
        );
        backlog.ask();
        backlog.catch_up(now);
        backlog.page(None, false, now);
        assert_eq!(backlog.turn(), None);
        backlog.ask();
        backlog.page(None, false, now);
        backlog.sweep(now);
        assert_eq!(backlog.turn(), Some(Tier::Lookup));
        backlog.ask();
        backlog.no_room(Some(id(1)), now);
        assert_eq!(backlog.turn(), None);
        backlog.ask();
        backlog.page(None, false, now);
        backlog.outage(now);
        assert!(backlog.turn() == Some(Tier::Send) && backlog.holds_hints());
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_failed_is_asked_for_again_later_and_later() {
        let now = Instant::now();
        let mut backlog = Backlog::new(now);
        for pause in [FIRST_RETRY, FIRST_RETRY * 2, FIRST_RETRY * 4] {
            backlog.ask();
            backlog.failed(now);
            assert_eq!(backlog.due(WINDOW, WINDOW), Some(now + pause));
        }
        backlog.ask();
        backlog.page(Some(id(1)), true, now);
        assert_eq!(backlog.due(WINDOW, WINDOW), Some(now));
    }
}
