//! How many of the people are in which cohort, and who.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::Cohort;
use crate::report::text::number;

/// Shares of all people, which are 1 together; polite people are the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    text: String,
    of: BTreeMap<Cohort, f64>,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SharesError {
    #[error("`{0}` is not written as hot-loop=5%")]
    Part(String),
    #[error("no cohort is called `{name}`{}; there are {}", suggestion(.meant), Cohort::names())]
    Unknown { name: String, meant: Option<Cohort> },
    #[error("`{0}` is not a share: write 5% or 0.05, more than nothing and at most 100%")]
    Share(String),
    #[error("{0} has two shares")]
    Twice(&'static str),
    #[error("the shares are {} % together, which is more than everybody", number(.0 * 100.0))]
    TooMuch(f64),
    #[error(
        "the shares are {} % together and not 100 %: leave out polite, which is then the rest, or make it {} %",
        number(.sum * 100.0), number(.polite * 100.0)
    )]
    TooLittle { sum: f64, polite: f64 },
    #[error("nobody is polite; some must be, because the question is what the others do to them")]
    NobodyPolite,
}

fn suggestion(meant: &Option<Cohort>) -> String {
    meant.map_or_else(String::new, |cohort| format!(" (did you mean `{}`?)", cohort.name()))
}

/// Closer than what anybody writes down.
const NEAR: f64 = 1e-9;

impl Default for Shares {
    /// Everybody is polite.
    fn default() -> Self {
        Self { text: Cohort::Polite.name().to_owned() + "=100%", of: BTreeMap::from([(Cohort::Polite, 1.0)]) }
    }
}

impl FromStr for Shares {
    type Err = SharesError;

    fn from_str(text: &str) -> Result<Self, SharesError> {
        let mut of = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, share) = part.split_once('=').ok_or_else(|| SharesError::Part(part.to_owned()))?;
            let name = name.trim();
            let cohort = Cohort::find(name)
                .ok_or_else(|| SharesError::Unknown { name: name.to_owned(), meant: Cohort::like(name) })?;
            if of.insert(cohort, parse(share.trim())?).is_some() {
                return Err(SharesError::Twice(cohort.name()));
            }
        }
        if of.is_empty() {
            return Err(SharesError::Part(text.to_owned()));
        }
        let sum: f64 = of.values().sum();
        if sum > 1.0 + NEAR {
            return Err(SharesError::TooMuch(sum));
        }
        let rest = 1.0 - sum;
        match of.get(&Cohort::Polite) {
            Some(polite) if rest > NEAR => {
                return Err(SharesError::TooLittle { sum, polite: polite + rest });
            }
            Some(_) => {}
            None if rest <= NEAR => return Err(SharesError::NobodyPolite),
            None => {
                of.insert(Cohort::Polite, rest);
            }
        }
        Ok(Self { text: text.trim().to_owned(), of })
    }
}

fn parse(text: &str) -> Result<f64, SharesError> {
    let wrong = || SharesError::Share(text.to_owned());
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map_err(|_| wrong())? / 100.0,
        None => text.parse::<f64>().map_err(|_| wrong())?,
    };
    if share > 0.0 && share <= 1.0 + NEAR { Ok(share) } else { Err(wrong()) }
}

/// Who of so many people is in which cohort.
#[derive(Clone, Debug, PartialEq)]
pub struct Members {
    of: Vec<Cohort>,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MembersError {
    #[error(
        "{} % of {people} existing users are nobody: let there be more of them (--existing {least}), or more of {}",
        number(.share * 100.0), .cohort.name()
    )]
    Nobody { cohort: Cohort, share: f64, people: u32, least: u64 },
    #[error(
        "{polite} of {people} existing users would be polite, and it takes two to write: let there be more (--existing)"
    )]
    Alone { polite: u32, people: u32 },
}

impl Shares {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether anybody is anything but polite.
    pub fn has_rude(&self) -> bool {
        self.of.keys().any(|cohort| !cohort.is_polite())
    }

