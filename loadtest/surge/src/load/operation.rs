//! What can be done to a messaging service so often a second.

use std::fmt;

/// A kind of work with a curve of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Somebody new: sign-up, contacts, session, first message and its answer.
    SignUp,
    /// A message from one existing user to another.
    Send,
    /// A message from one existing user to [`FAN_OUT`] others at the same moment, as in a group.
    FanOut,
    /// A look-up of an address book by an existing user.
    Discover,
    /// An existing user loses the connection and comes back.
    Reconnect,
    /// One of the few whose connection does not hold goes away for a while and comes back.
    Flap,
    /// Somebody who was offline comes, and is handed what has been kept.
    Wake,
}

/// Members of a group beside its writer: a family or a class. Signal's groups may have 1,000, which one machine of a load
/// test would take for a different load altogether.
pub const FAN_OUT: usize = 8;

impl Op {
    pub const ALL: [Op; 7] =
        [Op::SignUp, Op::Send, Op::FanOut, Op::Discover, Op::Reconnect, Op::Flap, Op::Wake];

    /// As it is written in profiles, traces and options.
    pub const fn name(self) -> &'static str {
        match self {
            Op::SignUp => "signup",
            Op::Send => "send",
            Op::FanOut => "fan-out",
            Op::Discover => "discover",
            Op::Reconnect => "reconnect",
            Op::Flap => "flap",
            Op::Wake => "wake",
        }
    }

    /// By name; other spellings that traces have are understood.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase().replace('_', "-");
        match text.as_str() {
            "sign-up" | "sign-ups" | "signups" | "register" => Some(Op::SignUp),
            "message" | "sends" => Some(Op::Send),
            "group" | "fanout" => Some(Op::FanOut),
            "discovery" | "contacts" => Some(Op::Discover),
            "connect" | "login" => Some(Op::Reconnect),
            name => Self::ALL.into_iter().find(|op| op.name() == name),
        }
    }

    /// All names, for errors.
    pub fn names() -> String {
        Self::ALL.map(Op::name).join(", ")
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_name() {
        for op in Op::ALL {
            assert_eq!(Op::parse(op.name()), Some(op));
            assert_eq!(Op::parse(&op.name().to_uppercase()), Some(op));
        }
        assert_eq!(Op::parse("sign_up"), Some(Op::SignUp));
        assert_eq!(Op::parse("teleport"), None);
    }
}
