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
    pub const LEDGER_REORDERED: &str = "ledger.reordered";
    pub const LEDGER_ACKED: &str = "ledger.acked";
    pub const LEDGER_DELIVERED: &str = "ledger.delivered";
    pub const EXISTING_SUCCESS_RATIO: &str = "existing.send_success_ratio";
    pub const EXISTING_P99_MS: &str = "existing.send_p99_ms";
    pub const EXISTING_P99_BEFORE_MS: &str = "existing.send_p99_ms_before_surge";
    pub const SIGN_UP_SUCCESS_RATIO: &str = "sign_up.success_ratio";
    pub const GENERATOR_LAG_P99_MS: &str = "generator.lag_p99_ms";
    pub const GENERATOR_STEAL_RATIO: &str = "generator.steal_ratio";
    /// Arrivals that were left out because too many were under way.
    pub const GENERATOR_DROPPED: &str = "generator.dropped";
    pub const SERVER_CPU_US_PER_OP: &str = "server.cpu_us_per_op";
    pub const SERVER_BYTES_PER_SESSION: &str = "server.bytes_per_session";
    /// From the first fault that did harm until sends were again as before; the longest of them.
    pub const FAULT_RECOVERY_MS: &str = "fault.recovery_ms";
    pub const ROOM_OVERTAKING_MS: &str = "room.overtaking_ms";
    pub const ROOM_PLACES_LOST: &str = "room.places_lost";
    pub const ROOM_ESTIMATE_MAPE_RATIO: &str = "room.estimate_mape_ratio";
    pub const ROOM_ESTIMATE_INSIDE_RATIO: &str = "room.estimate_inside_ratio";
    pub const ROOM_OVER_ADMISSION_RATIO: &str = "room.over_admission_ratio";
    /// Newcomers let in a second while the provider took little, over what it took.
    pub const BROWNOUT_ADMITTED_OVER_CAPACITY: &str = "brownout.admitted_over_capacity";
    /// How much later polite people's sends were than without the rude.
    pub const HARM_P99_MS: &str = "harm.p99_ms";
    pub const LEDGER_WITHHELD: &str = "ledger.withheld";
    pub const LEDGER_REPEATED: &str = "ledger.repeated";
    pub const CODES_EXPIRED: &str = "codes.expired";
    pub const CODES_PER_ACCOUNT: &str = "codes.per_account";
    pub const PUMPING_CODES_SENT: &str = "pumping.codes_sent";
    pub const PUMPING_ANSWERED_RATIO: &str = "pumping.answered_ratio";
    pub const PUMPING_HONEST_REFUSED_RATIO: &str = "pumping.honest_refused_ratio";
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
    #[serde(rename = "<")]
    Below,
    #[serde(rename = ">")]
    Above,
    #[serde(rename = "!=")]
    NotEqual,
}

impl Comparison {
    pub fn holds(self, observed: f64, threshold: f64) -> bool {
        match self {
            Self::Equal => observed == threshold,
            Self::AtLeast => observed >= threshold,
            Self::AtMost => observed <= threshold,
            Self::Below => observed < threshold,
            Self::Above => observed > threshold,
            Self::NotEqual => observed != threshold,
        }
    }

    pub const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::AtLeast => "≥",
            Self::AtMost => "≤",
            Self::Below => "<",
            Self::Above => ">",
            Self::NotEqual => "≠",
        }
    }
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Ms,
    Us,
    Ratio,
    PerSecond,
    Count,
    Bytes,
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
    /// Where the figure's name does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// What to do when it was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl GateResult {
    pub fn unit(&self) -> Unit {
        match self.unit {
            Some(unit) => unit,
            None if self.figure.ends_with("_ratio") => Unit::Ratio,
            None if self.figure.ends_with("_ms") => Unit::Ms,
            None => Unit::Count,
        }
    }
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

impl Verdict {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Invalid => "INVALID",
            Self::Interrupted => "INTERRUPTED",
        }
    }
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

