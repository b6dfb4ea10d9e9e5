//! The verdict in one sentence, for people who will not read the rest.

use super::{GateResult, Judgement, Verdict, figure};

/// One plain sentence about what happened, and another one if people still wait for their turn.
pub fn headline(judgement: &Judgement, still_waiting: u64) -> String {
    match judgement.verdict {
        Verdict::Pass if still_waiting == 0 => return "Existing users did not notice.".to_owned(),
        Verdict::Pass if still_waiting == 1 => {
            return "Existing users did not notice. One newcomer still waits, and has a place.".to_owned();
        }
        Verdict::Pass => {
            return format!(
                "Existing users did not notice. {still_waiting} newcomers still wait, and have their places."
            );
        }
        Verdict::Interrupted => {
            return "Stopped before the end; what follows covers the part that ran.".to_owned();
        }
        Verdict::Invalid => {
            let missed =
                judgement.gates.iter().find(|gate| gate.kind == super::Kind::Generator && !gate.pass);
            return match missed.map(|gate| gate.figure.as_str()) {
                Some(figure::GENERATOR_STEAL_RATIO) => {
                    "The host gave this machine's processors to others, so this run proves nothing."
                }
                Some(figure::GENERATOR_DROPPED) => {
                    "Part of the load was left out, so this run proves nothing about the rest."
                }
                _ => "The load was not sent on time, so this run proves nothing.",
            }
            .to_owned();
        }
        Verdict::Fail => {}
    }
    let missed = judgement.gates.iter().find(|gate| !gate.pass && gate.kind != super::Kind::Generator);
    missed.map_or_else(|| "A gate was missed.".to_owned(), sentence)
}

fn sentence(gate: &GateResult) -> String {
    let Some(observed) = gate.observed else {
        return match gate.unit {
            Some(_) => format!("Nothing was measured for the gate `{}`.", gate.figure),
            None => format!("Nothing was measured to show that {}.", gate.means),
        };
    };
    match gate.figure.as_str() {
        figure::LEDGER_LOST if observed == 1.0 => "One acknowledged message was lost.".to_owned(),
        figure::LEDGER_LOST => format!("{observed} acknowledged messages were lost."),
        figure::LEDGER_DUPLICATED if observed == 1.0 => "One message arrived twice.".to_owned(),
        figure::LEDGER_DUPLICATED => format!("{observed} messages arrived more than once."),
        figure::LEDGER_CORRUPTED => "Messages arrived changed.".to_owned(),
        figure::EXISTING_SUCCESS_RATIO => "Existing users noticed: their messages failed.".to_owned(),
        figure::EXISTING_P99_MS => "Existing users noticed: their messages slowed down.".to_owned(),
        figure::ROOM_OVERTAKING_MS => {
            format!("Somebody was overtaken by who came {:.1} s later.", observed / 1_000.0)
        }
        figure::ROOM_PLACES_LOST => {
            "Existing users did not notice, but places in the room were lost.".to_owned()
        }
        figure::ROOM_ESTIMATE_MAPE_RATIO | figure::ROOM_ESTIMATE_INSIDE_RATIO => {
            "Existing users did not notice, but newcomers were told wrong waits.".to_owned()
        }
        figure::ROOM_OVER_ADMISSION_RATIO => "More newcomers were let in than there was room for.".to_owned(),
        figure::BROWNOUT_ADMITTED_OVER_CAPACITY => {
            format!("Newcomers were let in {observed:.1} times as fast as the provider took codes.")
        }
        figure::CODES_EXPIRED => "Codes arrived after they had expired.".to_owned(),
        figure::CODES_PER_ACCOUNT => format!("Each account cost {observed:.2} codes."),
        figure::PUMPING_CODES_SENT => format!("{observed} codes went to a prefix that was pumped."),
        figure::PUMPING_HONEST_REFUSED_RATIO => "Honest people got no codes.".to_owned(),
        figure::SIGN_UP_SUCCESS_RATIO => "Existing users did not notice, but sign-ups failed.".to_owned(),
        asked if gate.unit.is_some() => format!("The gate `{asked}` was missed."),
        _ => format!("Not so: {}.", gate.means),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::{Ending, Observations, default_gates, judge};

    #[test]
    fn the_gravest_fact_makes_the_headline() {
        let mut figures = Observations::default();
        figures
            .set(figure::LEDGER_LOST, Some(0.0))
            .set(figure::LEDGER_DUPLICATED, Some(2.0))
            .set(figure::LEDGER_CORRUPTED, Some(0.0))
            .set(figure::EXISTING_P99_MS, Some(1e6));
        let judgement = judge(&default_gates(), &figures, Ending::default());
        assert_eq!(headline(&judgement, 0), "2 messages arrived more than once.");
        figures.set(figure::LEDGER_DUPLICATED, Some(0.0)).set(figure::GENERATOR_LAG_P99_MS, Some(0.0));
        let judgement =
            judge(&default_gates(), figures.set(figure::GENERATOR_DROPPED, Some(3.0)), Ending::default());
        assert!(headline(&judgement, 0).starts_with("Part of the load was left out"));
        figures.set(figure::GENERATOR_DROPPED, Some(0.0));
        assert_eq!(
            headline(&judge(&default_gates(), &figures, Ending::default()), 0),
            "Nothing was measured to show that existing users' sends succeeded during the surge."
        );
    }
    #[test]
    fn who_still_waits_is_told_of_and_is_no_failure() {
        let judgement = judge(&[], &Observations::default(), Ending::default());
        assert_eq!(judgement.verdict, Verdict::Pass);
        assert_eq!(headline(&judgement, 0), "Existing users did not notice.");
        assert_eq!(
            headline(&judgement, 38),
            "Existing users did not notice. 38 newcomers still wait, and have their places."
        );
    }
}
