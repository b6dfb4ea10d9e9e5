//! What a rule has seen so far.

use std::collections::VecDeque;

use super::{After, Count, Kind, Metric, Rule, Statistic};
use crate::outputs::markdown;
use crate::progress::GateNow;
use crate::slo::{Comparison, GateResult, Kind as GateKind, Observations, figure};
use crate::stats::Latency;
use crate::timeline::OperationRow;

/// What an operation did in a second, or in a part of it that was recorded late.
pub struct Seen<'a> {
    pub second: u64,
    pub phase: &'a str,
    pub operation: &'a str,
    pub row: &'a OperationRow,
    /// Adds what was recorded of a kind.
    pub add: &'a dyn Fn(Kind, &mut Latency),
}

impl std::fmt::Debug for Seen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").field("second", &self.second).field("operation", &self.operation).finish()
    }
}

#[derive(Clone, Debug, Default)]
struct Sum {
    offered: u64,
    ok: u64,
    refused: u64,
    failed: u64,
    latency: Latency,
}

impl Sum {
    fn add(&mut self, other: &Sum) {
        self.offered += other.offered;
        self.ok += other.ok;
        self.refused += other.refused;
        self.failed += other.failed;
        self.latency.add(&other.latency);
    }
}

/// A rule and what it has seen. Fed second by second, in order.
#[derive(Clone, Debug)]
pub struct Watch {
    rule: Rule,
    whole: Sum,
    seconds: u64,
    /// The seconds of a window, newest last.
    window: VecDeque<(u64, Sum)>,
    first: Option<u64>,
    /// The worst window.
    worst: Option<f64>,
    /// When it was missed first, of windows and of rules that abort.
    missed_at: Option<u64>,
}

impl Watch {
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            whole: Sum::default(),
            seconds: 0,
            window: VecDeque::new(),
            first: None,
            worst: None,
            missed_at: None,
        }
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    pub fn add(&mut self, seen: &Seen<'_>) {
        let (operation, kind) = match &self.rule.metric {
            Metric::Latency { operation, kind, .. } => (operation, Some(*kind)),
            Metric::Count { operation, .. } => (operation, None),
            Metric::Final { .. } => return,
        };
        if operation != seen.operation || !counts(self.rule.after, seen.second, seen.phase) {
            return;
        }
        let mut sum = Sum {
            offered: seen.row.offered,
            ok: seen.row.ok,
            refused: seen.row.refused,
            failed: seen.row.failed,
            latency: Latency::default(),
        };
        if let Some(kind) = kind {
            (seen.add)(kind, &mut sum.latency);
        }
        if self.rule.window_s.is_some() {
            match self.window.iter_mut().rev().find(|(second, _)| *second == seen.second) {
                Some((_, kept)) => kept.add(&sum),
                None => self.window.push_back((seen.second, sum)),
            }
        } else {
            self.whole.add(&sum);
        }
    }

    /// A second is over. True when the run has to end because of it.
    pub fn close(&mut self, second: u64, phase: &str) -> bool {
        if !counts(self.rule.after, second, phase) {
            return false;
        }
        let first = *self.first.get_or_insert(second);
        self.seconds = second - first + 1;
        let value = match self.rule.window_s {
            // While nothing is sent any more, rates fall without meaning anything.
            Some(_) if phase == crate::run::SETTLING => None,
            Some(length) => {
                self.window.retain(|(at, _)| at + length > second);
                if self.seconds < length {
                    return false;
                }
                let mut sum = Sum::default();
                for (_, part) in &self.window {
                    sum.add(part);
                }
                let value = value(&self.rule.metric, &sum, length);
                if let Some(value) = value {
                    let worse = self.worst.is_none_or(|worst| is_worse(self.rule.comparison, value, worst));
                    self.worst = if worse { Some(value) } else { self.worst };
                }
                value
            }
            None if self.rule.abort => value(&self.rule.metric, &self.whole, self.seconds),
            None => None,
        };
        let missed = value.is_some_and(|value| !self.rule.comparison.holds(value, self.rule.threshold));
        if missed {
            self.missed_at.get_or_insert(second);
        }
        missed && self.rule.abort
    }

    /// How it stands, for whoever watches the run.
    pub fn now(&self) -> GateNow {
        let result = self.result(&Observations::default());
        let seen = result.observed.is_some();
        GateNow {
            text: self.rule.text.clone(),
            value: seen.then(|| markdown::value(&result, result.observed)),
            holds: seen.then_some(result.pass),
        }
    }

    /// What it comes to. Final figures are among `observed`.
    pub fn result(&self, observed: &Observations) -> GateResult {
        let value = match (&self.rule.metric, self.rule.window_s) {
            (Metric::Final { figure, .. }, _) => observed.get(figure),
            (_, Some(_)) => self.worst,
            (metric, None) => value(metric, &self.whole, self.seconds),
        };
        let holds = value.is_some_and(|value| self.rule.comparison.holds(value, self.rule.threshold));
        let aborted = self.rule.abort && self.missed_at.is_some();
        GateResult {
            figure: self.rule.text.clone(),
            kind: kind(&self.rule.metric),
            comparison: self.rule.comparison,
            threshold: Some(self.rule.threshold),
            observed: value,
            pass: holds && !aborted,
            means: means(self.missed_at, &self.rule),
            unit: Some(self.rule.metric.unit()),
            advice: None,
        }
    }
}

fn counts(after: After, second: u64, phase: &str) -> bool {
    match after {
        After::Start => true,
        After::Warmup => phase != crate::run::BEFORE,
        After::Seconds(seconds) => second >= seconds,
    }
}

