//! What a verification session allows, and when. Pure: time comes in, the store is elsewhere.
//!
//! Rules:
//! - At most one code is queued. A request made while one waits takes over its place and its count: nothing has been
//!   sent yet, so asking again neither sends twice, nor goes to the end of the queue, nor uses up a send.
//! - A voice call can be asked for once an SMS has been handed over.
//! - A code's lifetime starts at its hand-over, and lasts at least four times as long as delivery takes at present.
//! - A try is counted in the same write that says whether it was right.
//! - A verified session stays verified, whatever is tried afterwards: who holds its secret can make the account anyway.

use std::time::Duration;

use bytes::Bytes;
use spillway_store::verifications::{
    ProviderTag, QueuedCode, SentCode, Transport, Verification, VerificationId,
};
use spillway_types::{KeyedHash, NumberMac, Secret, Timestamp};

use crate::config::VerificationConfig;

/// A code must not expire on its way: it lives this many times the present delivery delay.
const LIFETIME_PER_DELAY: u32 = 4;

/// What a client learns about its session. Absent times mean "not in this session".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) session: Secret,
    pub(crate) verified: bool,
    pub(crate) next_sms: Option<Duration>,
    pub(crate) next_voice: Option<Duration>,
    pub(crate) next_check: Option<Duration>,
    pub(crate) checks_left: u32,
    pub(crate) expires_in: Duration,
    pub(crate) code_expires_in: Option<Duration>,
    pub(crate) delivery_estimate: Option<Duration>,
}

/// Why another code cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotNow {
    TooEarly { retry_after: Duration },
    NoSmsYet,
    Exhausted,
}

/// Why a code cannot be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCheck {
    NotSent,
    Expired,
    TooEarly { retry_after: Duration },
    Exhausted,
}

/// What a worker finds that is to hand over a session's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The code as it is held now, which identifies the claim: no other one ends at the same time.
    Ours(QueuedCode),
    /// A worker is at it, or a pause runs.
    Held { left: Duration },
    /// No code is queued.
    Nothing,
}

/// A configuration, read as rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a>(pub(crate) &'a VerificationConfig);

