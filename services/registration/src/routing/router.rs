//! All of the routing, behind one `&mut self`: which provider takes a code is here; what can be sent in [`capacity`], what is learnt of those that were sent in
//! [`learn`].

mod capacity;
mod learn;

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use spillway_store::verifications::{ProviderTag, Transport, VerificationId};
use spillway_types::Timestamp;
use tokio::time::Instant;

use super::breaker::{Breaker, BreakerState, Health, Pass};
use super::budget::{Budget, Exhausted, Limits as BudgetLimits, Need, Reservation, Scope};
use super::choice::{Candidate, choose};
use super::flow::Flow;
use super::guard::{Guard, Limits as GuardLimits, PlaceCount, PlaceKey, Places, Verdict as GuardVerdict};
use super::rate::Rate;
use super::receipts::Receipts;
use super::record::Records;
use super::terms::Terms;
use super::trials::{Trial, Trials};

/// A code that is held by the guard asks again after this part of the grace: its place opens when others are typed.
const HOLD_PART: u32 = 16;
const HOLD_MAX: Duration = Duration::from_secs(5);
/// A grace longer than this would keep too many codes in memory.
const GRACE_MAX: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
pub(crate) struct RouterConfig {
    pub(crate) terms: Vec<Terms>,
    /// What a proved number may cost, in millionths of the currency's unit.
    pub(crate) worth: u64,
    pub(crate) budget: BudgetLimits,
    /// Absent: everybody gets codes.
    pub(crate) guard: Option<GuardLimits>,
    /// How long a code has at least to be typed. It is more while delivery is slow.
    pub(crate) grace_min: Duration,
}

/// Durations are measured by the one, and budgets run by the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) at: Instant,
    pub(crate) wall: Timestamp,
}

/// A code that wants to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) country: u16,
    pub(crate) transport: Transport,
    /// Providers that failed in its session, the last at the end.
    pub(crate) failed: &'a [ProviderTag],
    pub(crate) places: Places,
}

#[derive(Debug)]
pub(crate) enum Verdict {
    Send(Ticket),
    /// Go on as if it had been sent.
    Pretend,
    /// Not now. `everybody`: nor is there anything for any other code before that.
    Wait {
        why: Why,
        pause: Duration,
        everybody: bool,
    },
    /// No provider serves its country and transport.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Breaker,
    Rate,
    Budget(Scope),
    /// There is money, and a share of it is being borrowed.
    Borrowing(Scope),
    Guard,
}

/// The right to send one code by one provider. It goes back with what became of it.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// The provider's place in the settings.
    pub(crate) provider: usize,
    pub(crate) tag: ProviderTag,
    pass: Pass,
    reservation: Reservation,
    trial: Trial,
}

impl Ticket {
    /// In millionths of the currency's unit.
    pub(crate) const fn cost(&self) -> u64 {
        self.reservation.cost()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Accepted {
        session: VerificationId,
        /// From the request to the phone, as far as it is known. Absent: a receipt will tell.
        delay: Option<Duration>,
        /// What nine of ten codes take at present.
        estimate: Duration,
    },
    Throttled {
        pause: Duration,
    },
    Failed,
    /// It may have been sent, and paid for.
    TimedOut,
    Refused,
    /// The call was never made.
    NotSent,
}

/// Something final that a provider has said of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipted {
    pub(crate) session: VerificationId,
    pub(crate) provider: ProviderTag,
    pub(crate) arrived: bool,
    /// From the request to the receipt.
    pub(crate) delay: Duration,
}

/// How one provider does, for metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) breaker: BreakerState,
    pub(crate) conversion: Option<f64>,
    /// Share of messages that arrived, as receipts say.
    pub(crate) arrived: Option<f64>,
    pub(crate) delay: Option<Duration>,
    /// Codes a second; infinite when there is no limit.
    pub(crate) rate: f64,
}

#[derive(Debug)]
pub(crate) struct Router {
    lines: Vec<Line>,
    records: Records,
    budget: Budget,
    guard: Option<Guard>,
    trials: Trials,
    receipts: Receipts,
    flow: Flow,
    /// A lone provider that nobody need be kept from is used whatever becomes of its codes.
    is_followed: bool,
    worth: f64,
    grace_min: Duration,
    rng: SmallRng,
}

#[derive(Debug)]
struct Line {
    terms: Terms,
    tag: ProviderTag,
    rate: Rate,
    sms: Breaker,
    voice: Breaker,
}