fn kind(metric: &Metric) -> GateKind {
    match metric {
        Metric::Final {
            figure: figure::LEDGER_LOST | figure::LEDGER_DUPLICATED | figure::LEDGER_CORRUPTED,
            ..
        } => GateKind::Integrity,
        Metric::Final {
            figure: figure::GENERATOR_LAG_P99_MS | figure::GENERATOR_STEAL_RATIO | figure::GENERATOR_DROPPED,
            ..
        } => GateKind::Generator,
        _ => GateKind::Objective,
    }
}

fn means(missed_at: Option<u64>, rule: &Rule) -> String {
    let mut means = match (&rule.metric, rule.window_s) {
        (_, Some(length)) => format!("as asked for, in any {length} s"),
        (_, None) => "as asked for".to_owned(),
    };
    if let Some(second) = missed_at {
        means += &format!("; missed first at {second} s");
        if rule.abort {
            means += ", which ended the run";
        }
    }
    means
}

fn value(metric: &Metric, sum: &Sum, seconds: u64) -> Option<f64> {
    let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    match metric {
        Metric::Latency { statistic: Statistic::Quantile(quantile), .. } => {
            sum.latency.quantile_ms(*quantile)
        }
        Metric::Latency { statistic: Statistic::Mean, .. } => sum.latency.mean_ms(),
        Metric::Latency { statistic: Statistic::Max, .. } => sum.latency.max_ms(),
        Metric::Count { count, .. } => match count {
            Count::ErrorRate => ratio(sum.failed, sum.ok + sum.failed),
            Count::SuccessRate => ratio(sum.ok, sum.ok + sum.failed),
            Count::RefusedRate => ratio(sum.refused, sum.ok + sum.failed + sum.refused),
            Count::Rate => ratio(sum.ok, seconds),
            Count::Offered => Some(sum.offered as f64),
            Count::Ok => Some(sum.ok as f64),
            Count::Refused => Some(sum.refused as f64),
            Count::Failed => Some(sum.failed as f64),
        },
        Metric::Final { .. } => None,
    }
}

fn is_worse(comparison: Comparison, value: f64, than: f64) -> bool {
    match comparison {
        Comparison::AtLeast | Comparison::Above => value < than,
        _ => value > than,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Feeds one latency a second, of `send`, after two seconds of calm.
    fn watch(text: &str, ms: &[u64]) -> (Watch, Option<usize>) {
        let mut watch = Watch::new(Rule::parse(text).unwrap());
        for (second, ms) in ms.iter().enumerate() {
            let phase = if second < 2 { "before" } else { "surge" };
            let row = OperationRow { offered: 1, ok: 1, ..OperationRow::default() };
            let add = |kind, latency: &mut Latency| {
                if kind == Kind::Response {
                    latency.record(Duration::from_millis(*ms));
                }
            };
            let seen =
                Seen { second: second as u64, phase, operation: "existing_send", row: &row, add: &add };
            watch.add(&seen);
            if watch.close(second as u64, phase) {
                return (watch, Some(second));
            }
        }
        (watch, None)
    }

    fn passes(text: &str, ms: &[u64]) -> bool {
        watch(text, ms).0.result(&Observations::default()).pass
    }

    #[test]
    fn the_whole_run_may_be_good_while_a_window_is_not() {
        let ms = [[10; 10], [300; 10], [10; 10]].concat();
        assert!(passes("send.response.p50 < 250ms", &ms));
        assert!(!passes("send.response.p50 < 250ms any 10s", &ms));
        assert!(passes("send.response.p50 < 250ms any 25s", &ms));
        assert!(!passes("send.response.max < 250ms", &ms));
        let result = watch("send.response.p50 < 250ms any 10s", &ms).0.result(&Observations::default());
        assert!(
            (result.observed.unwrap() - 300.0).abs() < 1.0 && result.means.contains("missed first at"),
            "{result:?}"
        );
    }

    #[test]
    fn warm_up_does_not_count() {
        let ms = [900, 900, 10, 10];
        assert!(!passes("send.response.max < 250ms", &ms));
        assert!(passes("send.response.max < 250ms after warmup", &ms));
        assert!(passes("send.response.max < 250ms after 2s", &ms));
        assert!(!passes("send.response.max < 250ms after 1s", &ms));
    }

    #[test]
    fn an_abort_comes_in_the_second_of_the_miss() {
        let ms = [900, 900, 10, 10, 900, 10];
        assert_eq!(watch("send.response.max < 250ms abort after warmup", &ms).1, Some(4));
        assert_eq!(watch("send.response.max < 250ms after warmup", &ms).1, None);
        assert_eq!(watch("send.response.max < 250ms any 2s after warmup abort", &ms).1, Some(4));
    }

    #[test]
    fn what_nobody_saw_does_not_pass() {
        assert!(!passes("signup.response.p99 < 1s", &[10, 10]));
        assert!(!passes("e2e.lost == 0", &[]));
        assert!(
            !passes("send.response.p99 < 1s any 10s", &[10, 10]),
            "a run that is shorter than the window"
        );
        let mut observed = Observations::default();
        observed.set(figure::LEDGER_LOST, Some(0.0));
        assert!(watch("e2e.lost == 0", &[]).0.result(&observed).pass);
    }

    #[test]
    fn rates_are_of_the_seconds_that_count() {
        assert!(passes("send.rate >= 1/s", &[10; 20]));
        assert!(!passes("send.rate > 1/s", &[10; 20]));
        assert!(passes("send.rate == 1/s any 5s", &[10; 20]));
        assert!(passes("send.error_rate == 0", &[10; 3]) && passes("send.offered == 3", &[10; 3]));
    }
}
