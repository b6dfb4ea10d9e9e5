use serde::Serialize;
use spillway_api::internal::v1 as wire;

/// The roles of the fleet. Also the label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Gateway,
    Registration,
    Directory,
    Mailbox,
    Control,
}

pub(crate) const ROLES: [Role; 5] =
    [Role::Gateway, Role::Registration, Role::Directory, Role::Mailbox, Role::Control];

impl Role {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Registration => "registration",
            Self::Directory => "directory",
            Self::Mailbox => "mailbox",
            Self::Control => "control",
        }
    }

    /// `None` for a role that this version does not know.
    pub(crate) fn from_wire(role: wire::Role) -> Option<Self> {
        Some(match role {
            wire::Role::Unspecified => return None,
            wire::Role::Gateway => Self::Gateway,
            wire::Role::Registration => Self::Registration,
            wire::Role::Directory => Self::Directory,
            wire::Role::Mailbox => Self::Mailbox,
            wire::Role::Control => Self::Control,
        })
    }
}

impl From<Role> for wire::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Gateway => Self::Gateway,
            Role::Registration => Self::Registration,
            Role::Directory => Self::Directory,
            Role::Mailbox => Self::Mailbox,
            Role::Control => Self::Control,
        }
    }
}
