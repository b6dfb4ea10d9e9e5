//! Every quota, with its numbers and their reason, in one table.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use crate::quota::config::{LimitOverride, QuotaConfig, Settings};
use crate::quota::key::KeyKind;
use crate::quota::store::ENTRY_BYTES;

/// The name of a quota. Its row is [`Limit::spec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    VerificationStart,
    VerificationStartNetwork,
    CodeCheck,
    DeviceLink,
    Messages,
    MessageBytes,
    PrekeysUpload,
    KeysFetch,
    Discover,
    AccountChange,
    SessionOpen,
    Authenticate,
}

/// What a limit answers for a key that it has no room to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Let through uncounted: a missed limit costs less than a message that is not sent.
    Open,
    /// Refuse until there is room: money is spent, or something is given away, that does not come back.
    Closed,
}

impl OnFailure {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// One row: a bucket of `burst` permits for each key, refilled with one permit each `period`.
#[derive(Debug)]
pub struct LimitSpec {
    pub limit: Limit,
    /// In configuration, in metrics and in refusals.
    pub name: &'static str,
    pub key: KeyKind,
    pub burst: u32,
    pub period: Duration,
    pub on_failure: OnFailure,
    /// Keys not at rest that are remembered. New keys beyond them meet `on_failure`, so a closed limit also admits
    /// at most `keys_max` new keys in the time that one needs to come to rest.
    pub keys_max: u32,
    pub reason: &'static str,
    /// Where the numbers come from.
    pub source: &'static str,
}

const MIB: u32 = 1 << 20;

/// What all default tables together may take, however many distinct keys come. 57 MiB of entries; 15.6 million
/// keys, 1.3 million for each limit, made a process 62 MiB larger with glibc's allocator.
const MEMORY_BYTES_MAX: usize = 64 << 20;

/// The quotas, in the order of [`Limit`]. "Signal" in a source is the default of that name in Signal-Server's
/// `limits/RateLimiters.java`; CDSI is Signal's contact discovery service.
pub static LIMITS: [LimitSpec; Limit::COUNT] = [
    LimitSpec {
        limit: Limit::VerificationStart,
        name: "verification_start",
        key: KeyKind::Number,
        burst: 6,
        period: Duration::from_secs(30),
        on_failure: OnFailure::Closed,
        keys_max: 1 << 18,
        reason: "each start or resend may cost a text message, and rings somebody's phone",
        source: "Signal registration",
    },
    LimitSpec {
        limit: Limit::VerificationStartNetwork,
        name: "verification_start_network",
        key: KeyKind::Network,
        burst: 500,
        period: Duration::from_secs(1),
        on_failure: OnFailure::Closed,
        keys_max: 1 << 16,
        reason: "one network must not spend everybody's texts; wide, because a mobile carrier may put a city behind one",
        source: "own: about 1 % of the sign-ups a second that Signal had worldwide at the peak of January 2021",
    },
    LimitSpec {
        limit: Limit::CodeCheck,
        name: "code_check",
        key: KeyKind::Number,
        burst: 5,
        period: Duration::from_secs(60),
        on_failure: OnFailure::Closed,
        keys_max: 1 << 18,
        reason: "a six-digit code is guessed in a million tries, and each session of a number allows a few",
        source: "burst of Signal checkTotp; the spacing is that of Signal's third code check",
    },
    LimitSpec {
        limit: Limit::DeviceLink,
        name: "device_link",
        key: KeyKind::User,
        burst: 6,
        period: Duration::from_secs(2 * 60),
        on_failure: OnFailure::Closed,
        keys_max: 1 << 16,
        reason: "a linked device reads all later mail, and each one makes a mailbox",
        source: "Signal allocateDevice, verifyDevice",
    },
    LimitSpec {
        limit: Limit::Messages,
        name: "messages",
        key: KeyKind::User,
        burst: 60,
        period: Duration::from_secs(1),
        on_failure: OnFailure::Open,
        keys_max: 1 << 18,
        reason: "faster than people write; a send must not fail because a table is full",
        source: "Signal messages",
    },
    LimitSpec {
        limit: Limit::MessageBytes,
        name: "message_bytes",
        key: KeyKind::User,
        burst: 128 * MIB,
        period: Duration::from_micros(500),
        on_failure: OnFailure::Open,
        keys_max: 1 << 18,
        reason: "envelopes at the size limit would fit into the message count and still fill the disks",
        source: "Signal inboundMessageBytes (2 kB/s)",
    },
    LimitSpec {
        limit: Limit::PrekeysUpload,
        name: "prekeys_upload",
        key: KeyKind::User,
        burst: 6,
        period: Duration::from_secs(10 * 60),
        on_failure: OnFailure::Closed,
        keys_max: 1 << 19,
        reason: "an upload replaces what others encrypt to, and is the largest write a user can ask for",
        source: "Signal prekeys",
    },
    LimitSpec {
        limit: Limit::KeysFetch,
        name: "keys_fetch",
        key: KeyKind::UserPair,
        burst: 6,
        period: Duration::from_secs(10 * 60),
        on_failure: OnFailure::Open,
        keys_max: 1 << 19,
        reason: "stops one user from draining another's one-time prekeys; open, because a first send needs the fetch \
                 and a drained account still has its last-resort key",
        source: "numbers of Signal prekeys, which is closed",
    },
    LimitSpec {
        limit: Limit::Discover,
        name: "discover",
        key: KeyKind::User,
        burst: 50_000,
        period: Duration::from_secs(10 * 60),
        on_failure: OnFailure::Closed,
        keys_max: 1 << 20,
        reason: "permits are numbers asked about; those that an account has asked about before cost none for a day, or two, or \
                 until the gateway's memory for them is full ([gateway.discover]): who uses the service, once told to a \
                 scraper, cannot be taken back; many keys, because an address book of 200 takes 33 hours to come to rest",
        source: "CDSI: 50,000 tokens, 6 an hour, none for numbers of the last question",
    },
    LimitSpec {
        limit: Limit::AccountChange,
        name: "account_change",
        key: KeyKind::User,
        burst: 10,
        period: Duration::from_secs(60),
        on_failure: OnFailure::Closed,
        keys_max: 1 << 16,
        reason: "deleting, changing number or discoverability: rare, guarded by conditional writes that are dear",
        source: "Signal usernameLinkOperation",
    },
    LimitSpec {
        limit: Limit::SessionOpen,
        name: "session_open",
        key: KeyKind::User,
        burst: 10,
        period: Duration::from_secs(6),
        on_failure: OnFailure::Open,
        keys_max: 1 << 18,
        reason: "a client in a reconnect loop; open, so that a herd coming back after an outage gets its mail",
        source: "CDSI: connections, 10 an account, 10 a minute",
    },
    LimitSpec {
        limit: Limit::Authenticate,
        name: "authenticate",
        key: KeyKind::Network,
        burst: 100,
        period: Duration::from_secs(1),
        on_failure: OnFailure::Open,
        keys_max: 1 << 17,
        reason: "failed credentials only, each a read of the store; open, because 256 random bits are not guessed and \
                 neighbours of a broken client must get in",
        source: "burst of Signal's limits per address (keyTransparency*); refilled faster, as a network has many users",
    },
];

const _: () = {
    let (mut i, mut keys) = (0, 0);
    while i < LIMITS.len() {
        assert!(LIMITS[i].limit as usize == i, "LIMITS must be in the order of Limit");
        keys += LIMITS[i].keys_max as usize;
        i += 1;
    }
    assert!(keys * ENTRY_BYTES <= MEMORY_BYTES_MAX, "the default tables must fit the memory bound");
};

impl Limit {
    pub const COUNT: usize = Self::Authenticate as usize + 1;

