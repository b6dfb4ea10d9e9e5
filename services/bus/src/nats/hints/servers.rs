//! The servers of one cluster: where they are, and which one is next.

use rand::Rng;
use rand::seq::SliceRandom;

const PORT: u16 = 4222;

/// What a server says about its cluster is believed up to here.
const DISCOVERED_MAX: usize = 64;

#[derive(Clone, Debug, thiserror::Error)]
#[error("{address:?} is not a server's address: it should look like nats://host:4222 or tls://host:4222")]
pub struct AddressError {
    /// Without what may be a password.
    pub address: String,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// What its certificate must be for. A server that another one named by its IP is known by the other's name.
    pub(super) tls_name: String,
    pub(super) login: Login,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    None,
    Password { user: String, password: String },
    Token(String),
}

impl Server {
    pub(super) fn parse(url: &str) -> Result<Self, AddressError> {
        Self::try_parse(url).ok_or_else(|| {
            let address = url.rsplit_once('@').map_or(url, |(_login, address)| address);
            AddressError { address: address.to_owned() }
        })
    }

    fn try_parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        let tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return None,
        };
        let (login, address) = match rest.rsplit_once('@') {
            None => (Login::None, rest),
            Some((login, address)) => (Login::parse(login), address),
        };
        let (host, port) = host_and_port(address.trim_end_matches('/'))?;
        Some(Self { host: host.to_owned(), port, tls, tls_name: host.to_owned(), login })
    }

    /// As for a log: without a password.
    pub(super) fn address(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    fn is_at(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }
}

impl Login {
    fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((user, password)) => Self::Password { user: user.to_owned(), password: password.to_owned() },
            None => Self::Token(text.to_owned()),
        }
    }
}

fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(""))?)
        }
        None => address.split_once(':').unwrap_or((address, "")),
    };
    let valid = !host.is_empty() && !host.contains(['/', '?', ' ', '@']);
    let port = if port.is_empty() { PORT } else { port.parse().ok()? };
    valid.then_some((host, port))
}

/// The configured servers and those that they told us of, in turn.
#[derive(Debug)]
pub(super) struct Servers {
    configured: Vec<Server>,
    discovered: Vec<Server>,
    next: usize,
}

impl Servers {
    /// `configured` must not be empty. Shuffled, so that the processes of a fleet spread over the servers.
    pub(super) fn new(mut configured: Vec<Server>, rng: &mut impl Rng) -> Self {
        configured.shuffle(rng);
        Self { configured, discovered: Vec::new(), next: 0 }
    }

    /// The next to try, after every other has been.
    pub(super) fn next(&mut self) -> Server {
        let count = self.configured.len() + self.discovered.len();
        let index = self.next % count;
        self.next = index + 1;
        self.configured
            .iter()
            .chain(&self.discovered)
            .nth(index)
            .expect("the index is below the count")
            .clone()
    }

    /// `urls` is what `from` says about its cluster now.
    pub(super) fn discover(&mut self, from: &Server, urls: &[String]) {
        let named = urls.iter().filter_map(|url| Server::parse(url).ok()).map(|server| {
            let tls_name = match server.host.parse::<std::net::IpAddr>() {
                Ok(_) => from.tls_name.clone(),
                Err(_) => server.host.clone(),
            };
            Server { tls: from.tls, tls_name, login: from.login.clone(), ..server }
        });
        self.discovered = named
            .filter(|server| !self.configured.iter().any(|known| known.is_at(server)))
            .take(DISCOVERED_MAX)
            .collect();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.address())
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password",
            Self::Token(_) => "Token",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |url| {
            let server = Server::parse(url).unwrap();
            (server.tls, server.address(), server.login)
        };
        let password =
            |user: &str, password: &str| Login::Password { user: user.into(), password: password.into() };
        assert_eq!(parse("host"), (false, "host:4222".into(), Login::None));
        assert_eq!(parse("tls://host:1/"), (true, "host:1".into(), Login::None));
        assert_eq!(parse("nats://u:p:@x@[::1]"), (false, "[::1]:4222".into(), password("u", "p:@x")));
        assert_eq!(parse("nats://token@h:2"), (false, "h:2".into(), Login::Token("token".into())));
        for url in
            ["", "http://host", "host:port", "nats://", "nats://:4222", "[::1", "[::1]x", "a/b", "h:70000"]
        {
            Server::parse(url).unwrap_err();
        }
    }

    #[test]
    fn passwords_stay_out_of_texts() {
        let wrong = Server::parse("nats://user:hunter2@host:port").unwrap_err().to_string();
        let right = format!("{:?}", Server::parse("nats://user:hunter2@host").unwrap());
        assert!(!wrong.contains("hunter2") && !right.contains("hunter2"), "{wrong} {right}");
    }

    #[test]
    fn every_server_has_its_turn_and_what_has_left_the_cluster_is_forgotten() {
        let configured = ["tls://u:p@one", "tls://u:p@two"].map(|url| Server::parse(url).unwrap());
        let mut servers = Servers::new(configured.to_vec(), &mut rand::rng());
        let from = servers.next();
        servers
            .discover(&from, &["two:4222".into(), "10.0.0.3:4222".into(), "four:4222".into(), "x:y".into()]);
        let mut seen: Vec<_> = (0..4).map(|_| servers.next()).collect();
        seen.sort_by_key(Server::address);
        assert_eq!(
            seen.iter().map(|s| s.host.as_str()).collect::<Vec<_>>(),
            ["10.0.0.3", "four", "one", "two"]
        );
        assert!(seen.iter().all(|server| server.tls && server.login == from.login));
        assert_eq!((&seen[0].tls_name, &seen[1].tls_name), (&from.tls_name, &"four".to_owned()));

        servers.discover(&from, &[]);
        let mut hosts: Vec<_> = (0..2).map(|_| servers.next().host).collect();
        hosts.sort_unstable();
        assert_eq!(hosts, ["one", "two"]);
    }
}
