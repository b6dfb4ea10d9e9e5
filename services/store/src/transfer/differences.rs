/// As many are named; all are counted.
const NAMED_MAX: usize = 1_000;

/// Records of the file of which the destination has something else, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    count: u64,
    named: Vec<String>,
}

impl Differences {
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The first of them, for people.
    pub fn named(&self) -> &[String] {
        &self.named
    }

    pub(super) fn add(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(name());
        }
    }
}
