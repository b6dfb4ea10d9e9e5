//! What the machine that the load comes from has to give.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// `None`: this system does not say, or there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Descriptors that one process may have open (`ulimit -n`).
    pub descriptors: Option<u64>,
    /// Local ports for connections to one address.
    pub ports: Option<u64>,
    /// Memory that could be had without swapping.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    pub fn here() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        Self {
            descriptors: getrlimit(Resource::Nofile).current,
            ports: ports(&range),
            memory_bytes: available(&meminfo),
        }
    }
}

fn ports(range: &str) -> Option<u64> {
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(from)), Some(Ok(to))) = (ends.next(), ends.next()) else { return None };
    to.checked_sub(from).map(|count| count + 1)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_files_are_read() {
        assert_eq!(ports("32768\t60999\n"), Some(28_232));
        assert_eq!(ports(""), None);
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }
}
