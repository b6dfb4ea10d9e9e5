//! Whom existing users write to: anybody, or their friends.

mod graph;

use std::fmt;
use std::str::FromStr;

pub(crate) use graph::Graph;

/// How it is drawn who writes to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Friends {
    /// All pairs alike. The default, because it needs no assumption about the people, and runs that do not ask for more stay comparable.
    #[default]
    Anybody,
    /// Along the links of a graph, all alike. The share of people with `k` friends falls as `k` to the power of minus this.
    PowerLaw { exponent: f64 },
}

/// In the middle of 2 to 3, between which the networks of calls, mail and acquaintance fall that Newman compares (The structure and function of complex
/// networks, 2003, table II).
const EXPONENT: f64 = 2.5;
/// From below, the mean grows with the number of people; from above, hardly anybody has more friends than the fewest.
const EXPONENTS: std::ops::RangeInclusive<f64> = 2.0..=4.0;

impl Friends {
    /// Of so many people. `None`: all pairs are alike.
    pub(crate) fn graph(self, seed: u64, people: usize) -> Option<Graph> {
        match self {
            Self::Anybody => None,
            Self::PowerLaw { exponent } => Some(Graph::new(exponent, seed, people)),
        }
    }

    /// What a run says of it, of so many people.
    pub(crate) fn words(self, people: usize) -> String {
        match self {
            Self::Anybody => "anybody writes to anybody".to_owned(),
            Self::PowerLaw { exponent } => {
                let (fewest, most) = graph::degrees(people).into_inner();
                format!("{fewest} to {most}, by a power law with the exponent {exponent}")
            }
        }
    }
}

impl FromStr for Friends {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, exponent) = text.split_once('=').map_or((text, None), |(name, rest)| (name, Some(rest)));
        match (name.trim(), exponent) {
            ("anybody", None) => Ok(Self::Anybody),
            ("power-law", None) => Ok(Self::PowerLaw { exponent: EXPONENT }),
            ("power-law", Some(exponent)) => match exponent.trim().parse() {
                Ok(exponent) if EXPONENTS.contains(&exponent) => Ok(Self::PowerLaw { exponent }),
                _ => {
                    Err(format!("`{exponent}` is no exponent: {} to {}", EXPONENTS.start(), EXPONENTS.end()))
                }
            },
            _ => Err("write anybody, power-law, or power-law=2.5".to_owned()),
        }
    }
}

impl fmt::Display for Friends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody => f.write_str("anybody"),
            Self::PowerLaw { exponent } => write!(f, "power-law={exponent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        for text in ["anybody", "power-law=2", "power-law=2.5", "power-law=4"] {
            assert_eq!(text.parse::<Friends>().unwrap().to_string(), text);
        }
        assert_eq!("power-law".parse(), Ok(Friends::PowerLaw { exponent: 2.5 }));
        for wrong in
            ["power-law=1.9", "power-law=4.1", "power-law=NaN", "power-law=", "anybody=2", "zipf", ""]
        {
            let error = wrong.parse::<Friends>().unwrap_err();
            assert!(error.contains("2 to 4") || error.contains("power-law=2.5"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_run_says_how_many_friends_people_have() {
        assert_eq!(Friends::Anybody.words(300), "anybody writes to anybody");
        let words = Friends::PowerLaw { exponent: 2.5 }.words(300);
        assert_eq!(words, "3 to 30, by a power law with the exponent 2.5");
    }
}