impl Judgement {
    /// Whether every gate on the generator passed.
    pub fn is_generator_well(&self) -> bool {
        self.gates.iter().filter(|gate| gate.kind == Kind::Generator).all(|gate| gate.pass)
    }
}

const fn gate(
    figure: &'static str,
    kind: Kind,
    comparison: Comparison,
    threshold: Threshold,
    means: &'static str,
) -> Gate {
    Gate { figure, kind, comparison, threshold, means }
}

/// The gates of every run against a service.
pub fn default_gates() -> Vec<Gate> {
    use Comparison::{AtLeast, AtMost, Equal};
    use Kind::{Generator, Integrity, Objective};
    use Threshold::{Fixed, Relative};

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
        // Whoever still waits has a place, and neither got in nor failed to.
        gate(
            figure::SIGN_UP_SUCCESS_RATIO,
            Objective,
            AtLeast,
            Fixed(0.99),
            "newcomers who were not turned away, and do not still wait, got in",
        ),
        gate(
            figure::GENERATOR_LAG_P99_MS,
            Generator,
            AtMost,
            Fixed(5.0),
            "the load was sent when it was planned",
        ),
        gate(
            figure::GENERATOR_DROPPED,
            Generator,
            Equal,
            Fixed(0.0),
            "every arrival that was planned was sent",
        ),
    ]
}

/// Those that are judged whatever else is wanted: losses, and the generator's health.
pub fn least_gates() -> Vec<Gate> {
    default_gates().into_iter().filter(|gate| gate.kind != Kind::Objective).collect()
}

/// At 2 % a pause of the hypervisor is in one of fifty answers, and so in every p99.
const STEAL_MAX: f64 = 0.02;

/// What is to be known of a machine of which too much was given to others. No gate of every run, because on shared hosts hardly a run would
/// be without it; `generator.steal` makes it one.
pub fn steal_warning(steal_ratio: f64) -> Option<String> {
    (steal_ratio > STEAL_MAX).then(|| {
        format!(
            "the host gave {:.1} % of this machine's processors to others, so the highest percentiles are partly its own; a gate such as \
             'generator.steal <= 2%' makes such a run INVALID",
            steal_ratio * 100.0
        )
    })
}

