//! The parts of a store, and a value for each.

use std::ops::{Index, IndexMut};

/// One kind of record. The order is that of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    Accounts,
    Claims,
    Directory,
    Keys,
    Settled,
    Verifications,
    Messages,
}

impl Section {
    pub const ALL: [Section; 7] = [
        Self::Accounts,
        Self::Claims,
        Self::Directory,
        Self::Keys,
        Self::Settled,
        Self::Verifications,
        Self::Messages,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Claims => "claims",
            Self::Directory => "directory",
            Self::Keys => "keys",
            Self::Settled => "settled",
            Self::Verifications => "verifications",
            Self::Messages => "messages",
        }
    }

    /// What stands before a record of this section in an export. Never 0 and never given to another section.
    pub(super) const fn tag(self) -> u8 {
        self as u8 + 1
    }

    pub(super) fn of_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.tag() == tag)
    }
}

/// A value for each section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sections<T>([T; Section::ALL.len()]);

impl<T> Sections<T> {
    pub fn iter(&self) -> impl Iterator<Item = (Section, &T)> {
        Section::ALL.into_iter().zip(&self.0)
    }
}

impl<T> Index<Section> for Sections<T> {
    type Output = T;

    fn index(&self, section: Section) -> &T {
        &self.0[section as usize]
    }
}

impl<T> IndexMut<Section> for Sections<T> {
    fn index_mut(&mut self, section: Section) -> &mut T {
        &mut self.0[section as usize]
    }
}

/// Number and checksum of records. The order in which they are added makes no difference, so two stores that hold the
/// same have the same total, whatever the order in which they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    pub records: u64,
    /// Sum modulo 2^128 of the XXH3-128 of each record's encoding. Finds mistakes; is no defence against forgery.
    pub checksum: u128,
}

impl Total {
    pub(super) fn add(&mut self, checksum: u128) {
        self.records += 1;
        self.checksum = self.checksum.wrapping_add(checksum);
    }
}