impl Rules<'_> {
    /// A new session with its first SMS queued.
    pub(crate) fn open(
        &self,
        id: VerificationId,
        number: NumberMac,
        sealed: Bytes,
        now: Timestamp,
    ) -> Verification {
        let mut session = Verification {
            id,
            version: 1,
            number,
            sealed_number: sealed,
            queued: Some(QueuedCode::new(Transport::Sms, now)),
            sent: None,
            failed: Vec::new(),
            sms_requested: 1,
            voice_requested: 0,
            checks: 0,
            next_sms_at: now,
            next_voice_at: now,
            next_check_at: now,
            verified: false,
            account: None,
            created_at: now,
            expires_at: now,
            taken_until: Timestamp::ZERO,
        };
        self.space(&mut session, Transport::Sms, now);
        session.expires_at = self.expiry(&session, now);
        session
    }

    /// Queues another code, in place of one that still waits.
    pub(crate) fn request(
        &self,
        s: &mut Verification,
        transport: Transport,
        now: Timestamp,
    ) -> Result<(), NotNow> {
        if transport == Transport::Voice && s.sent.is_none() {
            return Err(NotNow::NoSmsYet);
        }
        let waiting = s.queued;
        let replaces_its_kind = waiting.is_some_and(|queued| queued.transport == transport);
        if !replaces_its_kind && !self.may_request(s, transport) {
            return Err(NotNow::Exhausted);
        }
        let at = next_at(s, transport);
        if at > now {
            return Err(NotNow::TooEarly { retry_after: at.since(now) });
        }
        if let Some(queued) = waiting {
            let replaced = requested(s, queued.transport);
            *replaced = replaced.saturating_sub(1);
        }
        let count = requested(s, transport);
        *count = count.saturating_add(1);
        // A worker that is at the replaced one keeps its hold, and its record says what is left to do.
        s.queued = Some(match waiting {
            Some(queued) if replaces_its_kind => queued,
            Some(queued) => QueuedCode { transport, attempts: 0, ..queued },
            None => QueuedCode::new(transport, now),
        });
        self.space(s, transport, now);
        s.expires_at = self.expiry(s, now);
        Ok(())
    }

    /// Records that `provider` took `taken`, which had been read from the queue before; none did if it only looks so. A request that replaced it
    /// meanwhile is satisfied by it, unless it asks for the other transport.
    pub(crate) fn handed_over(
        &self,
        s: &mut Verification,
        taken: QueuedCode,
        mac: KeyedHash,
        provider: Option<ProviderTag>,
        delivery_delay: Duration,
        now: Timestamp,
    ) {
        let lifetime = self.0.code_lifetime.max(delivery_delay.saturating_mul(LIFETIME_PER_DELAY));
        let is_first = s.sent.is_none();
        let expires_at = now.saturating_add(lifetime);
        s.sent = Some(SentCode { mac, handed_over_at: now, expires_at, provider });
        match s.queued {
            Some(queued) if queued.transport == taken.transport => s.queued = None,
            Some(queued) => {
                s.queued = Some(QueuedCode { held_until: Timestamp::ZERO, ..queued });
                let count = requested(s, taken.transport);
                *count = count.saturating_add(1);
            }
            None => {}
        }
        self.space(s, taken.transport, now);
        if is_first {
            s.next_voice_at = s.next_voice_at.max(now.saturating_add(self.0.voice_after_sms));
        }
        s.expires_at = self.expiry(s, now);
    }

    /// Counts a try, whether or not it `matches`. Not called for a verified session.
    pub(crate) fn check(&self, s: &mut Verification, matches: bool, now: Timestamp) -> Result<(), NoCheck> {
        let sent = s.sent.as_ref().ok_or(NoCheck::NotSent)?;
        if self.checks_left(s) == 0 {
            return Err(NoCheck::Exhausted);
        }
        if sent.expires_at <= now {
            return Err(NoCheck::Expired);
        }
        if s.next_check_at > now {
            return Err(NoCheck::TooEarly { retry_after: s.next_check_at.since(now) });
        }
        s.checks = s.checks.saturating_add(1);
        let wait = self.0.check_delays.get(usize::from(s.checks) - 1).copied().unwrap_or_default();
        s.next_check_at = now.saturating_add(wait);
        if matches {
            s.verified = true;
            s.queued = None;
        }
        s.expires_at = self.expiry(s, now);
        Ok(())
    }

    /// Whether the phone may have a code that can be tried.
    pub(crate) fn has_live_code(&self, s: &Verification, now: Timestamp) -> bool {
        s.sent.as_ref().is_some_and(|sent| sent.expires_at > now)
    }

    pub(crate) fn view(
        &self,
        s: &Verification,
        session: &Secret,
        delivery_estimate: Option<Duration>,
        now: Timestamp,
    ) -> View {
        let open = !s.verified;
        let next =
            |transport| (open && self.may_request(s, transport)).then(|| next_at(s, transport).since(now));
        let checks_left = self.checks_left(s);
        let can_check = open && s.sent.is_some() && checks_left > 0;
        View {
            session: session.clone(),
            verified: s.verified,
            next_sms: next(Transport::Sms),
            next_voice: next(Transport::Voice).filter(|_| s.sent.is_some()),
            next_check: can_check.then(|| s.next_check_at.since(now)),
            checks_left,
            expires_in: s.expires_at.since(now),
            code_expires_in: s.sent.as_ref().map(|sent| sent.expires_at.since(now)),
            delivery_estimate,
        }
    }

    fn delays(&self, transport: Transport) -> &[Duration] {
        match transport {
            Transport::Sms => &self.0.sms_delays,
            Transport::Voice => &self.0.voice_delays,
        }
    }

    fn may_request(&self, s: &Verification, transport: Transport) -> bool {
        usize::from(count(s, transport)) <= self.delays(transport).len()
    }

    fn checks_left(&self, s: &Verification) -> u32 {
        let max = u32::try_from(self.0.check_delays.len()).unwrap_or(u32::MAX).saturating_add(1);
        max.saturating_sub(u32::from(s.checks))
    }

    /// Moves the next request of this kind to the configured distance from `now`; never earlier than it was.
    fn space(&self, s: &mut Verification, transport: Transport, now: Timestamp) {
        let nth = usize::from(count(s, transport)).saturating_sub(1);
        let at = now.saturating_add(self.delays(transport).get(nth).copied().unwrap_or_default());
        let next = match transport {
            Transport::Sms => &mut s.next_sms_at,
            Transport::Voice => &mut s.next_voice_at,
        };
        *next = at.max(*next);
    }

    /// Never earlier than it was, and never before the code that is out there.
    fn expiry(&self, s: &Verification, now: Timestamp) -> Timestamp {
        let idle = self.0.idle_lifetime;
        let bound = if s.verified {
            // The account is still to be made, however long proving the number took.
            now.saturating_add(idle)
        } else {
            let last = [Transport::Sms, Transport::Voice]
                .into_iter()
                .filter(|&transport| self.may_request(s, transport))
                .map(|transport| next_at(s, transport))
                .chain([s.next_check_at, now])
                .max();
            let end = s.created_at.saturating_add(self.0.lifetime_max);
            last.unwrap_or(now).saturating_add(idle).min(end)
        };
        let code = s.sent.as_ref().map_or(Timestamp::ZERO, |sent| sent.expires_at);
        bound.max(code).max(s.expires_at)
    }
}