impl Router {
    pub(crate) fn new(config: RouterConfig, rng: SmallRng, now: Now) -> Self {
        let line = |terms: Terms| Line {
            tag: terms.tag(),
            rate: Rate::new(terms.rate_per_second, now.at),
            sms: Breaker::new(now.at),
            voice: Breaker::new(now.at),
            terms,
        };
        let is_guarded = config.terms.iter().any(|terms| terms.guarded);
        let is_choice = config.terms.len() > 1;
        let receipts = Receipts::new(config.terms.len());
        Self {
            lines: config.terms.into_iter().map(line).collect(),
            records: Records::default(),
            budget: Budget::new(config.budget, now.wall),
            guard: config.guard.filter(|_| is_guarded).map(|limits| Guard::new(limits, now.at)),
            trials: Trials::default(),
            receipts,
            flow: Flow::new(now.at),
            is_followed: is_guarded || is_choice,
            worth: config.worth.max(1) as f64,
            grace_min: config.grace_min,
            rng,
        }
    }

    /// A sign-up with a number of this country has begun.
    pub(crate) fn began(&mut self, country: u16, now: Instant) {
        self.flow.began(country, now);
    }

    /// Decides about a code, and reserves for it what it needs.
    pub(crate) fn route(&mut self, ask: &Ask<'_>, now: Now) -> Verdict {
        let serving = self.serving(ask.country, ask.transport);
        if serving.is_empty() {
            return Verdict::Nobody;
        }
        let able = match self.able(&serving, ask, now) {
            Ok(able) => able,
            Err((why, until)) => return self.wait(why, until, now),
        };
        let is_guarded = able.iter().any(|index| self.lines[*index].terms.guarded);
        if let Some(guard) = self.guard.as_mut().filter(|_| is_guarded) {
            match guard.verdict(ask.places, now.at) {
                GuardVerdict::Send => {}
                GuardVerdict::Pretend => return Verdict::Pretend,
                GuardVerdict::Hold => {
                    let pause = (self.grace_min / HOLD_PART).clamp(Duration::from_millis(10), HOLD_MAX);
                    self.flow.put_aside(pause, now.at);
                    return Verdict::Wait { why: Why::Guard, pause, everybody: false };
                }
            }
        }
        let candidates: Vec<Candidate> = able.iter().map(|index| self.candidate(*index, ask, now)).collect();
        let chosen = choose(&mut self.rng, &candidates, self.worth).map_or(able[0], |place| able[place]);
        match self.ticket(chosen, ask, now) {
            Ok(ticket) => Verdict::Send(ticket),
            Err((why, until)) => self.wait(why, until, now),
        }
    }

    /// Takes a ticket back. Answers with the state of the provider's breaker if that has changed.
    pub(crate) fn end(&mut self, ticket: Ticket, end: End, now: Now) -> Option<BreakerState> {
        let Ticket { provider, pass, reservation, trial, .. } = ticket;
        let cost = reservation.cost();
        let transport = trial.cell.2;
        let before = self.lines[provider].breaker(transport).state(now.at);
        let health = match end {
            End::Accepted { .. } => Health::Taken,
            End::Failed | End::TimedOut => Health::Failed,
            End::Refused => Health::Refused,
            End::Throttled { .. } | End::NotSent => Health::Unknown,
        };
        let jitter = self.rng.random();
        let line = &mut self.lines[provider];
        line.breaker_mut(transport).end(pass, health, jitter, now.at);
        match end {
            End::Accepted { .. } => line.rate.taken(now.at),
            End::Throttled { pause } => line.rate.throttled(pause, now.at),
            End::NotSent => line.rate.give_back(now.at),
            End::Failed | End::TimedOut | End::Refused => {}
        }
        if !matches!(end, End::Accepted { .. } | End::TimedOut) {
            self.budget.release(reservation, now.wall);
        }
        match end {
            End::Accepted { session, delay, estimate } => {
                self.flow.sent(cost, now.at);
                self.records.answered(trial.cell, true, now.at);
                if let Some(delay) = delay {
                    self.records.delayed(trial.cell, delay, now.at);
                }
                let grace = self.grace_min.max(estimate * 2).min(GRACE_MAX.max(self.grace_min));
                if self.is_followed
                    && let Some(known) = self.trials.sent(session, trial, grace, now.at)
                {
                    self.judge(known, now.at);
                }
            }
            _ => {
                if let Some(guard) = &mut self.guard {
                    guard.unsent(trial.places);
                }
                if matches!(end, End::Failed | End::TimedOut | End::Refused) {
                    self.records.answered(trial.cell, false, now.at);
                }
            }
        }
        let after = self.lines[provider].breaker(transport).state(now.at);
        (after != before).then_some(after)
    }

