//! File descriptors: every device holds one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. Shells start programs with a soft limit of 1,024 for the sake of programs
/// that use `select`, which this one does not. Answers with the limit, if there is one.
pub(crate) fn raise_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused: the limit stays as it is, and the connections at their own limit.
    setrlimit(Resource::Nofile, limit).ok();
    getrlimit(Resource::Nofile).current
}
