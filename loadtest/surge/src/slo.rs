//! Gates, and the verdict that follows from them.
//!
//! A gate compares one observed figure with a threshold. A figure that was not observed does not pass: a gate that
//! cannot see proves nothing.

mod exit;
mod headline;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use exit::ExitCode;
pub use headline::headline;

/// The figures that the default gates look at.
pub mod figure {
    pub const LEDGER_LOST: &str = "ledger.lost";
    pub const LEDGER_DUPLICATED: &str = "ledger.duplicated";
    pub const LEDGER_CORRUPTED: &str = "ledger.corrupted";
    pub const EXISTING_SUCCESS_RATIO: &str = "existing.send_success_ratio";
    pub const EXISTING_P99_MS: &str = "existing.send_p99_ms";
    pub const EXISTING_P99_BEFORE_MS: &str = "existing.send_p99_ms_before_surge";
    pub const SIGN_UP_SUCCESS_RATIO: &str = "sign_up.success_ratio";
    pub const GENERATOR_LAG_P99_MS: &str = "generator.lag_p99_ms";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Messages were lost, repeated or changed.
    Integrity,
    /// The generator did not do what it planned, so its figures describe itself.
    Generator,
    /// The service was slower or failed more than agreed.
    Objective,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    #[serde(rename = "==")]
    Equal,
    #[serde(rename = ">=")]
    AtLeast,
    #[serde(rename = "<=")]
    AtMost,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    Fixed(f64),
    /// `factor` × another figure `+ plus`.
    Relative {
        figure: &'static str,
        factor: f64,
        plus: f64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    pub figure: &'static str,
    pub kind: Kind,
    pub comparison: Comparison,
    pub threshold: Threshold,
    /// What passing means, for a reader who knows nothing of the figure's name.
    pub means: &'static str,
}

/// A gate that was compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    pub figure: String,
    pub kind: Kind,
    pub comparison: Comparison,
    /// `None` when it depends on a figure that was not observed.
    pub threshold: Option<f64>,
    pub observed: Option<f64>,
    pub pass: bool,
    pub means: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Pass,
    Fail,
    /// The generator was overloaded; nothing follows about the service.
    Invalid,
    Interrupted,
}

