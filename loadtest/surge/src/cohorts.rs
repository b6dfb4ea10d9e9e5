//! Clients that do not behave, in shares of the existing users, and what they do to those who do.
//!
//! A *cohort* is a manner: polite people use the reference client, every other cohort does one thing that a client should not
//! do, and does it past the reference client, on the generated one. Who is in which cohort follows from the seed ([`Shares`],
//! [`Crowd`]). Before the surge everybody is polite, so the calm of a run is one without the rude.
//!
//! Each rude thing is one small file, which says what it is ([`About`]), who does it, and what bounds it: the load tool must
//! not be what gives out first ([`ceiling`]).
//!
//! What is owed to whom changes with the cohort, and the ledger knows it: what was acknowledged for somebody who does not
//! take mail is *withheld* and not lost, and a copy that somebody sent under another id is *repeated* and not a duplicate. A
//! message that was sent again under the same id must still arrive once.

mod again;
mod ceiling;
mod connect_and_idle;
mod contact_scraper;
mod crowd;
mod extra;
mod fixed_1s;
mod half_open;
mod hot_loop;
mod ignores_pushback;
mod impatient;
mod multi_login;
mod never_acks;
mod no_deadline;
mod no_jitter;
mod oversize;
mod polite;
mod resend_same_id;
mod rst_stream_flood;
mod rude_life;
mod shares;
mod slow_reader;
mod tally;
mod writing;
mod wrong_otp;

pub use crowd::Crowd;
pub(crate) use extra::{closed_per_s, connections};
pub(crate) use rude_life::live;
pub use shares::{Members, MembersError, Shares, SharesError};
pub use tally::Tally;
pub(crate) use writing::write;

use crate::stats::Operation;

/// Alike enough to be a slip of the fingers.
const ALIKE: f64 = 0.7;

/// A manner of using the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cohort {
    Polite,
    NoJitter,
    Fixed1s,
    HotLoop,
    IgnoresPushback,
    NoDeadline,
    Impatient,
    ResendSameId,
    Oversize,
    NeverAcks,
    SlowReader,
    HalfOpen,
    ConnectAndIdle,
    RstStreamFlood,
    MultiLogin,
    WrongOtp,
    ContactScraper,
}

/// What a cohort is, for people.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// As it is written in `--cohorts`.
    pub name: &'static str,
    /// What its members do and is counted.
    pub operation: Operation,
    /// The same in gates: `hot-loop.send.response.p99`.
    pub verb: &'static str,
    /// In a line.
    pub summary: &'static str,
    /// What it does, exactly.
    pub does: &'static str,
    /// Who in the world does it.
    pub who: &'static str,
    /// Where that was seen; empty when it is an assumption.
    pub source: &'static str,
    /// What keeps the load tool itself in bounds.
    pub ceiling: &'static str,
}

impl Cohort {
    pub const ALL: [Cohort; 17] = [
        Cohort::Polite,
        Cohort::NoJitter,
        Cohort::Fixed1s,
        Cohort::HotLoop,
        Cohort::IgnoresPushback,
        Cohort::NoDeadline,
        Cohort::Impatient,
        Cohort::ResendSameId,
        Cohort::Oversize,
        Cohort::NeverAcks,
        Cohort::SlowReader,
        Cohort::HalfOpen,
        Cohort::ConnectAndIdle,
        Cohort::RstStreamFlood,
        Cohort::MultiLogin,
        Cohort::WrongOtp,
        Cohort::ContactScraper,
    ];

    pub const fn about(self) -> &'static About {
        match self {
            Cohort::Polite => &polite::ABOUT,
            Cohort::NoJitter => &no_jitter::ABOUT,
            Cohort::Fixed1s => &fixed_1s::ABOUT,
            Cohort::HotLoop => &hot_loop::ABOUT,
            Cohort::IgnoresPushback => &ignores_pushback::ABOUT,
            Cohort::NoDeadline => &no_deadline::ABOUT,
            Cohort::Impatient => &impatient::ABOUT,
            Cohort::ResendSameId => &resend_same_id::ABOUT,
            Cohort::Oversize => &oversize::ABOUT,
            Cohort::NeverAcks => &never_acks::ABOUT,
            Cohort::SlowReader => &slow_reader::ABOUT,
            Cohort::HalfOpen => &half_open::ABOUT,
            Cohort::ConnectAndIdle => &connect_and_idle::ABOUT,
            Cohort::RstStreamFlood => &rst_stream_flood::ABOUT,
            Cohort::MultiLogin => &multi_login::ABOUT,
            Cohort::WrongOtp => &wrong_otp::ABOUT,
            Cohort::ContactScraper => &contact_scraper::ABOUT,
        }
    }

    pub const fn name(self) -> &'static str {
        self.about().name
    }

    pub const fn operation(self) -> Operation {
        self.about().operation
    }

    pub const fn is_polite(self) -> bool {
        matches!(self, Cohort::Polite)
    }

    /// What is acknowledged for its members may never be taken by them.
    pub const fn may_withhold(self) -> bool {
        matches!(self, Cohort::NeverAcks | Cohort::SlowReader)
    }

    /// Its members send copies of one message as if they were different ones.
    pub const fn repeats(self) -> bool {
        matches!(self, Cohort::Impatient)
    }

    /// Whether its members write when it is their turn. The others do nothing but what their cohort is about.
    pub const fn writes(self) -> bool {
        !matches!(
            self,
            Cohort::HalfOpen
                | Cohort::ConnectAndIdle
                | Cohort::RstStreamFlood
                | Cohort::MultiLogin
                | Cohort::WrongOtp
                | Cohort::ContactScraper
        )
    }

    pub fn find(name: &str) -> Option<Self> {
        let name = name.trim().to_lowercase().replace('_', "-");
        Self::ALL.into_iter().find(|cohort| cohort.name() == name)
    }

    /// The cohort that somebody who wrote `name` probably meant.
    pub fn like(name: &str) -> Option<Self> {
        let name = name.trim().to_lowercase().replace('_', "-");
        let alike = |cohort: &Self| strsim::jaro_winkler(&name, cohort.name());
        let best = Self::ALL.into_iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
        (alike(&best) >= ALIKE).then_some(best)
    }

    /// All names, for errors.
    pub fn names() -> String {
        Self::ALL.map(Cohort::name).join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_cohort_is_found_by_its_name_and_told_about() {
        let mut operations = HashSet::new();
        for cohort in Cohort::ALL {
            let about = cohort.about();
            assert_eq!(Cohort::find(about.name), Some(cohort));
            assert_eq!(Cohort::find(&about.name.to_uppercase().replace('-', "_")), Some(cohort));
            assert!(operations.insert(about.operation), "{}: its figures are another's", about.name);
            for text in [about.summary, about.does, about.who, about.ceiling] {
                assert!(!text.is_empty(), "{}", about.name);
            }
        }
        assert_eq!(Cohort::find("angry"), None);
    }

    #[test]
    fn a_slip_of_the_fingers_is_recognised() {
        assert_eq!(Cohort::like("hot-lop"), Some(Cohort::HotLoop));
        assert_eq!(Cohort::like("neveracks"), Some(Cohort::NeverAcks));
        assert_eq!(Cohort::like("rst_flood"), Some(Cohort::RstStreamFlood));
        assert_eq!(Cohort::like("xyzzy"), None);
    }
}
