//! Who would be rude in a run, how, and what that needs.

use std::fmt::Write as _;

use crate::cohorts::{Shares, closed_per_s, connections};
use crate::load::Load;
use crate::report::text::{count, number};

/// What the rude need beside what every user needs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rude {
    /// Connections at the end of the load, when there are most.
    pub connections: u64,
    /// Connections that may be closed a second.
    pub closed_per_s: f64,
}

impl Rude {
    /// Of `part` of the members; what is begun counts whole.
    pub(crate) fn of(shares: &Shares, existing: u32, load: &Load, part: f64) -> Self {
        let mut rude = Self::default();
        for (cohort, members) in shares.counts(existing) {
            let members = (f64::from(members) * part).ceil() as u64;
            rude.connections += members * connections(cohort, load.duration());
            rude.closed_per_s += closed_per_s(cohort, members);
        }
        rude
    }
}

/// A line for each cohort. Nothing when everybody is polite.
pub fn cohorts(shares: &Shares, existing: u32, load: &Load) -> String {
    if !shares.has_rude() {
        return String::new();
    }
    let mut text = format!(
        "\nCohorts of {} existing users, polite ones until the calm is over:\n  {:<18} {:>7}  {:>8}  {:>17}  {:>16}  at most\n",
        count(u64::from(existing)),
        "cohort",
        "people",
        "share",
        "of messages",
        "more connections"
    );
    for (cohort, members) in shares.counts(existing) {
        let share = 100.0 * f64::from(members) / f64::from(existing);
        let writes =
            if cohort.writes() { format!("{} %", number(share)) } else { "writes nothing".to_owned() };
        let more = u64::from(members) * connections(cohort, load.duration());
        writeln!(
            text,
            "  {:<18} {:>7}  {:>8}  {writes:>17}  {:>16}  {}",
            cohort.name(),
            count(u64::from(members)),
            format!("{} %", number(share)),
            count(more),
            cohort.about().ceiling
        )
        .expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::curve::Curve;
    use crate::load::Op;

    fn load(seconds: u64) -> Load {
        Load::one(Op::Send, Curve::constant(10.0, Duration::from_secs(seconds)).unwrap())
    }

    #[test]
    fn who_is_rude_is_said_with_how_many_and_what_they_need() {
        let shares: Shares = "rst-stream-flood=1%,connect-and-idle=4%,half-open=5%".parse().unwrap();
        let text = cohorts(&shares, 100, &load(60));
        let line = |name: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(line("polite").starts_with("polite 90 90 % 90 % 0 what the load plans"), "{text}");
        assert!(
            line("rst-stream-flood").starts_with("rst-stream-flood 1 1 % writes nothing 1 1,000 streams"),
            "{text}"
        );
        assert!(
            line("connect-and-idle").starts_with("connect-and-idle 4 4 % writes nothing 16 four"),
            "{text}"
        );
        assert!(line("half-open").starts_with("half-open 5 5 % writes nothing 20 16 dead"), "{text}");
        let rude = Rude::of(&shares, 100, &load(60), 1.0);
        assert_eq!(rude, Rude { connections: 1 + 16 + 20, closed_per_s: 16.0 });
        assert_eq!(
            Rude::of(&shares, 100, &load(60), 0.5).connections,
            1 + 8 + 12,
            "of one of two workers, at most"
        );
        assert_eq!(cohorts(&Shares::default(), 100, &load(1)), "");
    }
}
