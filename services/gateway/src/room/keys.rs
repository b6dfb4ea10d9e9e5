//! The keys of tickets: one a day, derived from the service's secret, so that gateways agree without talking.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use spillway_types::{Secret, Timestamp};
use spillway_waiting_room::{KeyId, SealKeys};

/// Of the day's end, in which the next key is known and not sealed with yet: clocks differ, and tickets live for a day less an
/// hour, so that the key before is not missed.
const KNOWN_BEFORE: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

pub(super) struct DailyKeys {
    secret: Secret,
    current: Mutex<(Epoch, Arc<SealKeys>)>,
}

/// Which keys are live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Epoch {
    sealing: u64,
    other: u64,
}

impl DailyKeys {
    pub(super) fn new(secret: &Secret, now: Timestamp) -> Self {
        let secret = secret.derive("waiting room daily keys", &[]);
        let epoch = Epoch::at(now);
        let current = Mutex::new((epoch, Arc::new(epoch.keys(&secret))));
        Self { secret, current }
    }

    pub(super) fn at(&self, now: Timestamp) -> Arc<SealKeys> {
        let epoch = Epoch::at(now);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != epoch {
            *current = (epoch, Arc::new(epoch.keys(&self.secret)));
        }
        Arc::clone(&current.1)
    }
}

impl Epoch {
    fn at(now: Timestamp) -> Self {
        let (day, length) = (DAY.as_millis() as u64, now.as_millis());
        let today = length / day;
        let ends_soon = length % day >= day - KNOWN_BEFORE.as_millis() as u64;
        Self { sealing: today, other: if ends_soon { today + 1 } else { today.saturating_sub(1) } }
    }

    fn keys(self, secret: &Secret) -> SealKeys {
        let key = |day: u64| secret.derive("day", &[&day.to_be_bytes()]);
        // 256 days later an id comes again, and nothing of then is good any more.
        let id = |day: u64| KeyId(day as u8);
        let mut keys = SealKeys::new(id(self.sealing), &key(self.sealing));
        if self.other != self.sealing {
            keys.learn(id(self.other), &key(self.other)).expect("neighbouring days have different ids");
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use spillway_waiting_room::{DeviceKey, Flags, NetworkHash, Room, TICKET_LIFETIME, Ticket, TicketError};

    use super::*;

    fn at(hours: f64) -> Timestamp {
        Timestamp::from_millis((hours * 3_600_000.0) as u64)
    }

    #[test]
    fn a_ticket_opens_for_as_long_as_it_lives_whenever_it_was_made() {
        let secret = Secret::from_bytes([1; 32]);
        let (one, other) = (DailyKeys::new(&secret, at(0.0)), DailyKeys::new(&secret, at(0.0)));
        for tenth in 0..480 {
            let made = at(48.0 + f64::from(tenth) / 10.0);
            let ticket = Ticket {
                room: Room(0),
                seq: 1,
                issued: made,
                lifetime: TICKET_LIFETIME,
                late: None,
                flags: Flags::default(),
                device: DeviceKey::from_bytes([1; 32]).hash(),
                network: NetworkHash::from_bytes([0; 8]),
            };
            let sealed = ticket.seal(&one.at(made));
            let open = |at| Ticket::open(sealed.as_bytes(), &other.at(at), Room(0), at);
            for minutes in [0, 5, 60, 600, 1_379] {
                let later = made.saturating_add(Duration::from_secs(minutes * 60));
                assert_eq!(open(later), Ok(ticket), "made at {tenth}, opened after {minutes} min");
            }
            // Another gateway whose clock is some minutes behind.
            let behind = made.saturating_sub(Duration::from_secs(300));
            assert_eq!(open(behind), Ok(ticket), "made at {tenth}, opened five minutes before");
            let over = open(made.saturating_add(TICKET_LIFETIME));
            assert!(matches!(over, Err(TicketError::Expired(_) | TicketError::UnknownKey(_))), "{over:?}");
        }
    }
}