    /// Whether somebody else serves a code that all these have failed.
    pub(crate) fn has_other(&self, country: u16, transport: Transport, failed: &[ProviderTag]) -> bool {
        self.lines.iter().any(|line| line.terms.serves(country, transport) && !failed.contains(&line.tag))
    }

    /// Whether one of those could take the code at once.
    pub(crate) fn has_other_ready(
        &mut self,
        country: u16,
        transport: Transport,
        failed: &[ProviderTag],
        now: Now,
    ) -> bool {
        self.serving(country, transport).into_iter().any(|index| {
            !failed.contains(&self.lines[index].tag)
                && self.ready_one(index, country, transport, false, now).is_ok()
        })
    }

    /// A limit of which half has been spent, told once in each window.
    pub(crate) fn alarm(&mut self, country: u16, now: Timestamp) -> Option<Scope> {
        self.budget.alarm(country, now)
    }

    /// What is left of the hour's and the day's budget, without what other processes have borrowed.
    pub(crate) fn budget_left(&mut self, now: Timestamp) -> (Option<u64>, Option<u64>) {
        self.budget.left(now)
    }

    /// What the ledger is to be asked. `look`: also how much there is where nothing is needed.
    pub(crate) fn needs(&mut self, look: bool, now: Timestamp) -> Vec<Need> {
        self.budget.needs(look, now)
    }

    pub(crate) fn settled(&mut self, need: &Need, granted: u64, unlent: u64, now: Timestamp) {
        self.budget.settled(need, granted, unlent, now);
    }

    pub(crate) fn unsettled(&mut self, need: &Need, now: Timestamp) {
        self.budget.unsettled(need, now);
    }

    pub(crate) fn give_back(&mut self, now: Timestamp) -> Vec<Need> {
        self.budget.give_back(now)
    }

    /// Whether money should be borrowed soon for codes to this country.
    pub(crate) fn is_low(&mut self, country: u16, now: Timestamp) -> bool {
        self.budget.is_low(country, now)
    }

    /// What all processes may spend in an hour and in a day.
    pub(crate) fn budget_sizes(&self) -> (Option<u64>, Option<u64>) {
        self.budget.sizes()
    }

    pub(crate) fn standing(&self, provider: usize, transport: Transport, now: Instant) -> Standing {
        let line = &self.lines[provider];
        let (conversion, arrived, delay) = self.records.summary(provider, transport, now);
        Standing {
            breaker: line.breaker(transport).state(now),
            conversion,
            arrived,
            delay,
            rate: line.rate.limit(),
        }
    }

    /// Where codes of all processes go that nobody types.
    pub(crate) fn heard(&mut self, places: Vec<(PlaceKey, PlaceCount)>, now: Instant) {
        if let Some(guard) = &mut self.guard {
            guard.heard(places, now);
        }
    }

    fn serving(&self, country: u16, transport: Transport) -> Vec<usize> {
        let serves = |index: &usize| self.lines[*index].terms.serves(country, transport);
        (0..self.lines.len()).filter(serves).collect()
    }

    /// Those that can take the code now. Who has not failed in its session comes first; when all have, the one that did
    /// so the longest ago. When breakers keep everybody else away, so do those who are thought to reach nobody.
    fn able(&mut self, serving: &[usize], ask: &Ask<'_>, now: Now) -> Result<Vec<usize>, (Why, Instant)> {
        let failed_at =
            |lines: &[Line], index: usize| ask.failed.iter().rposition(|tag| *tag == lines[index].tag);
        let (fresh, mut failed): (Vec<usize>, Vec<usize>) =
            serving.iter().partition(|index| failed_at(&self.lines, **index).is_none());
        failed.sort_by_key(|index| failed_at(&self.lines, *index));
        let mut wait = None;
        let able = self.ready(&fresh, ask, false, &mut wait, now);
        if !able.is_empty() {
            return Ok(able);
        }
        if matches!(wait, Some((Why::Rate | Why::Budget(_) | Why::Borrowing(_), _))) {
            return Err(wait.expect("it was just matched"));
        }
        for index in failed {
            let able = self.ready(&[index], ask, false, &mut wait, now);
            if !able.is_empty() {
                return Ok(able);
            }
        }
        let able = self.ready(&fresh, ask, true, &mut wait, now);
        if able.is_empty() {
            // Somebody serves the code, and whoever cannot take it has said why.
            return Err(wait.unwrap_or((Why::Breaker, now.at + HOLD_MAX)));
        }
        Ok(able)
    }

