//! What can be done to a fleet.

use std::fmt;
use std::str::FromStr;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use spillway_fleet::{NodeKind, Role};

/// One fault, or two at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Kill(Kill),
    Pair(Kill, Kill),
    /// SIGSTOP of a mailbox worker past its fence, then SIGCONT.
    FreezeMailbox,
    /// Every server of NATS is killed and comes back.
    NatsGone,
    /// SIGSTOP of one node of the database for 3 s, again and again.
    SlowCassandra,
    /// Every device drops its connection at once and comes back.
    Reconnect,
}

/// `kill -9` of one process; it is started again after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    Gateway,
    Mailbox,
    Registration,
    ControlHolder,
    Nats,
    Cassandra,
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no case; there are {names}, and pairs such as kill-gateway+kill-nats", names = names())]
pub struct UnknownCase(String);

impl Kill {
    pub const ALL: [Self; 6] =
        [Self::Gateway, Self::Mailbox, Self::Registration, Self::ControlHolder, Self::Nats, Self::Cassandra];

    pub(super) fn node_kind(self) -> NodeKind {
        match self {
            Self::Gateway => NodeKind::Role(Role::Gateway),
            Self::Mailbox => NodeKind::Role(Role::Mailbox),
            Self::Registration => NodeKind::Role(Role::Registration),
            Self::ControlHolder => NodeKind::Role(Role::Control),
            Self::Nats => NodeKind::Nats,
            Self::Cassandra => NodeKind::Cassandra,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "kill-gateway",
            Self::Mailbox => "kill-mailbox",
            Self::Registration => "kill-registration",
            Self::ControlHolder => "kill-control-holder",
            Self::Nats => "kill-nats",
            Self::Cassandra => "kill-cassandra",
        }
    }
}

impl Case {
    /// All single faults, and `pairs` of the fifteen pairs, which the seed draws.
    pub fn all(seed: u64, pairs: usize) -> Vec<Self> {
        let others = [Self::FreezeMailbox, Self::NatsGone, Self::SlowCassandra, Self::Reconnect];
        let mut drawn: Vec<_> = Kill::ALL
            .iter()
            .enumerate()
            .flat_map(|(at, first)| Kill::ALL.iter().skip(at + 1).map(|second| Self::Pair(*first, *second)))
            .collect();
        drawn.shuffle(&mut StdRng::seed_from_u64(seed));
        drawn.truncate(pairs);
        Kill::ALL.map(Self::Kill).into_iter().chain(others).chain(drawn).collect()
    }

    /// The draws of this case under a seed, whatever other cases are run.
    pub(super) fn random(self, seed: u64) -> StdRng {
        // FNV-1a: the standard library's hashes may change with its version.
        let name = self.to_string();
        let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        StdRng::seed_from_u64(seed ^ hash)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(kill) => f.write_str(kill.name()),
            Self::Pair(first, second) => write!(f, "{}+{}", first.name(), second.name()),
            Self::FreezeMailbox => f.write_str("freeze-mailbox"),
            Self::NatsGone => f.write_str("nats-gone"),
            Self::SlowCassandra => f.write_str("slow-cassandra"),
            Self::Reconnect => f.write_str("reconnect"),
        }
    }
}

impl FromStr for Case {
    type Err = UnknownCase;

    fn from_str(text: &str) -> Result<Self, UnknownCase> {
        if let Some(case) = Self::all(0, 0).into_iter().find(|case| case.to_string() == text) {
            return Ok(case);
        }
        let kill = |name: &str| Kill::ALL.into_iter().find(|kill| kill.name() == name);
        match text.split_once('+').map(|(first, second)| (kill(first), kill(second))) {
            Some((Some(first), Some(second))) if first != second => Ok(Self::Pair(first, second)),
            _ => Err(UnknownCase(text.to_owned())),
        }
    }
}

fn names() -> String {
    Case::all(0, 0).iter().map(Case::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_found_by_its_name() {
        let all = Case::all(7, usize::MAX);
        assert_eq!(all.len(), 6 + 4 + 15);
        for case in all {
            assert_eq!(case.to_string().parse::<Case>().unwrap(), case);
        }
        for wrong in ["", "kill", "kill-nats+", "kill-nats+kill-nats", "kill-nats+reconnect"] {
            assert!(wrong.parse::<Case>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_seed_draws_the_pairs() {
        assert_eq!(Case::all(7, 4), Case::all(7, 4));
        assert_ne!(Case::all(7, 4), Case::all(8, 4));
    }
}