/// Holds the queued code for one worker, until `hold` has passed. Counts when it is written.
pub(crate) fn claim(s: &mut Verification, hold: Duration, now: Timestamp) -> Claim {
    match &mut s.queued {
        None => Claim::Nothing,
        Some(queued) if queued.held_until > now => Claim::Held { left: queued.held_until.since(now) },
        Some(queued) => {
            queued.held_until = now.saturating_add(hold);
            Claim::Ours(*queued)
        }
    }
}

/// Ends a claim that failed; the code, or one that has replaced it, is held until `until`. Says whether the claim was
/// still there. `attempts` are those of the claimed code; one of the other transport begins anew.
pub(crate) fn postpone(s: &mut Verification, claimed: QueuedCode, until: Timestamp, attempts: u8) -> bool {
    let Some(queued) = s.queued.as_mut().filter(|queued| queued.held_until == claimed.held_until) else {
        return false;
    };
    queued.held_until = until;
    if queued.transport == claimed.transport {
        queued.attempts = attempts;
    }
    true
}

/// Remembers that a provider failed in this session.
pub(crate) fn mark_failed(s: &mut Verification, provider: ProviderTag) {
    s.failed.retain(|known| *known != provider);
    if s.failed.len() == Verification::FAILED_MAX {
        s.failed.remove(0);
    }
    s.failed.push(provider);
}

fn next_at(s: &Verification, transport: Transport) -> Timestamp {
    match transport {
        Transport::Sms => s.next_sms_at,
        Transport::Voice => s.next_voice_at,
    }
}

fn count(s: &Verification, transport: Transport) -> u8 {
    match transport {
        Transport::Sms => s.sms_requested,
        Transport::Voice => s.voice_requested,
    }
}