/// What somebody can do about a gate that was missed.
fn advice(figure: &str) -> Option<String> {
    let text = match figure {
        figure::GENERATOR_LAG_P99_MS => {
            "The load tool itself came too late. Run it on a machine of its own (--target), lower the rate (--peak, --sends), or end \
             what else runs on this machine"
        }
        figure::GENERATOR_DROPPED => {
            "So many were under way that the rest was left out, as --on-overflow shed says: raise --max-in-flight, or leave it out, and the \
             service is asked everything"
        }
        figure::EXISTING_SUCCESS_RATIO => {
            "The report says for what reasons. QUOTA: each person wrote more often than the service lets one, so let more of them write \
             (--existing), or all of them less (--sends)"
        }
        figure::GENERATOR_STEAL_RATIO => {
            "The hypervisor gave this machine's processors to others. Repeat the run when the host is quieter, or on dedicated processors"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// What is known of a waiting room, and so can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgeable {
    /// Enough people waited for long enough after they had been told for how long.
    pub estimates: bool,
    /// How many it means to let in, and that some waited for it.
    pub seats: bool,
}

/// The gates of a waiting room that people came through.
pub fn room_gates(known: Judgeable) -> Vec<Gate> {
    use Comparison::{AtLeast, AtMost, Equal};
    use Kind::Objective;
    use Threshold::Fixed;

    let mut gates = vec![
        // Numbers are lent to gateways for a second.
        gate(
            figure::ROOM_OVERTAKING_MS,
            Objective,
            AtMost,
            Fixed(1_000.0),
            "nobody was overtaken by somebody who came more than a second later",
        ),
        gate(
            figure::ROOM_PLACES_LOST,
            Objective,
            Equal,
            Fixed(0.0),
            "nobody who asked when told to lost a place",
        ),
    ];
    if known.estimates {
        // The figures of experiment E16, for waits that are as short as a compressed month makes them.
        gates.push(gate(
            figure::ROOM_ESTIMATE_MAPE_RATIO,
            Objective,
            AtMost,
            Fixed(0.15),
            "the wait was about what people were told at first",
        ));
        gates.push(gate(
            figure::ROOM_ESTIMATE_INSIDE_RATIO,
            Objective,
            AtLeast,
            Fixed(0.75),
            "most waits ended within the range that was told at first",
        ));
    }
    if known.seats {
        gates.push(gate(
            // Of ten seconds and more. Who is called comes some seconds later, so a room that begins to fill calls a few too many until it knows
            // how many come; over minutes that is made good.
            figure::ROOM_OVER_ADMISSION_RATIO,
            Objective,
            AtMost,
            Fixed(0.1),
            "no more were let in than there was room for",
        ));
    }
    gates
}

/// The gates of a provider that fails for a while.
pub fn brownout_gates() -> Vec<Gate> {
    use Comparison::{AtMost, Equal};
    use Kind::Objective;
    use Threshold::Fixed;

    vec![
        gate(figure::CODES_EXPIRED, Objective, Equal, Fixed(0.0), "no code arrived after it had expired"),
        gate(figure::CODES_PER_ACCOUNT, Objective, AtMost, Fixed(1.15), "hardly a code was paid for twice"),
        // Half more than the provider takes: what is under way when it fails, and what was let in before that was known.
        gate(
            figure::BROWNOUT_ADMITTED_OVER_CAPACITY,
            Objective,
            AtMost,
            Fixed(1.5),
            "no more were let in than codes could be sent to",
        ),
    ]
}

/// The gates of a prefix that is pumped.
pub fn pumping_gates() -> Vec<Gate> {
    use Comparison::{AtLeast, AtMost};
    use Kind::Objective;
    use Threshold::Fixed;

    vec![
        // Experiment E17.
        gate(
            figure::PUMPING_CODES_SENT,
            Objective,
            AtMost,
            Fixed(60.0),
            "the pumped prefix was cut off soon",
        ),
        gate(
            figure::PUMPING_HONEST_REFUSED_RATIO,
            Objective,
            AtMost,
            Fixed(0.005),
            "honest people got their codes",
        ),
        gate(
            figure::PUMPING_ANSWERED_RATIO,
            Objective,
            AtLeast,
            Fixed(0.99),
            "whoever pumps is answered as everybody is, and learns nothing",
        ),
    ]
}

/// How a run ended, and what was asked of it beside its own gates.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// By the user.
    pub interrupted: bool,
    /// By a gate.
    pub aborted: bool,
    /// What came of the gates that a user wrote.
    pub asked: Vec<GateResult>,
}

/// Compares every gate and draws the conclusion.
///
/// One code is returned, so the facts that no other result can excuse come first: an interrupted run is incomplete
/// whatever it saw; a lost or repeated message is a fact even when the generator was late; a late generator makes
/// latencies and ratios meaningless; only then does a missed objective say something about the service, and an objective that ended the run
/// is told apart from one that was missed at the end.
pub fn judge(gates: &[Gate], observed: &Observations, ending: Ending) -> Judgement {
    let mut gates: Vec<_> = gates.iter().map(|gate| gate.compare(observed)).collect();
    gates.extend(ending.asked);
    let missed = |kind| gates.iter().any(|gate| gate.kind == kind && !gate.pass);
    let (verdict, exit_code) = if ending.interrupted {
        (Verdict::Interrupted, ExitCode::Interrupted)
    } else if missed(Kind::Integrity) {
        (Verdict::Fail, ExitCode::Integrity)
    } else if missed(Kind::Generator) {
        (Verdict::Invalid, ExitCode::GeneratorOverloaded)
    } else if ending.aborted {
        (Verdict::Fail, ExitCode::Aborted)
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
        let pass = observed
            .zip(threshold)
            .is_some_and(|(observed, threshold)| self.comparison.holds(observed, threshold));
        GateResult {
            figure: self.figure.to_owned(),
            kind: self.kind,
            comparison: self.comparison,
            threshold,
            observed,
            pass,
            means: self.means.to_owned(),
            unit: None,
            // Of what was not measured, nobody knows what to do.
            advice: (!pass && observed.is_some()).then(|| advice(self.figure)).flatten(),
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
            .set(figure::GENERATOR_LAG_P99_MS, Some(0.8))
            .set(figure::GENERATOR_DROPPED, Some(0.0));
        figures
    }

    fn exit(change: &[(&'static str, f64)], interrupted: bool) -> ExitCode {
        let mut figures = good();
        for (figure, value) in change {
            figures.set(figure, Some(*value));
        }
        judge(&default_gates(), &figures, Ending { interrupted, ..Ending::default() }).exit_code
    }

    #[test]
    fn the_gravest_fact_decides_the_exit_code() {
        let slow = (figure::EXISTING_P99_MS, 60.1);
        let late = (figure::GENERATOR_LAG_P99_MS, 5.1);
        let lost = (figure::LEDGER_LOST, 1.0);
        assert_eq!(exit(&[], false), ExitCode::Pass);
        assert_eq!(exit(&[slow], false), ExitCode::ObjectiveMissed);
        assert_eq!(exit(&[slow, late], false), ExitCode::GeneratorOverloaded);
        assert_eq!(exit(&[slow, (figure::GENERATOR_DROPPED, 1.0)], false), ExitCode::GeneratorOverloaded);
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
    fn a_run_that_a_gate_ended_is_told_apart_and_stolen_time_makes_it_invalid() {
        let aborted = || Ending { aborted: true, ..Ending::default() };
        assert_eq!(judge(&default_gates(), &good(), aborted()).exit_code, ExitCode::Aborted);
        let mut figures = good();
        figures.set(figure::GENERATOR_STEAL_RATIO, Some(0.021));
        let asked = gate(
            figure::GENERATOR_STEAL_RATIO,
            Kind::Generator,
            Comparison::AtMost,
            Threshold::Fixed(0.02),
            "",
        );
        let gates = [default_gates(), vec![asked]].concat();
        let judgement = judge(&gates, &figures, aborted());
        assert_eq!(
            (judgement.verdict, judgement.exit_code),
            (Verdict::Invalid, ExitCode::GeneratorOverloaded)
        );
        let advice = judgement.gates.last().unwrap().advice.as_deref().unwrap();
        assert!(advice.contains("dedicated processors"), "{advice}");
        figures.set(figure::GENERATOR_STEAL_RATIO, Some(0.02));
        assert_eq!(judge(&gates, &figures, Ending::default()).exit_code, ExitCode::Pass);
    }

    #[test]
    fn whoever_did_not_ask_is_only_warned_of_stolen_time() {
        assert!(steal_warning(0.034).unwrap().contains("3.4 %"));
        assert_eq!(steal_warning(0.02), None);
        assert!(default_gates().iter().all(|gate| gate.figure != figure::GENERATOR_STEAL_RATIO));
    }

    #[test]
    fn what_cannot_be_known_of_a_room_is_not_judged() {
        let of = |estimates, seats| room_gates(Judgeable { estimates, seats }).len();
        assert_eq!([of(false, false), of(true, false), of(false, true), of(true, true)], [2, 4, 3, 5]);
    }

    #[test]
    fn what_was_not_observed_does_not_pass() {
        let judgement = judge(&default_gates(), &Observations::default(), Ending::default());
        assert!(judgement.gates.iter().all(|gate| !gate.pass && gate.advice.is_none()));
        let mut figures = good();
        figures.0.remove(figure::EXISTING_P99_BEFORE_MS);
        let judgement = judge(&default_gates(), &figures, Ending::default());
        let failed: Vec<_> = judgement.gates.iter().filter(|gate| !gate.pass).collect();
        assert_eq!((failed.len(), failed[0].threshold), (1, None));
    }
}