    /// Whether both are the same, however they were written.
    pub fn are_those_of(&self, other: &Self) -> bool {
        self.of.len() == other.of.len()
            && self.of.iter().zip(&other.of).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < NEAR)
    }

    /// How many of `people` are in each cohort: within one of its share, and all of them together.
    ///
    /// By largest remainder: everybody's share is rounded down, and those who are left go where most was cut off.
    pub fn counts(&self, people: u32) -> BTreeMap<Cohort, u32> {
        // A share such as 0.07 is a little less or more than what was written; that must not take somebody away.
        let exact = |share: f64| share * f64::from(people) + NEAR;
        let mut counts: BTreeMap<_, _> =
            self.of.iter().map(|(cohort, share)| (*cohort, exact(*share).floor() as u32)).collect();
        let mut cut: Vec<_> =
            self.of.iter().map(|(cohort, share)| (exact(*share).fract(), *cohort)).collect();
        cut.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let left = people.saturating_sub(counts.values().sum());
        for (_, cohort) in cut.into_iter().take(left as usize) {
            *counts.entry(cohort).or_default() += 1;
        }
        counts
    }

    /// Who is in which cohort. The same seed gives the same people the same manners.
    ///
    /// # Errors
    ///
    /// When a cohort that has a share gets nobody, or there are not two polite people.
    pub fn members(&self, people: u32, seed: u64) -> Result<Members, MembersError> {
        let counts = self.counts(people);
        for (cohort, share) in &self.of {
            if counts.get(cohort) == Some(&0) {
                let least = (1.0 / share).ceil() as u64;
                return Err(MembersError::Nobody { cohort: *cohort, share: *share, people, least });
            }
        }
        let polite = counts.get(&Cohort::Polite).copied().unwrap_or(0);
        if polite < 2 {
            return Err(MembersError::Alone { polite, people });
        }
        let mut of: Vec<_> =
            counts.iter().flat_map(|(cohort, count)| std::iter::repeat_n(*cohort, *count as usize)).collect();
        of.shuffle(&mut SmallRng::seed_from_u64(seed ^ 0xC0_0087));
        Ok(Members { of })
    }
}

impl Members {
    /// Everybody, polite.
    pub fn polite(people: u32) -> Self {
        Self { of: vec![Cohort::Polite; people as usize] }
    }

    /// Newcomers and everybody else who is not there at first are polite.
    pub fn of(&self, index: u32) -> Cohort {
        self.of.get(index as usize).copied().unwrap_or(Cohort::Polite)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, Cohort)> {
        (0..).zip(self.of.iter().copied())
    }

    pub fn count(&self, cohort: Cohort) -> u64 {
        self.of.iter().filter(|of| **of == cohort).count() as u64
    }

