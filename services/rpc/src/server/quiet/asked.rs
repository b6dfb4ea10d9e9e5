//! What a caller asks for, whether he is heard or not.

use std::time::Duration;

use super::{LEAST, MOST, Unheard};

/// Between the later looks: there may be many who are not heard, and each look is the turn of a task.
pub(super) const LOOK_MOST: Duration = Duration::from_millis(500);
/// How long calls are counted for a rate, and what is too short for one.
const COUNTED_FOR: Duration = Duration::from_secs(1);
const COUNTED_FOR_LEAST: Duration = Duration::from_millis(200);
/// Some thirty calls with a short message, and as much as has found room for certain: half of what a port gives a connection, because the
/// kernel counts its own headers, too.
pub(super) const UNREAD_MOST: usize = 16 * 1024;
/// What is read after so many bytes counts twice as much as what was read before.
const KNOWN_BYTES: f64 = 65_536.0;

/// What a caller asks for.
#[derive(Default)]
pub(super) struct Asked {
    /// Seats since then, while everything was read.
    seats: u32,
    since: Duration,
    /// Seats a second, as far as is known.
    rate: Option<f64>,
    /// What his calls were lately, to know from the bytes that are unread how many there are.
    known: Known,
    /// While he is not heard.
    silence: Option<Silence>,
}

#[derive(Default)]
struct Known {
    bytes: f64,
    seats: f64,
}

struct Silence {
    caller: Box<dyn Unheard>,
    patience: Duration,
    began: Duration,
}

/// What is done at the end of a silence.
pub(super) enum Look {
    /// Look again after so long.
    Again(Duration),
    Hear,
    /// Most of what he has said is too late, and reading it would cost more than a new connection.
    GiveUp,
}

impl Asked {
    /// `now`: if everything is read that comes.
    pub(super) fn count(&mut self, now: Option<Duration>, seats: u32) {
        self.known.seats += f64::from(seats);
        let Some(now) = now else { return };
        self.seats = self.seats.saturating_add(seats);
        if now.saturating_sub(self.since) >= COUNTED_FOR {
            self.measure(now);
            self.begin(now);
        }
    }

    pub(super) fn read(&mut self, bytes: usize) {
        self.known.bytes += bytes as f64;
        if self.known.bytes > KNOWN_BYTES {
            self.known = Known { bytes: self.known.bytes / 2.0, seats: self.known.seats / 2.0 };
        }
    }

    /// Everything has been read: nobody is unheard, whether the end of a silence was looked at or not.
    pub(super) fn begin(&mut self, now: Duration) {
        (self.seats, self.since, self.silence) = (0, now, None);
    }

    fn measure(&mut self, now: Duration) {
        let lasted = now.saturating_sub(self.since).max(COUNTED_FOR_LEAST);
        self.rate = Some(f64::from(self.seats) / lasted.as_secs_f64());
    }

    /// `behind`: not everything that was said before has been read.
    pub(super) fn fall_silent(
        &mut self,
        now: Duration,
        behind: bool,
        patience: Duration,
        caller: impl Unheard,
    ) {
        let too_soon = self.rate.is_some() && now.saturating_sub(self.since) < COUNTED_FOR_LEAST;
        if !behind && !too_soon {
            self.measure(now);
        }
        let mut caller: Box<dyn Unheard> = Box::new(caller);
        caller.offers(self.rate.unwrap_or_default());
        self.silence = Some(Silence { caller, patience, began: now });
    }

    /// `unread`: how many bytes have come since when. A buffer that is full says no more than that.
    pub(super) fn look(&mut self, now: Duration, unread: Option<(usize, Duration)>) -> Look {
        let Some(silence) = &mut self.silence else { return Look::Hear };
        let lasted = now.saturating_sub(silence.began);
        let is_welcome = silence.caller.is_welcome();
        if is_welcome || lasted >= MOST {
            let too_late = lasted / 2 > silence.patience;
            let much = unread.is_some_and(|(bytes, _)| bytes >= UNREAD_MOST);
            // He is counted as all others are.
            self.silence = None;
            return if is_welcome && too_late && much { Look::GiveUp } else { Look::Hear };
        }
        if let Some((bytes, since)) = unread
            && bytes < UNREAD_MOST
            && self.known.bytes > 0.0
        {
            let seats = bytes as f64 * self.known.seats / self.known.bytes;
            let rate = seats / now.saturating_sub(since).max(LEAST).as_secs_f64();
            silence.caller.offers(rate);
            self.rate = Some(rate);
        }
        Look::Again((lasted / 2).clamp(LEAST, LOOK_MOST))
    }
}
