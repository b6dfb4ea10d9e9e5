//! What cooperating clients hold back by themselves, so that it costs the server nothing.
//!
//! While a server is in overload it tells with every answer, in [`HEADER`], up to which tier this caller would be admitted,
//! and for how long to believe it; and with every refusal, whatever refused the call. A client that listens does not send what would be refused; [`client`] is its half.
//!
//! The advice gives away how loaded the server is, and nothing else: it is not signed, because a client that lies to
//! itself is only refused.

pub(crate) mod client;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::class::Tier;

/// The metadata entry that carries a [`HoldBack`].
pub const HEADER: &str = "x-spillway-admission";

/// Up to which tier a caller would be admitted, and how long that is worth knowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldBack {
    /// The least important tier that is open to this caller. [`Tier::Exempt`]: not even acks.
    pub open: Tier,
    pub ttl: Duration,
}

/// What came in the header is no advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hold-back advice has the form `open=<tier>;ttl=<milliseconds>`")]
pub struct NoAdvice;

/// The longest that a client believes, whatever it was told.
const TTL_MAX: Duration = Duration::from_secs(60);

impl fmt::Display for HoldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "open={};ttl={}", self.open as u8, self.ttl.as_millis())
    }
}

/// Keys that are not known are skipped, so that later servers can say more.
impl FromStr for HoldBack {
    type Err = NoAdvice;

    fn from_str(text: &str) -> Result<Self, NoAdvice> {
        let (mut open, mut ttl) = (None, None);
        for part in text.split(';') {
            match part.trim().split_once('=').ok_or(NoAdvice)? {
                ("open", tier) => open = tier.parse().ok().and_then(Tier::from_index),
                ("ttl", millis) => ttl = millis.parse().ok().map(Duration::from_millis),
                _ => {}
            }
        }
        Ok(Self { open: open.ok_or(NoAdvice)?, ttl: ttl.ok_or(NoAdvice)?.min(TTL_MAX) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn later_servers_may_say_more_and_nonsense_says_nothing() {
        let advice = HoldBack { open: Tier::Send, ttl: Duration::from_secs(2) };
        assert_eq!("open=3; ttl=2000;room=17".parse(), Ok(advice));
        for text in
            ["", "open=3", "ttl=2000", "open=8;ttl=1", "open=send;ttl=1", "open=3;ttl=-1", "open=3;ttl"]
        {
            assert_eq!(text.parse::<HoldBack>(), Err(NoAdvice), "{text}");
        }
        assert_eq!("open=0;ttl=99999999999".parse::<HoldBack>().unwrap().ttl, TTL_MAX);
    }

    proptest! {
        #[test]
        fn advice_survives_the_wire(tier in 0usize..8, millis in 0u64..60_000) {
            let advice = HoldBack { open: Tier::from_index(tier).unwrap(), ttl: Duration::from_millis(millis) };
            prop_assert_eq!(advice.to_string().parse(), Ok(advice));
        }
    }
}
