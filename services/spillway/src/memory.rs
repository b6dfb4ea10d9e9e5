//! Memory: what many small, idle things cost, and how much of what may be used is.

use std::fs;

/// Turns transparent huge pages off for this process. The allocator asks for them, and then a session whose few
/// buffers touch a corner of each huge page keeps all of it resident: measured with `cargo xtask bench --only idle`,
/// 45 kB for each idle session with them and 29 kB without.
#[cfg(target_os = "linux")]
pub(crate) fn use_small_pages() {
    // Refused: sessions cost more memory, and nothing else changes.
    rustix::thread::disable_transparent_huge_pages(true).ok();
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn use_small_pages() {}

/// 0 to 1, of what the control group or the machine has; 0 where it cannot be known.
pub(crate) fn used() -> f64 {
    limit_bytes().map_or(0.0, |limit| resident_bytes() as f64 / limit.max(1) as f64)
}

/// 0 where there is no `/proc`.
pub(crate) fn resident_bytes() -> u64 {
    fs::read_to_string("/proc/self/status").ok().and_then(|status| kib(&status, "VmRSS:")).unwrap_or(0) * 1024
}

fn limit_bytes() -> Option<u64> {
    let machine = kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")? * 1024;
    // As a container sees its own group: version 2, then version 1. "max" is no number, and no limit.
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = groups.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    Some(limits.fold(machine, u64::min))
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kib() {
        let status = "Name:\tspillway\nVmHWM:\t  900 kB\nVmRSS:\t  512 kB\n";
        assert_eq!(kib(status, "VmRSS:"), Some(512));
        assert_eq!(kib("Name:\tspillway\n", "VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_some_of_what_there_is() {
        let used = used();
        assert!(used > 0.0 && used < 1.0, "{used}");
        assert!(limit_bytes().unwrap() > resident_bytes());
    }
}
