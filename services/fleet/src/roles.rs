//! The roles of Spillway, and the settings of a process that has one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Gateway,
    Mailbox,
    Registration,
    Directory,
    Control,
}

impl Role {
    /// In the order in which they are started: whoever is called before whoever calls.
    pub const ALL: [Self; 5] =
        [Self::Control, Self::Directory, Self::Mailbox, Self::Registration, Self::Gateway];

    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Mailbox => "mailbox",
            Self::Registration => "registration",
            Self::Directory => "directory",
            Self::Control => "control",
        }
    }
}

/// What every process of a fleet is told.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) nats: Vec<SocketAddr>,
    pub(crate) cql: Vec<SocketAddr>,
    pub(crate) replication: u8,
    pub(crate) secrets: PathBuf,
}

/// Where one process listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listens {
    pub(crate) admin: SocketAddr,
    /// Gateways only.
    pub(crate) public: Option<SocketAddr>,
    /// Registration only.
    pub(crate) codes: Option<SocketAddr>,
}

/// The settings file of one process, without what the caller of the fleet adds.
pub(crate) fn settings(role: Role, name: &str, common: &Common, listens: Listens, data: &Path) -> Table {
    let mut settings = Table::new();
    set(&mut settings, &["roles"], strings([role.name()]));
    set(&mut settings, &["node", "name"], text(name));
    set(&mut settings, &["node", "data"], text(data.display()));
    set(&mut settings, &["admin", "listen"], text(listens.admin));
    set(&mut settings, &["secrets", "file"], text(common.secrets.display()));
    set(&mut settings, &["store", "kind"], text("cql"));
    set(&mut settings, &["store", "cql", "contact_points"], strings(&common.cql));
    set(&mut settings, &["store", "cql", "replication_factor"], Value::Integer(common.replication.into()));
    set(&mut settings, &["bus", "kind"], text("nats"));
    let servers = common.nats.iter().map(|address| format!("nats://{address}"));
    set(&mut settings, &["bus", "nats", "servers"], strings(servers));
    if let Some(public) = listens.public {
        set(&mut settings, &["listen", "public"], text(public));
    }
    if let Some(codes) = listens.codes {
        set(&mut settings, &["listen", "sandbox_codes"], text(codes));
        set(&mut settings, &["provider", "kind"], text("sandbox"));
    }
    settings
}

/// Lays `over` over `under`, section by section.
pub(crate) fn merge(under: &mut Table, over: &Table) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            _ => drop(under.insert(key.clone(), value.clone())),
        }
    }
}

fn set(table: &mut Table, path: &[&str], value: Value) {
    let nested = path.iter().rev().fold(value, |inner, key| {
        let mut outer = Table::new();
        outer.insert((*key).to_owned(), inner);
        Value::Table(outer)
    });
    if let Value::Table(nested) = nested {
        merge(table, &nested);
    }
}

fn text(value: impl ToString) -> Value {
    Value::String(value.to_string())
}

fn strings<T: ToString>(values: impl IntoIterator<Item = T>) -> Value {
    Value::Array(values.into_iter().map(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common() -> Common {
        Common {
            nats: vec!["127.0.0.1:4222".parse().unwrap()],
            cql: vec!["127.0.0.1:9042".parse().unwrap(), "127.0.0.2:9042".parse().unwrap()],
            replication: 3,
            secrets: "/f/secrets.toml".into(),
        }
    }

    #[test]
    fn only_registration_opens_the_port_of_codes() {
        let admin = "127.0.0.1:1".parse().unwrap();
        let codes = Some("127.0.0.1:2".parse().unwrap());
        let listens = Listens { admin, public: None, codes };
        let registration = settings(Role::Registration, "r-1", &common(), listens, Path::new("/f/data"));
        assert_eq!(registration["listen"]["sandbox_codes"].as_str(), Some("127.0.0.1:2"));
        assert_eq!(registration["provider"]["kind"].as_str(), Some("sandbox"));
        let mailbox =
            settings(Role::Mailbox, "m-1", &common(), Listens { codes: None, ..listens }, Path::new("/f"));
        assert!(!mailbox.contains_key("listen") && !mailbox.contains_key("provider"));
        assert_eq!(mailbox["store"]["cql"]["contact_points"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_the_caller_adds_wins_and_leaves_the_rest() {
        let mut under: Table = toml::from_str("[node]\ndata = 'a'\n[admin]\nlisten = 'b'").unwrap();
        merge(&mut under, &toml::from_str("[node]\ndrain_notice = '0s'\n[admin]\nlisten = 'c'").unwrap());
        assert_eq!(under["node"]["data"].as_str(), Some("a"));
        assert_eq!(under["node"]["drain_notice"].as_str(), Some("0s"));
        assert_eq!(under["admin"]["listen"].as_str(), Some("c"));
    }
}
