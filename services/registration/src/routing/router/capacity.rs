//! What can be sent at present.

use spillway_store::verifications::Transport;
use tokio::time::Instant;

use super::{Now, Router};
use crate::routing::breaker::Readiness;
use crate::routing::budget::Left;
use crate::routing::capacity::{Capacity, CountryCapacity, paid, shared_out};

/// Codes a second that can be counted on while a provider is tried with one at a time.
const PROBES: f64 = 1.0;
/// Of the last minute's messages, so many may have no receipt before it is thought that they are late.
const MISSING_MAX: f64 = 0.5;
/// Of what is sent, so that it is seen when they arrive again.
const LEFT_WHEN_NONE_ARRIVE: f64 = 0.05;

impl Router {
    /// What can be sent. `calls`: calls a second that there is room for, whoever takes them.
    pub(crate) fn capacity(&mut self, calls: f64, queued: usize, now: Now) -> Capacity {
        let arriving: Vec<f64> =
            (0..self.lines.len()).map(|provider| self.arriving(provider, now.at)).collect();
        let all = self.counted_on(None, &arriving, now.at).min(calls);
        let serving = |country| self.counted_on(Some(country), &arriving, now.at).min(calls);
        let providers = shared_out(all, &self.flow, serving, now.at);
        let countries: Vec<(u16, f64)> = self.flow.sign_ups(now.at).collect();
        let sms = self.lines.iter().filter(|line| line.terms.transports.contains(&Transport::Sms));
        let dearest = sms.clone().map(|line| line.terms.dearest_sms()).max().unwrap_or(0);
        let cost = self.flow.cost(dearest, now.at);
        let is_free = sms
            .clone()
            .any(|line| line.terms.dearest_sms() == 0 && line.sms.readiness(now.at) == Readiness::Ready);
        let cost = if is_free { 0.0 } else { cost };
        let [hour, day] = self.budget.lasting(now.wall);
        let least = |of: fn(Left) -> u64| paid(hour, cost, of).min(paid(day, cost, of));
        let paid_in = |(country, sign_ups)| CountryCapacity {
            country,
            sign_ups,
            paid: paid(self.budget.left_in(country, now.wall), cost, |left| left.own),
            paid_shared: paid(self.budget.left_in(country, now.wall), cost, |left| left.shared),
        };
        let sign_ups = countries.iter().map(|(_, count)| count).sum();
        Capacity {
            providers,
            paid: least(|left| left.own),
            paid_shared: least(|left| left.shared),
            codes: self.flow.codes(now.at),
            sign_ups,
            aside: self.flow.aside(now.at),
            queued,
            countries: countries.into_iter().map(paid_in).collect(),
            places: self.guard.as_mut().map(|guard| guard.tell(now.at)).unwrap_or_default(),
        }
    }

    /// Codes a second that arrive, where receipts say that most of the last minute's have not: whoever takes everything and delivers it
    /// late is as full as one who says so. Infinite where they have.
    fn arriving(&mut self, provider: usize, now: Instant) -> f64 {
        if !self.records.gives_receipts(provider, Transport::Sms, now) {
            return f64::INFINITY;
        }
        match self.receipts.missing(provider, now) {
            Some(missing) if missing > MISSING_MAX => {
                self.lines[provider].rate.measured_lately(now) * (1.0 - missing).max(LEFT_WHEN_NONE_ARRIVE)
            }
            _ => f64::INFINITY,
        }
    }

    /// SMS a second that providers take, for a country or for all. Those that are thought to reach nobody count when no others are left.
    fn counted_on(&self, country: Option<u16>, arriving: &[f64], now: Instant) -> f64 {
        let rates = |last_resort| {
            let serving = self.lines.iter().zip(arriving).filter(move |(line, _)| match country {
                Some(country) => line.terms.serves(country, Transport::Sms),
                None => line.terms.transports.contains(&Transport::Sms),
            });
            serving.map(move |(line, arriving)| match line.sms.readiness(now) {
                Readiness::Ready => line.rate.usable(now).min(*arriving),
                Readiness::Probing => line.rate.usable(now).min(PROBES),
                Readiness::LastResort if last_resort => line.rate.usable(now),
                Readiness::LastResort | Readiness::Shut => 0.0,
            })
        };
        let rate: f64 = rates(false).sum();
        if rate > 0.0 { rate } else { rates(true).sum() }
    }
}
