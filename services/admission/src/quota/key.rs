//! Whom a limit counts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use spillway_types::{AccountId, NumberTag, PhoneNumber};

/// What kind of key a limit counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    User,
    /// A user together with the account that it asks about.
    UserPair,
    Number,
    Network,
}

impl KeyKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::UserPair => "user pair",
            Self::Number => "number",
            Self::Network => "network",
        }
    }
}

/// Who is counted. Borrowed for the length of one check; the limits remember only a keyed hash of it.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Key<'a> {
    User(AccountId),
    UserPair {
        asking: AccountId,
        about: AccountId,
    },
    Number(&'a PhoneNumber),
    /// A number that is known only by its tag.
    NumberTag(NumberTag),
    Network(Network),
}

impl Key<'_> {
    pub const fn kind(&self) -> KeyKind {
        match self {
            Self::User(_) => KeyKind::User,
            Self::UserPair { .. } => KeyKind::UserPair,
            Self::Number(_) | Self::NumberTag(_) => KeyKind::Number,
            Self::Network(_) => KeyKind::Network,
        }
    }
}

/// The network that an address belongs to: its /24 in IPv4, its /48 in IPv6.
///
/// Single addresses would be no limit at all: an IPv6 subscriber has at least a /64, often a /56, and a rented
/// server often a whole /48. A /48 holds 256 subscribers of a provider who gives each a /56, as a /24 holds 256
/// IPv4 addresses, so that one set of numbers fits both. The price is that neighbours, and everybody behind a
/// carrier's shared addresses, are counted together; the network limits are wide for that reason.
///
/// An IPv4 address that arrived on an IPv6 socket (`::ffff:a.b.c.d`) is the IPv4 address: otherwise all of IPv4
/// would be one network.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4([a, b, c]) => write!(f, "{}/24", Ipv4Addr::new(a, b, c, 0)),
            Self::V6(prefix) => {
                let mut octets = [0; 16];
                octets[..prefix.len()].copy_from_slice(&prefix);
                write!(f, "{}/48", Ipv6Addr::from(octets))
            }
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> String {
        Network::from(address.parse::<IpAddr>().unwrap()).to_string()
    }

    #[test]
    fn addresses_are_grouped_by_subscriber_sized_prefix() {
        assert_eq!(network("203.0.113.7"), "203.0.113.0/24");
        assert_eq!(network("203.0.112.7"), "203.0.112.0/24");
        assert_eq!(network("2001:db8:1:2:3::4"), "2001:db8:1::/48");
        assert_eq!(network("2001:db8:1:ffff::"), "2001:db8:1::/48");
        assert_eq!(network("2001:db8:2::"), "2001:db8:2::/48");
    }

    #[test]
    fn an_ipv4_mapped_address_is_its_ipv4_network() {
        assert_eq!(network("::ffff:203.0.113.7"), network("203.0.113.200"));
        assert_ne!(network("::ffff:203.0.113.7"), network("::ffff:198.51.100.7"));
    }
}