fn requested(s: &mut Verification, transport: Transport) -> &mut u8 {
    match transport {
        Transport::Sms => &mut s.sms_requested,
        Transport::Voice => &mut s.voice_requested,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: KeyedHash = KeyedHash::from_bytes([3; 32]);
    const START: Timestamp = Timestamp::from_millis(1_610_722_800_000);

    fn after(seconds: u64) -> Timestamp {
        START.saturating_add(Duration::from_secs(seconds))
    }

    fn open(rules: Rules<'_>) -> Verification {
        let mac = NumberMac::from_bytes([1; NumberMac::LEN]);
        rules.open(VerificationId([0; 32]), mac, Bytes::new(), START)
    }

    fn hand_over(rules: Rules<'_>, s: &mut Verification, seconds: u64) {
        let taken = s.queued.unwrap();
        rules.handed_over(s, taken, MAC, None, Duration::ZERO, after(seconds));
    }

    #[test]
    fn sends_are_spaced_and_then_over() {
        let config = VerificationConfig::default();
        let rules = Rules(&config);
        let mut s = open(rules);
        hand_over(rules, &mut s, 0);
        let early = rules.request(&mut s, Transport::Sms, after(59));
        assert_eq!(early, Err(NotNow::TooEarly { retry_after: Duration::from_secs(1) }));
        for at in [60, 240, 840] {
            rules.request(&mut s, Transport::Sms, after(at)).unwrap();
            hand_over(rules, &mut s, at);
        }
        assert_eq!(rules.request(&mut s, Transport::Sms, after(1_700)), Err(NotNow::Exhausted));
        assert_eq!(s.sms_requested, 4);
    }

    #[test]
    fn a_request_takes_over_the_place_of_one_that_waits() {
        let config = VerificationConfig::default();
        let rules = Rules(&config);
        let mut s = open(rules);
        rules.request(&mut s, Transport::Sms, after(60)).unwrap();
        assert_eq!(s.queued, Some(QueuedCode::new(Transport::Sms, START)));
        assert_eq!(s.sms_requested, 1, "nothing was sent, so nothing is used up");
    }

    #[test]
    fn voice_comes_after_an_sms() {
        let config = VerificationConfig::default();
        let rules = Rules(&config);
        let mut s = open(rules);
        assert_eq!(rules.request(&mut s, Transport::Voice, after(600)), Err(NotNow::NoSmsYet));
        hand_over(rules, &mut s, 600);
        let early = rules.request(&mut s, Transport::Voice, after(630));
        assert_eq!(early, Err(NotNow::TooEarly { retry_after: Duration::from_secs(30) }));
        rules.request(&mut s, Transport::Voice, after(660)).unwrap();
        assert_eq!((s.sms_requested, s.voice_requested), (1, 1));
    }

    #[test]
    fn a_call_asked_for_while_an_sms_is_handed_over_stays_queued() {
        let config = VerificationConfig::default();
        let rules = Rules(&config);
        let mut s = open(rules);
        hand_over(rules, &mut s, 0);
        rules.request(&mut s, Transport::Sms, after(60)).unwrap();
        let taken = s.queued.unwrap();
        rules.request(&mut s, Transport::Voice, after(61)).unwrap();
        assert_eq!((s.sms_requested, s.voice_requested), (1, 1));
        rules.handed_over(&mut s, taken, MAC, None, Duration::ZERO, after(62));
        assert_eq!(s.queued.map(|queued| queued.transport), Some(Transport::Voice));
        assert_eq!((s.sms_requested, s.voice_requested), (2, 1), "the SMS did go out");
    }

    #[test]
    fn failed_providers_are_remembered_once_and_in_their_order() {
        let config = VerificationConfig::default();
        let mut s = open(Rules(&config));
        for n in [1, 2, 1] {
            mark_failed(&mut s, ProviderTag(n));
        }
        assert_eq!(s.failed, [ProviderTag(2), ProviderTag(1)]);
        (3..30).for_each(|n| mark_failed(&mut s, ProviderTag(n)));
        assert_eq!((s.failed.len(), s.failed[0]), (Verification::FAILED_MAX, ProviderTag(14)));
    }

    #[test]
    fn a_claim_keeps_others_away_until_it_runs_out() {
        let config = VerificationConfig::default();
        let hold = Duration::from_secs(25);
        let mut s = open(Rules(&config));
        let Claim::Ours(first) = claim(&mut s, hold, after(0)) else { panic!("nobody else is there") };
        assert_eq!(claim(&mut s, hold, after(10)), Claim::Held { left: Duration::from_secs(15) });
        let Claim::Ours(second) = claim(&mut s, hold, after(25)) else { panic!("the first has run out") };

        assert!(!postpone(&mut s, first, after(26), 1), "the first worker comes too late to say anything");
        assert_eq!(s.queued, Some(second));
        assert!(postpone(&mut s, second, after(30), 1));
        assert_eq!(claim(&mut s, hold, after(29)), Claim::Held { left: Duration::from_secs(1) });
        assert_eq!(s.queued.map(|queued| queued.attempts), Some(1));

        hand_over(Rules(&config), &mut s, 31);
        assert_eq!(claim(&mut s, hold, after(40)), Claim::Nothing);
    }

    #[test]
    fn a_resend_leaves_the_claim_alone_and_what_is_left_is_free_after_it() {
        let config = VerificationConfig::default();
        let rules = Rules(&config);
        let hold = Duration::from_secs(25);
        let mut s = open(rules);
        hand_over(rules, &mut s, 0);
        rules.request(&mut s, Transport::Sms, after(60)).unwrap();
        let Claim::Ours(sms) = claim(&mut s, hold, after(60)) else { panic!("nobody else is there") };
        rules.request(&mut s, Transport::Voice, after(61)).unwrap();
        assert!(matches!(claim(&mut s, hold, after(62)), Claim::Held { .. }));
        rules.handed_over(&mut s, sms, MAC, None, Duration::ZERO, after(63));
        let Claim::Ours(call) = claim(&mut s, hold, after(63)) else { panic!("the call is free") };
        assert_eq!(call.transport, Transport::Voice);
    }

    #[test]
    fn a_code_outlives_slow_delivery_and_the_session_outlives_the_code() {
        let config = VerificationConfig::default();
        let rules = Rules(&config);
        let mut s = open(rules);
        let taken = s.queued.unwrap();
        rules.handed_over(&mut s, taken, MAC, None, Duration::from_secs(300), after(400));
        assert_eq!(s.sent.as_ref().unwrap().expires_at, after(400 + 1_200));
        assert!(s.expires_at >= after(1_600));
        assert_eq!(rules.check(&mut s, false, after(1_600)), Err(NoCheck::Expired));
        assert_eq!(rules.check(&mut s, true, after(1_599)), Ok(()));
    }

    #[test]
    fn tries_are_spaced_and_capped() {
        let config = VerificationConfig::default();
        let rules = Rules(&config);
        let mut s = open(rules);
        assert_eq!(rules.check(&mut s, true, after(0)), Err(NoCheck::NotSent));
        hand_over(rules, &mut s, 0);
        for (at, is_spaced) in [(0, false), (0, false), (0, false), (5, true), (20, true), (80, true)] {
            if is_spaced {
                let early = rules.check(&mut s, true, after(at - 1));
                assert_eq!(early, Err(NoCheck::TooEarly { retry_after: Duration::from_secs(1) }));
            }
            rules.check(&mut s, false, after(at)).unwrap();
        }
        assert_eq!(rules.check(&mut s, true, after(200)), Err(NoCheck::Exhausted));
        assert_eq!(s.checks, 6);
    }

    proptest! {
        /// Whatever people and dispatchers do, the budget of a session holds, and so do its times.
        #[test]
        fn no_order_of_events_breaks_the_budget(events in prop::collection::vec((0u8..5, 0u64..400), 1..60)) {
            let config = VerificationConfig::default();
            let rules = Rules(&config);
            let mut s = open(rules);
            let (mut now, mut sent, mut tries) = (START, 0u32, 0u32);
            let mut taken = None;
            for (event, seconds) in events {
                now = now.saturating_add(Duration::from_secs(seconds));
                let before = s.clone();
                match event {
                    0 => drop(rules.request(&mut s, Transport::Sms, now)),
                    1 => drop(rules.request(&mut s, Transport::Voice, now)),
                    2 => taken = s.queued,
                    3 => if let Some(code) = taken.take().filter(|_| s.queued.is_some()) {
                        rules.handed_over(&mut s, code, MAC, None, Duration::ZERO, now);
                        sent += 1;
                    },
                    _ => tries += u32::from(rules.check(&mut s, false, now).is_ok()),
                }
                prop_assert!(s.expires_at >= before.expires_at);
                prop_assert!(s.sent.as_ref().is_none_or(|code| code.expires_at <= s.expires_at));
            }
            // One more than asked for is possible: a call that replaced an SMS which was already on its way.
            prop_assert!(sent <= 4 + 3 + 1, "{sent} codes");
            prop_assert!(tries <= 6, "{tries} tries");
        }
    }
}
