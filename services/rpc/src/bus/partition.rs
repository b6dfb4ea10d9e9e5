use std::fmt;

/// Partitions of a service. Two hex digits in a subject; a member of the group serves all of them.
const PARTITIONS: u32 = 64;

/// Where calls about one thing go together. Set it as an extension of a request; without it a call goes to partition 0.
/// It never leaves the caller but as part of the subject, so other transports do not see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partition(u8);

impl Partition {
    /// The same for equal keys in all processes: FNV-1a of 32 bits.
    pub fn of(key: &[u8]) -> Self {
        let hash = key
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        Self((hash % PARTITIONS) as u8)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_two_hex_digits_below_64_and_keys_spread() {
        let all: std::collections::BTreeSet<_> =
            (0..2_000_u32).map(|key| Partition::of(&key.to_be_bytes()).to_string()).collect();
        assert_eq!(all.len(), 64);
        assert_eq!(all.first().unwrap(), "00");
        assert_eq!(all.last().unwrap(), "3f");
    }
}
