//! How a [`Subject`] is called on NATS.
//!
//! | subject | name | where |
//! |---|---|---|
//! | `Mailbox` | `d.<cell>.<mailbox id, 32 hex digits>` | the mailbox's cell |
//! | `AccountChanged` | `ev.acct` | the main cluster |
//! | `NumberListed` | `ev.dir` | the main cluster |
//! | `Load` | `ctl.load` | the main cluster |
//! | `Control` | `ctl.state` | the main cluster |
//!
//! In front of each comes the fleet's prefix with a dot, if it has one. A mailbox's cell is the FNV-1a hash (64 bits)
//! of its 16 bytes, modulo the number of cells. All processes must agree on it, so it must never change: a fleet in
//! which two versions differ would lose hints between them.

use std::fmt::Write;

use spillway_types::MailboxId;

use crate::Subject;

const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[derive(Clone, Debug)]
pub(super) struct Subjects {
    /// Empty, or with its dot.
    prefix: String,
    cells: usize,
}

impl Subjects {
    pub(super) fn new(prefix: &str, cells: usize) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        Self { prefix, cells }
    }

    pub(super) fn cell(&self, mailbox: &MailboxId) -> usize {
        let hash = mailbox
            .as_bytes()
            .iter()
            .fold(FNV_OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME));
        usize::try_from(hash % self.cells as u64).expect("less than a usize")
    }

    pub(super) fn name(&self, subject: &Subject) -> String {
        let prefix = &self.prefix;
        match subject {
            Subject::Mailbox(mailbox) => {
                let mut name = String::with_capacity(prefix.len() + 40);
                write!(name, "{prefix}d.{}.", self.cell(mailbox)).expect("a string grows");
                for byte in mailbox.as_bytes() {
                    write!(name, "{byte:02x}").expect("a string grows");
                }
                name
            }
            Subject::AccountChanged => format!("{prefix}ev.acct"),
            Subject::NumberListed => format!("{prefix}ev.dir"),
            Subject::Load => format!("{prefix}ctl.load"),
            Subject::Control => format!("{prefix}ctl.state"),
        }
    }

    /// `None`: not one of ours.
    pub(super) fn parse(&self, name: &[u8]) -> Option<Subject> {
        let name = std::str::from_utf8(name).ok()?.strip_prefix(&self.prefix)?;
        match name {
            "ev.acct" => Some(Subject::AccountChanged),
            "ev.dir" => Some(Subject::NumberListed),
            "ctl.load" => Some(Subject::Load),
            "ctl.state" => Some(Subject::Control),
            _ => {
                let (cell, mailbox) = name.strip_prefix("d.")?.split_once('.')?;
                let mailbox = mailbox_id(mailbox.as_bytes())?;
                (cell.parse() == Ok(self.cell(&mailbox))).then_some(Subject::Mailbox(mailbox))
            }
        }
    }
}

fn mailbox_id(digits: &[u8]) -> Option<MailboxId> {
    let mut bytes = [0; 16];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = 16 * digit(pair[0])? + digit(pair[1])?;
    }
    Some(MailboxId::from_bytes(bytes))
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYBODYS: [Subject; 4] =
        [Subject::AccountChanged, Subject::NumberListed, Subject::Load, Subject::Control];

    fn mailbox(bytes: u128) -> MailboxId {
        MailboxId::from_bytes(bytes.to_be_bytes())
    }

    #[test]
    fn names_are_fixed() {
        let id = Subject::Mailbox(mailbox(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        assert_eq!(Subjects::new("", 1).name(&id), "d.0.0123456789abcdef0123456789abcdef");
        let subjects = Subjects::new("blue", 3);
        let names = EVERYBODYS.map(|s| subjects.name(&s));
        assert_eq!(names, ["blue.ev.acct", "blue.ev.dir", "blue.ctl.load", "blue.ctl.state"]);
    }

    /// Computed apart from this code. If this fails, a rolling upgrade loses hints.
    #[test]
    fn cells_are_fixed() {
        let ids = [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef];
        let cells = |count| ids.map(|id| Subjects::new("", count).cell(&mailbox(id)));
        assert_eq!(cells(1), [0; 4]);
        assert_eq!(cells(3), [0, 2, 0, 1]);
        assert_eq!(cells(16), [5, 2, 5, 5]);
        assert_eq!(cells(1000), [221, 10, 133, 101]);
    }

    #[test]
    fn cells_are_even() {
        let subjects = Subjects::new("", 7);
        let mut counts = [0; 7];
        for _ in 0..7_000 {
            counts[subjects.cell(&MailboxId::random())] += 1;
        }
        // The standard deviation is 29.
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_name_leads_back_to_its_subject() {
        for subjects in [Subjects::new("", 1), Subjects::new("blue", 5)] {
            let mailboxes = (0..20).map(|_| Subject::Mailbox(MailboxId::random()));
            for subject in mailboxes.chain(EVERYBODYS) {
                assert_eq!(subjects.parse(subjects.name(&subject).as_bytes()), Some(subject));
            }
        }
    }

    #[test]
    fn other_names_are_nobodys() {
        let subjects = Subjects::new("blue", 2);
        let own = subjects.name(&Subject::Mailbox(mailbox(0)));
        let other_cell =
            own.replacen(".d.0.", ".d.X.", 1).replacen(".d.1.", ".d.0.", 1).replacen("X", "1", 1);
        for name in [
            own.trim_start_matches("blue."),
            &format!("{own}0"),
            &own.replace('0', "g"),
            &other_cell,
            "blue.ev",
            "red.ev.acct",
        ] {
            assert_eq!(subjects.parse(name.as_bytes()), None, "{name}");
        }
    }
}
