//! What decides whether figures of two systems may be set beside each other.

use std::fmt;

/// What an acknowledgement of a message survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nothing can be said of it from here.
    Unknown,
    /// In memory alone.
    D0,
    /// Written before the acknowledgement, and not synced: survives `kill -9`, and not the loss of power.
    D1,
    /// Synced before the acknowledgement: survives the loss of power, as far as the disk keeps its word.
    D2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durability {
    pub class: Class,
    /// The settings that it follows from.
    pub words: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Name and version.
    pub system: String,
    pub durability: Durability,
    /// What an acknowledgement of a send is here.
    pub acknowledged: String,
    /// How a message comes to somebody who is online, and how it is taken off the system.
    pub delivery: String,
    pub connections: String,
    /// What Spillway does for such a message and this does not.
    pub does_not: Vec<String>,
}

/// Under which a report has the class of durability, and what a system does not do.
pub const CLASS_KEY: &str = "durability";
pub const DOES_NOT_KEY: &str = "does_not";

impl Terms {
    /// For the report, by name.
    pub fn entries(&self) -> [(&'static str, String); 6] {
        [
            ("system", self.system.clone()),
            (CLASS_KEY, self.durability.to_string()),
            ("acknowledged", self.acknowledged.clone()),
            ("delivery", self.delivery.clone()),
            ("connections", self.connections.clone()),
            (DOES_NOT_KEY, self.does_not.join("; ")),
        ]
    }

    /// Of a Spillway that was started for the run, which keeps its mail in the embedded store.
    pub fn of_own_spillway() -> Self {
        let words =
            "the embedded store syncs before a send is answered, many sends with one sync (group commit)";
        Self {
            durability: Durability { class: Class::D2, words: words.to_owned() },
            ..Self::of_spillway(format!("spillway {}, all roles in one process", env!("CARGO_PKG_VERSION")))
        }
    }

    /// Of one that runs already.
    pub fn of_target() -> Self {
        Self::of_spillway("spillway".to_owned())
    }

    fn of_spillway(system: String) -> Self {
        let words = "as the target's store is set: the embedded one syncs before it answers, Cassandra as its commitlog_sync says";
        Self {
            system,
            durability: Durability { class: Class::Unknown, words: words.to_owned() },
            acknowledged:
                "answer to the send, after the store has the message; a send that is repeated is recognised"
                    .to_owned(),
            delivery: "pushed on the session's stream, acknowledged on it, and deleted".to_owned(),
            connections: "one for each person".to_owned(),
            does_not: Vec::new(),
        }
    }
}

impl Class {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::D0 => "D0",
            Self::D1 => "D1",
            Self::D2 => "D2",
        }
    }

    /// Of what a report says about durability.
    pub fn of_report(text: &str) -> Self {
        let classes = [Self::D0, Self::D1, Self::D2].into_iter();
        let name = text.split(':').next().unwrap_or_default();
        classes.into_iter().find(|class| class.name() == name).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.name(), self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_read_from_the_report_that_says_it() {
        for class in [Class::Unknown, Class::D0, Class::D1, Class::D2] {
            let text = Durability { class, words: "D1: of something else".to_owned() }.to_string();
            assert_eq!(Class::of_report(&text), class, "{text}");
        }
        assert_eq!(Class::of_report(""), Class::Unknown);
    }

    #[test]
    fn ours_are_complete() {
        for terms in [Terms::of_own_spillway(), Terms::of_target()] {
            assert!(terms.entries().iter().filter(|(_, value)| value.is_empty()).count() <= 1, "{terms:?}");
        }
    }
}
