//! How many file descriptors are open, of those that may be.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// 0 to 1; 0 where it cannot be known.
pub(super) fn used() -> f64 {
    match (open(), getrlimit(Resource::Nofile).current) {
        (Some(open), Some(limit)) if limit > 0 => open as f64 / limit as f64,
        _ => 0.0,
    }
}

fn open() -> Option<u64> {
    // Since Linux 6.2 the folder's size is the number, so that nobody has to read a hundred thousand entries.
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 { Some(size) } else { Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_opened_counts() {
        let before = open().unwrap();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        // Other tests of this process open and close files meanwhile.
        assert!(open().unwrap() >= before + 25, "{before} and {} more", files.len());
        assert!((0.0..=1.0).contains(&used()));
    }
}
