use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A part of the service that may run in a process of its own, any number of times.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The public API.
    Gateway,
    /// Sign-ups, accounts, devices, keys.
    Registration,
    /// Who can be found by number.
    Directory,
    /// Stored messages.
    Mailbox,
    /// One of them decides for the whole fleet.
    Control,
}

/// What a process does. All roles, unless it is told otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(BTreeSet<Role>);

impl Role {
    pub const ALL: [Role; 5] =
        [Role::Gateway, Role::Registration, Role::Directory, Role::Mailbox, Role::Control];

    pub const fn name(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Registration => "registration",
            Role::Directory => "directory",
            Role::Mailbox => "mailbox",
            Role::Control => "control",
        }
    }
}

impl Roles {
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Role> + '_ {
        self.0.iter().copied()
    }

    /// The gateway alone does without.
    pub fn need_store(&self) -> bool {
        self.iter().any(|role| role != Role::Gateway)
    }
}

impl Default for Roles {
    fn default() -> Self {
        Role::ALL.into_iter().collect()
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        Self(roles.into_iter().collect())
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Role::name).collect();
        f.write_str(&names.join(","))
    }
}