    /// Among these people: where several workers play, each has its own.
    pub fn count_in(&self, people: Range<u32>, cohort: Cohort) -> u64 {
        people.filter(|index| *index < self.of.len() as u32 && self.of(*index) == cohort).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::workers::Part;

    fn shares(text: &str) -> Shares {
        text.parse().unwrap()
    }

    fn error(text: &str) -> String {
        text.parse::<Shares>().unwrap_err().to_string()
    }

    #[test]
    fn shares_are_read_and_the_rest_is_polite() {
        let written = shares("polite=90%, hot-loop=5%,never_acks=0.05");
        assert_eq!(written.of, shares("hot-loop=5%,never-acks=5%").of);
        assert_eq!(written.counts(300)[&Cohort::HotLoop], 15);
        assert_eq!(written.counts(300)[&Cohort::Polite], 270);
        assert!(written.are_those_of(&shares("never-acks=5%,hot-loop=5%")));
        assert!(!written.are_those_of(&shares("never-acks=5%,hot-loop=6%")));
        assert!(!written.are_those_of(&shares("never-acks=5%")));
        assert!(written.has_rude() && !Shares::default().has_rude() && !shares("polite=100%").has_rude());
    }

    #[test]
    fn what_is_wrong_is_said_with_what_was_meant() {
        assert!(error("hot-lop=5%").contains("did you mean `hot-loop`?"), "{}", error("hot-lop=5%"));
        assert!(error("xyzzy=5%").contains("there are polite, no-jitter"));
        assert!(error("polite=90%,hot-loop=5%").contains("make it 95 %"));
        assert!(error("hot-loop=60%,never-acks=50%").contains("110 % together"));
        assert!(error("hot-loop=100%").contains("nobody is polite"));
        assert!(error("hot-loop").contains("hot-loop=5%"));
        assert!(error("hot-loop=5%,hot-loop=5%").contains("two shares"));
        for nonsense in ["", "hot-loop=0%", "hot-loop=-1%", "hot-loop=NaN", "hot-loop=x%", "hot-loop=101%"] {
            assert!(nonsense.parse::<Shares>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_share_of_nobody_is_refused_with_how_many_it_takes() {
        let few = shares("hot-loop=1%").members(12, 7).unwrap_err();
        assert!(few.to_string().contains("--existing 100"), "{few}");
        assert!(shares("hot-loop=1%").members(100, 7).is_ok());
        assert!(matches!(shares("hot-loop=50%").members(2, 7), Err(MembersError::Alone { polite: 1, .. })));
    }

    #[test]
    fn who_is_what_follows_from_the_seed() {
        let shares = shares("hot-loop=10%,never-acks=10%");
        let members = |seed| shares.members(200, seed).unwrap();
        assert_eq!(members(7), members(7));
        assert_ne!(members(7), members(8));
        assert_eq!(members(7).of(5_000), Cohort::Polite, "newcomers are");
        let first = members(7).iter().take(20).filter(|(_, cohort)| !cohort.is_polite()).count();
        assert!(first < 20, "they are not one block");
    }

    prop_compose! {
        /// Weights in thousandths, of which the polite have the rest.
        fn any_shares()(weights in prop::collection::btree_map(1..Cohort::ALL.len(), 1..50u32, 1..9)) -> Shares {
            let parts = weights.iter().map(|(at, weight)| {
                format!("{}={}%", Cohort::ALL[*at].name(), f64::from(*weight) / 10.0)
            });
            parts.collect::<Vec<_>>().join(",").parse().unwrap()
        }
    }

    proptest! {
        #[test]
        fn everybody_is_in_one_cohort_and_none_is_more_than_one_off(shares in any_shares(), people in 2..5_000u32) {
            let counts = shares.counts(people);
            prop_assert_eq!(counts.values().sum::<u32>(), people);
            for (cohort, count) in &counts {
                let exact = shares.of[cohort] * f64::from(people);
                prop_assert!((f64::from(*count) - exact).abs() < 1.0 + 1e-6, "{}: {count} for {exact}", cohort.name());
            }
        }

        #[test]
        fn members_are_as_many_as_were_counted(shares in any_shares(), people in 2..3_000u32, seed: u64) {
            let counts = shares.counts(people);
            match shares.members(people, seed) {
                Ok(members) => {
                    for cohort in Cohort::ALL {
                        let counted = counts.get(&cohort).copied().unwrap_or(0);
                        prop_assert_eq!(members.count(cohort), u64::from(counted));
                        // However many play it, nobody is missing and nobody is there twice.
                        let parts = Part::split(&[2, 1, 4]);
                        let here = |part: &Part| members.count_in(part.users(people), cohort);
                        prop_assert_eq!(parts.iter().map(here).sum::<u64>(), u64::from(counted));
                    }
                    prop_assert_eq!(members.iter().count(), people as usize);
                }
                Err(MembersError::Nobody { cohort, least, .. }) => {
                    prop_assert_eq!(counts[&cohort], 0);
                    prop_assert!(least > 1);
                }
                Err(MembersError::Alone { polite, .. }) => prop_assert!(polite < 2),
            }
        }

        #[test]
        fn shares_of_everything_are_everything(shares in any_shares()) {
            prop_assert!((shares.of.values().sum::<f64>() - 1.0).abs() < 1e-9);
            let again: Shares = shares.text().parse().unwrap();
            prop_assert_eq!(again, shares);
        }
    }
}