/// Figures by name.
#[derive(Clone, Debug, Default)]
pub struct Observations(BTreeMap<&'static str, f64>);

impl Observations {
    /// Sets a figure; `None` and NaN leave it unobserved.
    pub fn set(&mut self, figure: &'static str, value: Option<f64>) -> &mut Self {
        if let Some(value) = value.filter(|value| !value.is_nan()) {
            self.0.insert(figure, value);
        }
        self
    }

    pub fn get(&self, figure: &str) -> Option<f64> {
        self.0.get(figure).copied()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub exit_code: ExitCode,
    pub gates: Vec<GateResult>,
}

/// The gates of a run that names none.
pub fn default_gates() -> Vec<Gate> {
    use Comparison::{AtLeast, AtMost, Equal};
    use Kind::{Generator, Integrity, Objective};
    use Threshold::{Fixed, Relative};

    let gate =
        |figure, kind, comparison, threshold, means| Gate { figure, kind, comparison, threshold, means };
    let before = figure::EXISTING_P99_BEFORE_MS;
    vec![
        gate(figure::LEDGER_LOST, Integrity, Equal, Fixed(0.0), "no acknowledged message was lost"),
        gate(figure::LEDGER_DUPLICATED, Integrity, Equal, Fixed(0.0), "no message arrived twice"),
        gate(figure::LEDGER_CORRUPTED, Integrity, Equal, Fixed(0.0), "no message arrived changed"),
        gate(
            figure::EXISTING_SUCCESS_RATIO,
            Objective,
            AtLeast,
            Fixed(0.999),
            "existing users' sends succeeded during the surge",
        ),
        // Twice is what people begin to feel; 50 ms keeps a very fast calm from making a tiny rise count.
        gate(
            figure::EXISTING_P99_MS,
            Objective,
            AtMost,
            Relative { figure: before, factor: 2.0, plus: 50.0 },
            "existing users' sends stayed about as fast as before",
        ),
        gate(
            figure::SIGN_UP_SUCCESS_RATIO,
            Objective,
            AtLeast,
            Fixed(0.99),
            "newcomers who were not turned away got in",
        ),
        gate(
            figure::GENERATOR_LAG_P99_MS,
            Generator,
            AtMost,
            Fixed(5.0),
            "the load was sent when it was planned",
        ),
    ]
}

/// Compares every gate and draws the conclusion.
///
/// One code is returned, so the facts that no other result can excuse come first: an interrupted run is incomplete
/// whatever it saw; a lost or repeated message is a fact even when the generator was late; a late generator makes
/// latencies and ratios meaningless; only then does a missed objective say something about the service.
pub fn judge(gates: &[Gate], observed: &Observations, interrupted: bool) -> Judgement {
    let gates: Vec<_> = gates.iter().map(|gate| gate.compare(observed)).collect();
    let missed = |kind| gates.iter().any(|gate| gate.kind == kind && !gate.pass);
    let (verdict, exit_code) = if interrupted {
        (Verdict::Interrupted, ExitCode::Interrupted)
    } else if missed(Kind::Integrity) {
        (Verdict::Fail, ExitCode::Integrity)
    } else if missed(Kind::Generator) {
        (Verdict::Invalid, ExitCode::GeneratorOverloaded)
    } else if missed(Kind::Objective) {
        (Verdict::Fail, ExitCode::ObjectiveMissed)
    } else {
        (Verdict::Pass, ExitCode::Pass)
    };
    Judgement { verdict, exit_code, gates }
}

impl Gate {
    fn compare(&self, figures: &Observations) -> GateResult {
        let threshold = match self.threshold {
            Threshold::Fixed(value) => Some(value),
            Threshold::Relative { figure, factor, plus } => {
                figures.get(figure).map(|value| factor * value + plus)
            }
        };
        let observed = figures.get(self.figure);
        let pass = observed.zip(threshold).is_some_and(|(observed, threshold)| match self.comparison {
            Comparison::Equal => observed == threshold,
            Comparison::AtLeast => observed >= threshold,
            Comparison::AtMost => observed <= threshold,
        });
        GateResult {
            figure: self.figure.to_owned(),
            kind: self.kind,
            comparison: self.comparison,
            threshold,
            observed,
            pass,
            means: self.means.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Observations {
        let mut figures = Observations::default();
        figures
            .set(figure::LEDGER_LOST, Some(0.0))
            .set(figure::LEDGER_DUPLICATED, Some(0.0))
            .set(figure::LEDGER_CORRUPTED, Some(0.0))
            .set(figure::EXISTING_SUCCESS_RATIO, Some(0.9999))
            .set(figure::EXISTING_P99_MS, Some(60.0))
            .set(figure::EXISTING_P99_BEFORE_MS, Some(5.0))
            .set(figure::SIGN_UP_SUCCESS_RATIO, Some(1.0))
            .set(figure::GENERATOR_LAG_P99_MS, Some(0.8));
        figures
    }

    fn exit(change: &[(&'static str, f64)], interrupted: bool) -> ExitCode {
        let mut figures = good();
        for (figure, value) in change {
            figures.set(figure, Some(*value));
        }
        judge(&default_gates(), &figures, interrupted).exit_code
    }

    #[test]
    fn the_gravest_fact_decides_the_exit_code() {
        let slow = (figure::EXISTING_P99_MS, 60.1);
        let late = (figure::GENERATOR_LAG_P99_MS, 5.1);
        let lost = (figure::LEDGER_LOST, 1.0);
        assert_eq!(exit(&[], false), ExitCode::Pass);
        assert_eq!(exit(&[slow], false), ExitCode::ObjectiveMissed);
        assert_eq!(exit(&[slow, late], false), ExitCode::GeneratorOverloaded);
        assert_eq!(exit(&[slow, late, lost], false), ExitCode::Integrity);
        assert_eq!(exit(&[slow, late, lost], true), ExitCode::Interrupted);
        assert_eq!(exit(&[(figure::LEDGER_DUPLICATED, 1.0)], false), ExitCode::Integrity);
        assert_eq!(exit(&[(figure::SIGN_UP_SUCCESS_RATIO, 0.9899)], false), ExitCode::ObjectiveMissed);
    }

    #[test]
    fn each_gate_alone_can_fail_the_run() {
        let worst = [(Comparison::Equal, 1.0), (Comparison::AtLeast, 0.0), (Comparison::AtMost, 1e9)];
        for gate in default_gates() {
            let (_, bad) = worst.iter().find(|(comparison, _)| *comparison == gate.comparison).unwrap();
            assert_ne!(exit(&[(gate.figure, *bad)], false), ExitCode::Pass, "{}", gate.figure);
        }
    }

    #[test]
    fn what_was_not_observed_does_not_pass() {
        let judgement = judge(&default_gates(), &Observations::default(), false);
        assert!(judgement.gates.iter().all(|gate| !gate.pass));
        let mut figures = good();
        figures.0.remove(figure::EXISTING_P99_BEFORE_MS);
        let judgement = judge(&default_gates(), &figures, false);
        let failed: Vec<_> = judgement.gates.iter().filter(|gate| !gate.pass).collect();
        assert_eq!((failed.len(), failed[0].threshold), (1, None));
    }
}
