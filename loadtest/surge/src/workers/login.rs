//! Who surge is at the NATS server of its workers: in the address, in the environment, or in a file of credentials.

use std::path::{Path, PathBuf};

use async_nats::{ConnectOptions, ServerAddr};

use super::LinkError;

/// As NATS's own tools have them: a command line can be read by everybody on the machine.
const PASSWORD: &str = "NATS_PASSWORD";
const TOKEN: &str = "NATS_TOKEN";
const CREDENTIALS: &str = "NATS_CREDS";

/// Addresses of servers, and who asks. What is secret of it is not shown.
#[derive(Clone)]
pub(crate) struct Login {
    /// As they were written.
    addresses: Vec<String>,
    servers: Vec<ServerAddr>,
    who: Who,
}

#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq, Eq)]
enum Who {
    Nobody,
    User { name: String, password: String },
    Token(String),
    Credentials(PathBuf),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Login {
    /// # Errors
    ///
    /// When an address is none.
    pub(crate) fn new(addresses: &[String], credentials: Option<&Path>) -> Result<Self, LinkError> {
        Self::with(addresses, credentials, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// At a server that knows nobody.
    ///
    /// # Errors
    ///
    /// When the address is none.
    pub(crate) fn nobody(address: &str) -> Result<Self, LinkError> {
        Self::with(&[address.to_owned()], None, |_| None)
    }

    fn with(
        addresses: &[String],
        credentials: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, LinkError> {
        let parse = |address: &String| {
            let wrong = |source| LinkError::Address { address: shown(address), source };
            address.parse::<ServerAddr>().map_err(wrong)
        };
        let servers = addresses.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let in_address = servers.iter().find_map(|server| Some((server.username()?, server.password())));
        let who = match (credentials, in_address) {
            (Some(path), _) => Who::Credentials(path.to_owned()),
            (None, Some((name, Some(password)))) => {
                Who::User { name: name.to_owned(), password: password.to_owned() }
            }
            // One word alone is a token to NATS, unless there is a password elsewhere.
            (None, Some((name, None))) => match variable(PASSWORD) {
                Some(password) => Who::User { name: name.to_owned(), password },
                None => Who::Token(name.to_owned()),
            },
            (None, None) => {
                let credentials = variable(CREDENTIALS).map(|path| Who::Credentials(path.into()));
                credentials.or_else(|| variable(TOKEN).map(Who::Token)).unwrap_or(Who::Nobody)
            }
        };
        Ok(Self { addresses: addresses.to_owned(), servers, who })
    }

    pub(super) fn servers(&self) -> Vec<ServerAddr> {
        self.servers.clone()
    }

    /// Addresses without anybody's name.
    pub(crate) fn shown(&self) -> String {
        self.addresses.iter().map(|address| shown(address)).collect::<Vec<_>>().join(",")
    }

    /// # Errors
    ///
    /// When the file of credentials cannot be read.
    pub(super) async fn into(&self, options: ConnectOptions) -> Result<ConnectOptions, LinkError> {
        Ok(match &self.who {
            Who::Nobody => options,
            Who::User { name, password } => options.user_and_password(name.clone(), password.clone()),
            Who::Token(token) => options.token(token.clone()),
            Who::Credentials(path) => {
                let unreadable = |source| LinkError::Credentials { path: path.clone(), source };
                options.credentials_file(path).await.map_err(unreadable)?
            }
        })
    }

    /// For a process of this machine: what may stand on its command line, and what has to be in its environment.
    pub(crate) fn for_child(&self) -> (Vec<String>, Vec<(String, String)>) {
        let named = |name: &str| {
            let with = |address: &String| match shown(address) {
                shown if shown.contains("://") => shown.replacen("://", &format!("://{name}@"), 1),
                shown => format!("{name}@{shown}"),
            };
            self.addresses.iter().map(with).collect::<Vec<_>>().join(",")
        };
        let (addresses, mut more, secret) = match &self.who {
            Who::Nobody => (self.shown(), Vec::new(), None),
            Who::User { name, password } => (named(name), Vec::new(), Some((PASSWORD, password))),
            Who::Token(token) => (self.shown(), Vec::new(), Some((TOKEN, token))),
            Who::Credentials(path) => {
                (self.shown(), vec!["--nats-creds".to_owned(), path.display().to_string()], None)
            }
        };
        let mut arguments = vec!["--nats".to_owned(), addresses];
        arguments.append(&mut more);
        // Nothing else of this process's environment says who the child is.
        let environment = [PASSWORD, TOKEN, CREDENTIALS].map(|name| {
            let value = secret.filter(|(of, _)| *of == name).map_or("", |(_, value)| value);
            (name.to_owned(), value.to_owned())
        });
        (arguments, environment.to_vec())
    }
}

/// An address as it may be shown.
fn shown(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(address: &str, environment: &[(&str, &str)]) -> Login {
        let variable =
            |name: &str| environment.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        let addresses: Vec<_> = address.split(',').map(str::to_owned).collect();
        Login::with(&addresses, None, variable).unwrap()
    }

    #[test]
    fn passwords_are_not_shown() {
        let several = login("nats://load:secret@a:1,b:2,load:secret@c:3", &[]);
        assert_eq!(
            (several.shown(), format!("{several:?}")),
            ("nats://a:1,b:2,c:3".to_owned(), "nats://a:1,b:2,c:3".to_owned())
        );
        let wrong = Login::new(&["http://load:secret@a:1".to_owned()], None).unwrap_err();
        assert!(!wrong.to_string().contains("secret"), "{wrong}");
    }

    #[test]
    fn who_asks_is_in_the_address_or_in_the_environment() {
        let user =
            |name: &str, password: &str| Who::User { name: name.to_owned(), password: password.to_owned() };
        let all = [(PASSWORD, "pw"), (TOKEN, "tk"), (CREDENTIALS, "/c")];
        assert_eq!(login("nats://load:own@a", &all).who, user("load", "own"));
        assert_eq!(login("nats://load@a", &all).who, user("load", "pw"));
        assert_eq!(login("nats://word@a", &[]).who, Who::Token("word".to_owned()));
        assert_eq!(login("a:4222", &[(TOKEN, "tk")]).who, Who::Token("tk".to_owned()));
        assert_eq!(login("a:4222", &all).who, Who::Credentials("/c".into()));
        assert_eq!(login("a:4222", &[(PASSWORD, "pw")]).who, Who::Nobody, "nobody's password");
    }

    /// Everybody on the machine can read a command line.
    #[test]
    fn a_child_is_told_who_it_is_and_its_command_line_does_not_say_it() {
        for (address, environment) in [
            ("nats://load:secret@a:1,b:2", &[][..]),
            ("load@a:1", &[(PASSWORD, "secret")][..]),
            ("nats://secret@a:1", &[][..]),
            ("a:1", &[(TOKEN, "secret")][..]),
        ] {
            let own = login(address, environment);
            let (arguments, variables) = own.for_child();
            assert!(!arguments.join(" ").contains("secret"), "{arguments:?}");
            let variables: Vec<_> = variables
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let child = login(&arguments[1], &variables);
            assert_eq!(child.who, own.who, "{address}");
            assert_eq!(child.shown(), own.shown());
        }
        let creds = Login::with(&["a:1".to_owned()], Some(Path::new("/x.creds")), |_| None).unwrap();
        assert_eq!(creds.for_child().0, ["--nats", "a:1", "--nats-creds", "/x.creds"]);
    }
}