    pub fn spec(self) -> &'static LimitSpec {
        &LIMITS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.spec().name
    }
}

/// No quota has this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no quota is named `{name}`; did you mean `{nearest}`?")]
pub struct UnknownLimit {
    pub name: String,
    pub nearest: &'static str,
}

impl FromStr for Limit {
    type Err = UnknownLimit;

    fn from_str(name: &str) -> Result<Self, UnknownLimit> {
        let distance = |spec: &&LimitSpec| strsim::damerau_levenshtein(spec.name, name);
        let nearest = LIMITS.iter().min_by_key(distance).expect("the table has rows");
        if nearest.name == name {
            Ok(nearest.limit)
        } else {
            Err(UnknownLimit { name: name.to_owned(), nearest: nearest.name })
        }
    }
}

/// The quotas in force under `config`, for people: a row for each, then its reason and source. Rows that `config`
/// changes are marked with `*`.
pub fn render_table(config: &QuotaConfig) -> String {
    let mut text = format!(
        "  {:<27} {:<10} {:>11} {:>8}  {:<8} {:>9}  mode\n",
        "quota", "per", "burst", "1 each", "if full", "keys"
    );
    let mut keys = 0;
    for spec in &LIMITS {
        let over = config.limit(spec.limit);
        let settings = Settings::resolve(spec, over);
        keys += u64::from(settings.keys_max);
        let mark = if *over == LimitOverride::default() { ' ' } else { '*' };
        let mode = match (settings.enabled, settings.shadow) {
            (false, _) => "off",
            (true, true) => "shadow",
            (true, false) => "enforced",
        };
        writeln!(
            text,
            "{mark} {:<27} {:<10} {:>11} {:>8}  {:<8} {:>9}  {mode}\n      {} [{}]",
            spec.name,
            spec.key.as_str(),
            settings.burst,
            humantime::format_duration(settings.period).to_string(),
            spec.on_failure.as_str(),
            settings.keys_max,
            spec.reason,
            spec.source,
        )
        .expect("writing to a string cannot fail");
    }
    let mib = (keys * ENTRY_BYTES as u64).div_ceil(u64::from(MIB));
    writeln!(text, "  at most {keys} keys, {mib} MiB").expect("writing to a string cannot fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_parse_back() {
        for spec in &LIMITS {
            assert_eq!(spec.name.parse(), Ok(spec.limit));
            assert_eq!(LIMITS.iter().filter(|other| other.name == spec.name).count(), 1, "{}", spec.name);
        }
    }

    #[test]
    fn rendered_table_shows_defaults_overrides_and_the_total() {
        let config: QuotaConfig =
            toml::from_str("[messages]\nburst = 61\n[discover]\nshadow = true\n").unwrap();
        let text = render_table(&config);
        let row = |name: &str| {
            let line = text.lines().find(|line| line.split_whitespace().any(|word| word == name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("verification_start"), "verification_start number 6 30s closed 262144 enforced");
        assert_eq!(row("message_bytes"), "message_bytes user 134217728 500us open 262144 enforced");
        assert_eq!(row("messages"), "* messages user 61 1s open 262144 enforced");
        assert_eq!(row("discover"), "* discover user 50000 10m closed 1048576 shadow");
        assert!(text.ends_with("at most 3735552 keys, 57 MiB\n"), "{text}");
    }
}
