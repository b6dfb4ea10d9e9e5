//! Where a peer is, written as a target.

use std::fmt;

use http::Uri;

/// A kind of system that a load can be played against instead of Spillway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    Nats,
    Postgres,
    Xmpp,
}

/// A target that is not Spillway. Its password is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    system: System,
    url: String,
}

#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("`{0}` is not an address such as {1}")]
    Malformed(String, &'static str),
    #[error(
        "{0} is one target, and others are named beside it: play one after the other, or all with `surge peers`"
    )]
    NotAlone(String),
    #[error(
        "`{0}://` is no system that this load tool knows: a target is http://… (Spillway), nats://…, pg://… or xmpp://…"
    )]
    Unknown(String),
}

/// Instead of a password.
const HIDDEN: &str = "***";
/// Schemes of addresses in which one word before the host is a token.
const OF_NATS: [&str; 4] = ["nats", "tls", "ws", "wss"];

impl System {
    fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "nats" => Some(Self::Nats),
            "pg" | "postgres" | "postgresql" => Some(Self::Postgres),
            "xmpp" => Some(Self::Xmpp),
            _ => None,
        }
    }

    /// The port that it listens on where nobody says otherwise.
    pub const fn port(self) -> u16 {
        match self {
            Self::Nats => 4222,
            Self::Postgres => 5432,
            Self::Xmpp => 5222,
        }
    }

    pub const fn example(self) -> &'static str {
        match self {
            Self::Nats => "nats://127.0.0.1:4222",
            Self::Postgres => "pg://user:password@127.0.0.1:5432/database",
            Self::Xmpp => "xmpp://127.0.0.1:5222/localhost, with the XMPP domain at its end",
        }
    }

    /// Where a password may be instead of in the address, as the system's own tools have it.
    const fn password_variable(self) -> Option<&'static str> {
        match self {
            Self::Nats => Some("NATS_PASSWORD"),
            Self::Postgres => Some("PGPASSWORD"),
            Self::Xmpp => None,
        }
    }
}

impl Address {
    /// `None` when the targets are Spillway's.
    ///
    /// # Errors
    ///
    /// When one of several is a peer, or a peer's address is none.
    pub fn of(targets: &[String]) -> Result<Option<Self>, AddressError> {
        let mut peers = targets.iter().map(|target| Self::parse(target));
        let Some(peer) = peers.find_map(Result::transpose) else { return Ok(None) };
        let peer = peer?;
        match targets.len() {
            1 => Ok(Some(peer)),
            _ => Err(AddressError::NotAlone(peer.to_string())),
        }
    }

    /// `None` when it is Spillway's.
    ///
    /// # Errors
    ///
    /// When it is of a system that is not known, or malformed.
    pub fn parse(target: &str) -> Result<Option<Self>, AddressError> {
        let Some((scheme, _)) = target.split_once("://") else { return Ok(None) };
        if matches!(scheme, "http" | "https") {
            return Ok(None);
        }
        let system = System::of_scheme(scheme).ok_or_else(|| AddressError::Unknown(scheme.to_owned()))?;
        let uri = target.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        if uri.is_none() {
            return Err(AddressError::Malformed(redacted(target), system.example()));
        }
        Ok(Some(Self { system, url: target.to_owned() }))
    }

    pub fn system(&self) -> System {
        self.system
    }

    /// Whether there is something to be read at an admin port beside the address.
    pub fn reads_admin(&self) -> bool {
        self.system == System::Nats
    }

    pub fn host(&self) -> String {
        let host = self.uri().host().unwrap_or_default().to_owned();
        host.trim_matches(['[', ']']).to_owned()
    }

    pub fn port(&self) -> u16 {
        self.uri().port_u16().unwrap_or(self.system.port())
    }

    /// What comes after the host, without its slash.
    pub fn path(&self) -> String {
        self.uri().path().trim_matches('/').to_owned()
    }

    /// With another scheme, and the password, from the environment where the address has none.
    pub(super) fn url_for(&self, scheme: &str) -> String {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let variable = self.system.password_variable().and_then(|name| std::env::var(name).ok());
        format!("{scheme}://{}", with_password(rest, variable.as_deref()))
    }

    fn uri(&self) -> Uri {
        // It was parsed before.
        self.url.parse().unwrap_or_default()
    }
}

/// Whatever is in front of an `@`, with this password if it has a user and none.
fn with_password(rest: &str, password: Option<&str>) -> String {
    let (Some(password), Some((user_info, host))) = (password, rest.split_once('@')) else {
        return rest.to_owned();
    };
    let (user, own) = user_info.split_once(':').unwrap_or((user_info, ""));
    match own {
        "" | HIDDEN => format!("{user}:{}@{host}", encoded(password)),
        _ => rest.to_owned(),
    }
}

