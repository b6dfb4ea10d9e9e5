//! The verdict in one sentence, for people who will not read the rest.

use super::{GateResult, Judgement, Verdict, figure};

/// One plain sentence about what happened.
pub fn headline(judgement: &Judgement) -> String {
    match judgement.verdict {
        Verdict::Pass => return "Existing users did not notice.".to_owned(),
        Verdict::Interrupted => {
            return "Stopped before the end; what follows covers the part that ran.".to_owned();
        }
        Verdict::Invalid => return "The load was not sent on time, so this run proves nothing.".to_owned(),
        Verdict::Fail => {}
    }
    let missed = judgement.gates.iter().find(|gate| !gate.pass && gate.kind != super::Kind::Generator);
    missed.map_or_else(|| "A gate was missed.".to_owned(), sentence)
}

fn sentence(gate: &GateResult) -> String {
    let Some(observed) = gate.observed else {
        return format!("Nothing was measured to show that {}.", gate.means);
    };
    match gate.figure.as_str() {
        figure::LEDGER_LOST if observed == 1.0 => "One acknowledged message was lost.".to_owned(),
        figure::LEDGER_LOST => format!("{observed} acknowledged messages were lost."),
        figure::LEDGER_DUPLICATED if observed == 1.0 => "One message arrived twice.".to_owned(),
        figure::LEDGER_DUPLICATED => format!("{observed} messages arrived more than once."),
        figure::LEDGER_CORRUPTED => "Messages arrived changed.".to_owned(),
        figure::EXISTING_SUCCESS_RATIO => "Existing users noticed: their messages failed.".to_owned(),
        figure::EXISTING_P99_MS => "Existing users noticed: their messages slowed down.".to_owned(),
        figure::SIGN_UP_SUCCESS_RATIO => "Existing users did not notice, but sign-ups failed.".to_owned(),
        _ => format!("Not so: {}.", gate.means),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::{Observations, default_gates, judge};

    #[test]
    fn the_gravest_fact_makes_the_headline() {
        let mut figures = Observations::default();
        figures
            .set(figure::LEDGER_LOST, Some(0.0))
            .set(figure::LEDGER_DUPLICATED, Some(2.0))
            .set(figure::LEDGER_CORRUPTED, Some(0.0))
            .set(figure::EXISTING_P99_MS, Some(1e6));
        let judgement = judge(&default_gates(), &figures, false);
        assert_eq!(headline(&judgement), "2 messages arrived more than once.");
        figures.set(figure::LEDGER_DUPLICATED, Some(0.0)).set(figure::GENERATOR_LAG_P99_MS, Some(0.0));
        assert_eq!(
            headline(&judge(&default_gates(), &figures, false)),
            "Nothing was measured to show that existing users' sends succeeded during the surge."
        );
    }
}