    /// Of these, who can take the code. For the others, `wait` becomes the first moment at which one of them may.
    fn ready(
        &mut self,
        of: &[usize],
        ask: &Ask<'_>,
        collapsed_too: bool,
        wait: &mut Option<(Why, Instant)>,
        now: Now,
    ) -> Vec<usize> {
        let mut ready = Vec::new();
        for index in of {
            match self.ready_one(*index, ask.country, ask.transport, collapsed_too, now) {
                Ok(()) => ready.push(*index),
                Err(other) => {
                    if wait.is_none_or(|known| other.1 < known.1) {
                        *wait = Some(other);
                    }
                }
            }
        }
        ready
    }

    fn ready_one(
        &mut self,
        index: usize,
        country: u16,
        transport: Transport,
        collapsed_too: bool,
        now: Now,
    ) -> Result<(), (Why, Instant)> {
        let line = &self.lines[index];
        let breaker = line.breaker(transport);
        match breaker.admits(now.at) {
            Err(until) if !(collapsed_too && breaker.is_collapsed()) => return Err((Why::Breaker, until)),
            _ => {}
        }
        line.rate.room(now.at).map_err(|until| (Why::Rate, until))?;
        let cost = line.terms.cost(country, transport);
        self.budget.room(country, cost, now.wall).map_err(|exhausted| why(exhausted, now))
    }

    fn candidate(&self, index: usize, ask: &Ask<'_>, now: Now) -> Candidate {
        let cell = (index, ask.country, ask.transport);
        Candidate {
            provider: index,
            conversion: self.records.conversion(cell, now.at),
            acceptance: self.records.acceptance(cell, now.at),
            cost: self.lines[index].terms.cost(ask.country, ask.transport),
        }
    }

    fn ticket(&mut self, index: usize, ask: &Ask<'_>, now: Now) -> Result<Ticket, (Why, Instant)> {
        let line = &mut self.lines[index];
        let cost = line.terms.cost(ask.country, ask.transport);
        let reservation =
            self.budget.reserve(ask.country, cost, now.wall).map_err(|exhausted| why(exhausted, now))?;
        line.rate.take(now.at);
        let pass = line.breaker_mut(ask.transport).begin(now.at);
        if let Some(guard) = &mut self.guard {
            guard.sent(ask.places, now.at);
        }
        let trial = Trial { cell: (index, ask.country, ask.transport), places: ask.places };
        Ok(Ticket { provider: index, tag: line.tag, pass, reservation, trial })
    }

    fn wait(&mut self, why: Why, until: Instant, now: Now) -> Verdict {
        let pause = until.saturating_duration_since(now.at);
        // Where only a country's share is missing, others need not wait.
        let is_short = matches!(why, Why::Borrowing(Scope::Hour | Scope::Day));
        let everybody = is_short || self.is_everybody_waiting(now);
        // A rate that has no room now has some soon; other codes do not go past these because of something that only these lack.
        if !everybody && matches!(why, Why::Breaker | Why::Budget(Scope::Country(_))) {
            self.flow.put_aside(pause, now.at);
        }
        Verdict::Wait { why, pause, everybody }
    }

    /// Whether no provider could take any code at present, of whatever transport and country.
    fn is_everybody_waiting(&mut self, now: Now) -> bool {
        (0..self.lines.len()).all(|index| {
            let line = &self.lines[index];
            let is_shut = line.terms.transports.iter().all(|transport| {
                let breaker = line.breaker(*transport);
                breaker.admits(now.at).is_err() && !breaker.is_collapsed()
            });
            is_shut || line.rate.room(now.at).is_err() || self.is_unpaid(index, now)
        })
    }

    /// Whether the hour's or the day's budget covers none of the provider's codes.
    fn is_unpaid(&mut self, index: usize, now: Now) -> bool {
        let cheapest = self.lines[index].terms.cheapest();
        self.budget.is_spent(cheapest, now.wall)
    }
}

fn why(exhausted: Exhausted, now: Now) -> (Why, Instant) {
    let Exhausted { scope, until, is_short } = exhausted;
    let why = if is_short { Why::Borrowing } else { Why::Budget };
    (why(scope), now.at + until.since(now.wall))
}

impl Line {
    const fn breaker(&self, transport: Transport) -> &Breaker {
        match transport {
            Transport::Sms => &self.sms,
            Transport::Voice => &self.voice,
        }
    }

    const fn breaker_mut(&mut self, transport: Transport) -> &mut Breaker {
        match transport {
            Transport::Sms => &mut self.sms,
            Transport::Voice => &mut self.voice,
        }
    }
}

#[cfg(test)]
mod tests;
