//! Gates of what a load has in it.

use std::sync::atomic::Ordering::Relaxed;

use super::conclusion::Figured;
use crate::cohorts::Cohort;
use crate::load::{Load, Op};
use crate::recording::Figures;
use crate::slo::{Comparison, Gate, Kind, Observations, Threshold, figure};
use crate::workload::{BACK, RECONNECT, World};

pub(super) const BACK_P99_MS: &str = "back_online.p99_ms";
pub(super) const BACK_COUNT: &str = "back_online.ok";
pub(super) const AMPLIFICATION_AFTER: &str = "retries.amplification_after";

/// The bar for ten thousand streams that are lost at once is 10 s until 99 % are back (EMQX takes 16,000 to 20,000 connections a second).
const BACK_WITHIN_MS: f64 = 10_000.0;
/// What the client's retry budget allows in the long run.
const AMPLIFICATION_MAX: f64 = 1.1;

const fn objective(
    figure: &'static str,
    comparison: Comparison,
    threshold: f64,
    means: &'static str,
) -> Gate {
    Gate { figure, kind: Kind::Objective, comparison, threshold: Threshold::Fixed(threshold), means }
}

/// Of people who lose their sessions, or come.
pub(crate) fn of_sessions() -> [Gate; 2] {
    [
        objective(
            BACK_P99_MS,
            Comparison::AtMost,
            BACK_WITHIN_MS,
            "who lost the connection, or came, was online within ten seconds",
        ),
        objective(BACK_COUNT, Comparison::AtLeast, 1.0, "somebody came back"),
    ]
}

/// Those of `gates` that this load can be judged by, and its own.
pub(super) fn for_load(gates: Vec<Gate>, load: &Load) -> Vec<Gate> {
    let has = |op| load.curve(op).is_some_and(|curve| curve.total() > 0.0);
    let mut gates: Vec<_> = gates
        .into_iter()
        .filter(|gate| gate.figure != figure::SIGN_UP_SUCCESS_RATIO || has(Op::SignUp))
        .collect();
    if has(Op::Reconnect) || has(Op::Flap) || has(Op::Wake) {
        gates.extend(of_sessions());
    }
    if load.behaviour.send_patience.is_some() {
        gates.push(objective(
            AMPLIFICATION_AFTER,
            Comparison::AtMost,
            AMPLIFICATION_MAX,
            "nobody goes on asking again once answers are in time",
        ));
    }
    gates
}

pub(super) fn observe(observed: &mut Observations, all: &Figured<'_>, world: &World) {
    observe_sessions(observed, &all.of(BACK), &all.of(RECONNECT));
    observed.set(AMPLIFICATION_AFTER, amplification_after(world));
}

pub(crate) fn observe_sessions(observed: &mut Observations, back: &Figures, reconnect: &Figures) {
    observed
        .set(BACK_P99_MS, back.response.quantile_ms(0.99))
        .set(BACK_COUNT, (back.ok > 0 || reconnect.offered > 0).then_some(back.ok as f64));
}

/// What people wanted to be done, and how often it was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    wanted: u64,
    attempts: u64,
}

impl Asked {
    pub(super) fn so_far(world: &World) -> Self {
        // The meter takes what a person sends again for something new.
        let again = world.sent_again.load(Relaxed);
        // Polite people's sends have a meter of their own since the surge began.
        let sends = world.crowd.tally(Cohort::Polite).meter();
        let wanted = (world.meter.first_attempts() + sends.first_attempts()).saturating_sub(again);
        Self { wanted, attempts: world.meter.attempts() + sends.attempts() }
    }

    /// Attempts for each thing that was wanted.
    pub(super) fn amplification(self) -> Option<f64> {
        (self.wanted > 0).then(|| self.attempts as f64 / self.wanted as f64)
    }
}

/// Since answers are in time again.
fn amplification_after(world: &World) -> Option<f64> {
    let (wanted, attempts) = *world.asked_until_recovery.get()?;
    let now = Asked::so_far(world);
    let since =
        Asked { wanted: now.wanted.saturating_sub(wanted), attempts: now.attempts.saturating_sub(attempts) };
    since.amplification()
}

/// Keeps what was asked for until now.
pub(super) fn recovered(world: &World) {
    let Asked { wanted, attempts } = Asked::so_far(world);
    // A second recovery is none: the first one counts.
    world.asked_until_recovery.set((wanted, attempts)).ok();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::curve::Curve;
    use crate::slo::default_gates;

    #[test]
    fn a_load_is_judged_by_what_is_in_it() {
        let curve = || Curve::constant(1.0, Duration::from_secs(1)).unwrap();
        let figures =
            |load: &Load| for_load(default_gates(), load).iter().map(|gate| gate.figure).collect::<Vec<_>>();
        let sends = figures(&Load::one(Op::Send, curve()));
        assert!(!sends.contains(&figure::SIGN_UP_SUCCESS_RATIO) && !sends.contains(&BACK_P99_MS));
        let both = figures(&Load::one(Op::SignUp, curve()).plus(&Load::one(Op::Wake, curve())));
        assert!(both.contains(&figure::SIGN_UP_SUCCESS_RATIO) && both.contains(&BACK_P99_MS));
        let none = Curve::constant(0.0, Duration::from_secs(1)).unwrap();
        assert!(!figures(&Load::one(Op::Reconnect, none)).contains(&BACK_P99_MS));
    }
}
