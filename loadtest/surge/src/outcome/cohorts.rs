//! What each cohort did, from the recording of a run: the same for one process, for several workers, and for what was merged or continued.

use std::collections::BTreeMap;

use crate::cohorts::Cohort;
use crate::recording::Figures;
use crate::summary::CohortSummary;
use crate::timeline::{CohortRow, Row};

/// Who of a run's existing users is in which cohort, and for how long they were themselves.
#[derive(Clone, Debug)]
pub(crate) struct Acting<'a> {
    pub(crate) people: &'a BTreeMap<String, u64>,
    /// Of the load, after the calm.
    pub(crate) load_s: f64,
}

/// Of those that have members. `figures` are those of a cohort's operation since the surge began; `withheld` is what two workers saw of messages
/// between their people, which is in no row.
pub(crate) fn cohorts<'a>(
    acting: &Acting<'_>,
    rows: impl Iterator<Item = &'a Row>,
    withheld: &BTreeMap<Cohort, u64>,
    figures: impl Fn(Cohort) -> Figures,
) -> Vec<CohortSummary> {
    let asked = added_up(rows);
    let summary = |cohort: Cohort| {
        let people = acting.people.get(cohort.name()).copied().filter(|people| *people > 0)?;
        let asked = asked.get(cohort.name()).copied().unwrap_or_default();
        let figures = figures(cohort);
        Some(CohortSummary {
            name: cohort.name().to_owned(),
            operation: cohort.operation().0.to_owned(),
            people,
            first_attempts: asked.wanted,
            attempts: asked.attempts,
            amplification: (asked.wanted > 0).then(|| asked.attempts as f64 / asked.wanted as f64),
            ok: figures.ok,
            refused: figures.refused,
            failed: figures.failed,
            goodput_per_s: (acting.load_s > 0.0).then(|| figures.ok as f64 / acting.load_s),
            p99_ms: figures.response.quantile_ms(0.99),
            withheld: asked.withheld + withheld.get(&cohort).copied().unwrap_or(0),
        })
    };
    Cohort::ALL.into_iter().filter_map(summary).collect()
}

fn added_up<'a>(rows: impl Iterator<Item = &'a Row>) -> BTreeMap<&'a str, CohortRow> {
    let mut all: BTreeMap<&str, CohortRow> = BTreeMap::new();
    for (cohort, asked) in rows.flat_map(|row| &row.cohorts) {
        all.entry(cohort).or_default().add(*asked);
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::Recording;

    fn row(second: u64, wanted: u64, attempts: u64, withheld: u64) -> Row {
        let asked = CohortRow { wanted, attempts, withheld };
        Row { second, cohorts: [("hot-loop".to_owned(), asked)].into(), ..Row::default() }
    }

    proptest! {
        /// However the seconds of a run are dealt out to load tools, what a cohort asked for is what all of them asked for.
        #[test]
        fn parts_add_up_to_the_whole(
            seconds in prop::collection::vec((0..50u64, 0..500u64, 0..3u64, 0..4usize), 1..40)
        ) {
            let mut whole = Recording::default();
            let mut parts = vec![Recording::default(); 4];
            for (second, (wanted, attempts, withheld, part)) in (0..).zip(&seconds) {
                let row = row(second / 3, *wanted, *attempts, *withheld);
                whole.add_row(row.clone());
                parts[*part].add_row(row);
            }
            let mut merged = Recording::default();
            parts.iter().for_each(|part| merged.merge(part));
            let people = BTreeMap::from([("hot-loop".to_owned(), 3), ("polite".to_owned(), 9)]);
            let acting = Acting { people: &people, load_s: 10.0 };
            let of = |recording: &Recording| {
                cohorts(&acting, recording.rows(), &BTreeMap::new(), |_| Figures::default())
            };
            prop_assert_eq!(of(&merged), of(&whole));
            let hot = &of(&merged)[1];
            prop_assert_eq!(hot.first_attempts, seconds.iter().map(|second| second.0).sum::<u64>());
            prop_assert_eq!(hot.withheld, seconds.iter().map(|second| second.2).sum::<u64>());
        }
    }

    #[test]
    fn who_has_no_members_has_no_row_and_who_asked_for_nothing_is_not_amplified() {
        let people = BTreeMap::from([("polite".to_owned(), 9), ("hot-loop".to_owned(), 0)]);
        let acting = Acting { people: &people, load_s: 5.0 };
        let figures =
            |cohort: Cohort| Figures { ok: if cohort.is_polite() { 20 } else { 7 }, ..Figures::default() };
        let withheld = BTreeMap::from([(Cohort::Polite, 2)]);
        let told = cohorts(&acting, [].iter(), &withheld, figures);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].goodput_per_s, told[0].amplification, told[0].withheld), (Some(4.0), None, 2));
    }
}