/// As the part of a URL before its host.
fn encoded(password: &str) -> String {
    let mut text = String::new();
    for byte in password.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte))
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// An address, or a word of a command line that has some, without passwords. The only word before an `@` in an address of NATS is a token, and hidden
/// like a password; elsewhere it is a user.
pub fn redacted(text: &str) -> String {
    text.split_inclusive([',', ' ', '\t', '\n', '"', '\'']).map(hidden_in).collect()
}

fn hidden_in(part: &str) -> String {
    let scheme_ends = part.find("://").map(|at| at + 3);
    let from = scheme_ends.or_else(|| part.rfind('=').map(|at| at + 1)).unwrap_or(0);
    let (scheme, rest) = part.split_at(from);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((user, host)) = authority.rsplit_once('@') else { return part.to_owned() };
    let is_nats = OF_NATS.iter().any(|name| scheme.strip_suffix("://").is_some_and(|of| of.ends_with(name)));
    match user.split_once(':') {
        Some((user, _)) if scheme_ends.is_some() || is_host(host) => {
            format!("{scheme}{user}:{HIDDEN}@{host}{path}")
        }
        None if is_nats => format!("{scheme}{HIDDEN}@{host}{path}"),
        _ => part.to_owned(),
    }
}

/// With what separates it from the next word, perhaps.
fn is_host(text: &str) -> bool {
    let text = text.trim_end_matches([',', ' ', '\t', '\n', '"', '\'']);
    let of_a_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(of_a_host)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.url))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(targets: &[&str]) -> Result<Option<Address>, AddressError> {
        Address::of(&targets.iter().map(|target| (*target).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_peer_is_told_by_its_scheme() {
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&["http://127.0.0.1:7700", "127.0.0.1:7701"]).unwrap(), None);
        let nats = of(&["nats://127.0.0.1"]).unwrap().unwrap();
        assert_eq!((nats.system(), nats.host(), nats.port()), (System::Nats, "127.0.0.1".to_owned(), 4222));
        let xmpp = of(&["xmpp://[::1]:5333/example.org"]).unwrap().unwrap();
        assert_eq!(
            (xmpp.host(), xmpp.port(), xmpp.path()),
            ("::1".to_owned(), 5333, "example.org".to_owned())
        );
        let pg = of(&["pg://me:secret@localhost/mail"]).unwrap().unwrap();
        assert_eq!(
            (pg.system(), pg.host(), pg.path()),
            (System::Postgres, "localhost".to_owned(), "mail".to_owned())
        );
        assert_eq!(pg.url_for("postgres"), "postgres://me:secret@localhost/mail");
    }

    #[test]
    fn what_is_no_target_is_said() {
        let error = |targets: &[&str]| of(targets).unwrap_err().to_string();
        assert!(error(&["mqtt://127.0.0.1"]).contains("`mqtt://` is no system"));
        assert!(error(&["nats://127.0.0.1", "pg://127.0.0.1/x"]).contains("surge peers"));
        assert!(error(&["http://127.0.0.1", "nats://127.0.0.1"]).contains("surge peers"));
        assert!(error(&["pg://"]).contains("pg://user:password@127.0.0.1"));
    }

    #[test]
    fn passwords_are_not_shown_and_come_from_elsewhere() {
        let pg = of(&["pg://me:se:cret@localhost/mail"]).unwrap().unwrap();
        assert_eq!(format!("{pg} {pg:?}"), "pg://me:***@localhost/mail pg://me:***@localhost/mail");
        let line = "--target=nats://a:b@127.0.0.1:1,http://127.0.0.1:2";
        assert_eq!(redacted(line), "--target=nats://a:***@127.0.0.1:1,http://127.0.0.1:2");
        assert_eq!(redacted("load:secret@c:3,nats://token@d:4"), "load:***@c:3,nats://***@d:4");
        assert_eq!(redacted("--nats=load:secret@c:3"), "--nats=load:***@c:3");
        let fault = "30s run \"curl -s http://me:pw@h/x; psql 'pg://a:b@h/c'\"";
        assert_eq!(redacted(fault), "30s run \"curl -s http://me:***@h/x; psql 'pg://a:***@h/c'\"");
        for same in
            ["send(5s@3)", "30s@50,1m@1x..20x", "nats://127.0.0.1", "pg://me@host/x", "http://h/a@b:c"]
        {
            assert_eq!(redacted(same), same);
        }
        let with = |rest: &str| with_password(rest, Some("a/b"));
        assert_eq!(with("me@host/x"), "me:a%2Fb@host/x");
        assert_eq!(with("me:***@host/x"), "me:a%2Fb@host/x");
        assert_eq!((with("me:own@host"), with("host")), ("me:own@host".to_owned(), "host".to_owned()));
    }
}
