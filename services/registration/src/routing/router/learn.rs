//! What becomes of codes that were sent, as it is told: by receipts, and by whether they are typed.

use std::time::Duration;

use rand::Rng;
use spillway_store::verifications::VerificationId;
use tokio::time::Instant;

use super::{Receipted, Router, Ticket};
use crate::routing::receipts::{Delivery, Message};
use crate::routing::record::Cell;
use crate::routing::trials::{Judgement, Trial};

impl Router {
    /// The provider took the code of `ticket`, `waited` after it was asked for, and will call it `name`. Answers with what it has said of it
    /// already.
    pub(crate) fn awaits_receipt(
        &mut self,
        ticket: &Ticket,
        name: &str,
        session: VerificationId,
        waited: Duration,
        now: Instant,
    ) -> Option<Receipted> {
        let message = Message { cell: ticket.trial.cell, session, taken_at: now, waited };
        let delivery = self.receipts.taken(name, message, now)?;
        Some(self.receipted(message, delivery, now))
    }

    /// A receipt has come. Answers with what is new by it.
    pub(crate) fn receipt(
        &mut self,
        provider: usize,
        name: &str,
        delivery: Delivery,
        now: Instant,
    ) -> Option<Receipted> {
        let message = self.receipts.came(provider, name, delivery, now)?;
        Some(self.receipted(message, delivery, now))
    }

    /// Whether a provider is known to give receipts.
    pub(crate) fn gives_receipts(&self, ticket: &Ticket, now: Instant) -> bool {
        let (provider, _, transport) = ticket.trial.cell;
        self.records.gives_receipts(provider, transport, now)
    }

    /// A session's code was typed.
    pub(crate) fn proved(&mut self, session: VerificationId, now: Instant) {
        if let Some(known) = self.trials.proved(session) {
            self.judge(known, now);
        }
    }

    /// Sessions whose outcome is to be looked up now.
    pub(crate) fn due(&mut self, max: usize, now: Instant) -> Vec<VerificationId> {
        let mut known = Vec::new();
        let due = self.trials.due(max, now, |trial, judgement| known.push((trial, judgement)));
        known.into_iter().for_each(|known| self.judge(known, now));
        due
    }

    /// The outcome that was looked up.
    pub(crate) fn seen(&mut self, session: VerificationId, proved: bool, now: Instant) {
        let known: Vec<_> = self.trials.seen(session, proved).collect();
        known.into_iter().for_each(|known| self.judge(known, now));
    }

    /// The outcome could not be looked up: again at `at`.
    pub(crate) fn unseen(&mut self, session: VerificationId, at: Instant) {
        self.trials.unseen(session, at);
    }

    pub(super) fn judge(&mut self, (trial, judgement): (Trial, Judgement), now: Instant) {
        if let Some(guard) = &mut self.guard {
            match judgement {
                Judgement::Proved => guard.judged(trial.places, true, now),
                Judgement::Ripe { proved: false } => guard.judged(trial.places, false, now),
                // The guard has counted it already.
                Judgement::Ripe { proved: true } => {}
                Judgement::Late => guard.late(trial.places, now),
            }
        }
        match judgement {
            Judgement::Proved => {}
            Judgement::Late => self.records.late(trial.cell, now),
            Judgement::Ripe { proved } => {
                self.records.judged(trial.cell, proved, now);
                if !proved {
                    self.look_for_collapse(trial.cell, now);
                }
            }
        }
    }

    fn receipted(&mut self, message: Message, delivery: Delivery, now: Instant) -> Receipted {
        let Message { cell, session, taken_at, waited } = message;
        let arrived = delivery == Delivery::Arrived;
        let delay = waited + now.saturating_duration_since(taken_at);
        self.records.receipted(cell, arrived, now);
        if arrived {
            self.records.delayed(cell, delay, now);
        } else {
            self.look_for_collapse(cell, now);
        }
        Receipted { session, provider: self.lines[cell.0].tag, arrived, delay }
    }

    fn look_for_collapse(&mut self, (provider, _, transport): Cell, now: Instant) {
        if !self.records.has_collapsed(provider, transport, now) {
            return;
        }
        self.records.forget_lately(provider, transport);
        let jitter = self.rng.random();
        self.lines[provider].breaker_mut(transport).collapsed(jitter, now);
    }
}
