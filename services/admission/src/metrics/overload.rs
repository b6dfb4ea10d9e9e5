//! Series of one [`Admission`](crate::Admission). Counted by the gate's own counters and moved here once a tick, so that a
//! refusal touches no shared counter.

use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use crate::admission::View;
use crate::class::{Level, Tier};
use crate::config::Mode;
use crate::gate::Refused;
use crate::pushback::Reason;
use crate::signals::Source;

/// Series are resolved once, by index.
#[derive(Clone, Debug)]
pub struct AdmissionMetrics {
    offered: [IntCounter; Tier::COUNT],
    admitted: [IntCounter; Tier::COUNT],
    refused: [[IntCounter; Reason::COUNT]; Tier::COUNT],
    shadow_refused: [[IntCounter; Reason::COUNT]; Tier::COUNT],
    queue_age: [Histogram; Tier::COUNT],
    open: [Gauge; Tier::COUNT],
    distinct: [Gauge; Tier::COUNT],
    pressure: [Gauge; Source::ALL.len()],
    rho: Gauge,
    limit: Gauge,
    inflight: Gauge,
    queued: Gauge,
    offered_rate: Gauge,
    capacity: Gauge,
    rung: Gauge,
}

/// Calls of one tier since the start, as the metrics count them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TierTotals {
    /// Seats that were asked for, refused ones included.
    pub offered_seats: u64,
    /// Calls that were given a seat.
    pub served: u64,
    pub refused: u64,
    /// Those of the served whose wait was measured, and how long they waited together.
    pub waited: u64,
    pub waited_seconds: f64,
}

/// From below the queue target to the longest queue age.
const QUEUE_AGE_S: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5];

impl AdmissionMetrics {
    /// `hop`: which of a process's admissions it is.
    ///
    /// # Errors
    ///
    /// When the registry already has these metrics for this hop.
    pub fn register(registry: &Registry, hop: &str) -> prometheus::Result<Self> {
        let make = Make { registry, hop };
        let tiers = Tier::ALL.map(Tier::name);
        let offered =
            make.counters("offered_seats_total", "Seats asked for, those refused included.", &["tier"])?;
        let admitted = make.counters("admitted_total", "Calls that were given a seat.", &["tier"])?;
        let refused = make.counters("refused_total", "Calls that were refused.", &["tier", "reason"])?;
        let shadow = make.counters(
            "shadow_refused_total",
            "Calls that would have been refused, in shadow.",
            &["tier", "reason"],
        )?;
        let opts = HistogramOpts::from(
            make.opts("queue_age_seconds", "How long calls waited that were given a seat."),
        );
        let queue_age = HistogramVec::new(opts.buckets(QUEUE_AGE_S.to_vec()), &["tier"])?;
        registry.register(Box::new(queue_age.clone()))?;
        let open = make.gauges("tau_open_ratio", "How much of a tier the gate lets through.", "tier")?;
        let distinct =
            make.gauges("distinct_waiting", "About how many users were refused lately.", "tier")?;
        let pressure = make.gauges("pressure_ratio", "A signal over its target.", "signal")?;
        let by_reason = |counters: &IntCounterVec| {
            tiers.map(|tier| Reason::ALL.map(|reason| counters.with_label_values(&[tier, reason.name()])))
        };
        Ok(Self {
            offered: tiers.map(|tier| offered.with_label_values(&[tier])),
            admitted: tiers.map(|tier| admitted.with_label_values(&[tier])),
            refused: by_reason(&refused),
            shadow_refused: by_reason(&shadow),
            queue_age: tiers.map(|tier| queue_age.with_label_values(&[tier])),
            open: tiers.map(|tier| open.with_label_values(&[tier])),
            distinct: tiers.map(|tier| distinct.with_label_values(&[tier])),
            pressure: Source::ALL.map(|source| pressure.with_label_values(&[source.name()])),
            rho: make.gauge("rho_ratio", "The fraction of what is offered that is to be refused.")?,
            limit: make.gauge("limit_seats", "Seats that may be in use at once.")?,
            inflight: make.gauge("inflight_seats", "Seats in use.")?,
            queued: make.gauge("queued_calls", "Calls that wait for a seat.")?,
            offered_rate: make.gauge("offered_seats_per_second", "Seats asked for a second.")?,
            capacity: make
                .gauge("mu_seats_per_second", "Seats that can be served a second; 0 until it is known.")?,
            rung: make.gauge("ladder_rung", "The rung of the brownout ladder, 0 to 5.")?,
        })
    }

    /// What became of a tier's calls since the start.
    pub(crate) fn totals(&self, tier: Tier) -> TierTotals {
        let at = tier as usize;
        let sum = |counters: &[IntCounter; Reason::COUNT]| counters.iter().map(IntCounter::get).sum();
        TierTotals {
            offered_seats: self.offered[at].get(),
            served: self.admitted[at].get(),
            refused: sum(&self.refused[at]),
            waited: self.queue_age[at].get_sample_count(),
            waited_seconds: self.queue_age[at].get_sample_sum(),
        }
    }

    pub(crate) fn offered(&self, by_level: &[u32; Level::COUNT]) {
        for (counter, levels) in self.offered.iter().zip(by_level.chunks(Level::COHORTS.into())) {
            counter.inc_by(levels.iter().map(|&seats| u64::from(seats)).sum());
        }
    }

    pub(crate) fn waited(&self, tier: Tier, waited: Duration) {
        self.queue_age[tier as usize].observe(waited.as_secs_f64());
    }

    pub(crate) fn tick(&self, view: &View, admitted: &[u64; Tier::COUNT], refused: &Refused) {
        let refusals = if view.mode == Mode::Shadow { &self.shadow_refused } else { &self.refused };
        for tier in Tier::ALL {
            let at = tier as usize;
            self.admitted[at].inc_by(admitted[at]);
            for (counter, &count) in refusals[at].iter().zip(&refused[at]) {
                counter.inc_by(count);
            }
            self.open[at].set(view.thresholds[at].openness(tier));
            self.distinct[at].set(view.distinct[at]);
        }
        for (gauge, pressure) in self.pressure.iter().zip(view.pressures) {
            gauge.set(pressure);
        }
        self.rho.set(view.rho);
        self.limit.set(view.limit.into());
        self.inflight.set(view.inflight.into());
        self.queued.set(view.queued as f64);
        self.offered_rate.set(view.offered);
        self.capacity.set(view.capacity.unwrap_or(0.0));
        self.rung.set(view.rung.into());
    }
}

struct Make<'a> {
    registry: &'a Registry,
    hop: &'a str,
}

impl Make<'_> {
    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("spillway_admission_{name}"), help).const_label("hop", self.hop)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(self.opts(name, help), labels)?;
        self.registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> prometheus::Result<GaugeVec> {
        let gauges = GaugeVec::new(self.opts(name, help), &[label])?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        let gauge = Gauge::with_opts(self.opts(name, help))?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_of_a_process_share_a_registry() {
        let registry = Registry::new();
        AdmissionMetrics::register(&registry, "gateway").unwrap();
        AdmissionMetrics::register(&registry, "mailbox").unwrap();
        assert!(AdmissionMetrics::register(&registry, "gateway").is_err());
        let families = registry.gather();
        assert!(families.iter().all(|family| family.name().starts_with("spillway_admission_")));
    }
}
