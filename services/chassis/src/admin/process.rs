//! The standard `process_*` metrics, read from `/proc` at each scrape.
//!
//! Written here because the `prometheus` crate's own collector brings two more dependencies and reads the page size
//! through `libc`. What cannot be read (any system but Linux) is left out rather than reported as zero.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// The unit of CPU and start times in `/proc`, in ticks a second: USER_HZ, which is 100 in the kernel's interface to
/// programs on every architecture that Rust's `std` supports, whatever the kernel's own tick is (man 5 proc, man 7 time).
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct ProcessCollector {
    resident_bytes: Gauge,
    cpu_seconds: Counter,
    open_fds: Gauge,
    max_fds: Gauge,
    start_time_seconds: Gauge,
}

/// What this process used, from `/proc/self/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    /// Since boot.
    start_ticks: u64,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        let gauge = |name, help| Gauge::new(name, help).expect("the name is a valid literal");
        Self {
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory size in bytes."),
            cpu_seconds: Counter::new(
                "process_cpu_seconds_total",
                "User and system CPU time spent in seconds.",
            )
            .expect("the name is a valid literal"),
            open_fds: gauge("process_open_fds", "Number of open file descriptors."),
            max_fds: gauge("process_max_fds", "Maximum number of open file descriptors."),
            start_time_seconds: gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            ),
        }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [&self.resident_bytes, &self.open_fds, &self.max_fds, &self.start_time_seconds];
        gauges.into_iter().flat_map(Gauge::desc).chain(self.cpu_seconds.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = |path| fs::read_to_string(path).ok();
        let stat = read("/proc/self/stat").and_then(|text| parse_stat(&text));
        let boot_seconds = read("/proc/stat").and_then(|text| number_after(&text, "btime"));
        let resident_kib = read("/proc/self/status").and_then(|text| number_after(&text, "VmRSS:"));
        let max_fds = read("/proc/self/limits").and_then(|text| number_after(&text, "Max open files"));

        let mut families = Vec::new();
        let mut set = |gauge: &Gauge, value: Option<f64>| {
            if let Some(value) = value {
                gauge.set(value);
                families.extend(gauge.collect());
            }
        };
        set(&self.resident_bytes, resident_kib.map(|kib| kib * 1024.0));
        set(&self.open_fds, open_fds());
        set(&self.max_fds, max_fds);
        let started = stat.as_ref().zip(boot_seconds);
        set(
            &self.start_time_seconds,
            started.map(|(stat, boot)| boot + stat.start_ticks as f64 / TICKS_PER_SECOND),
        );
        if let Some(stat) = stat {
            // Two scrapes at once could both add the same second; the next one would then add nothing.
            let ahead = stat.cpu_ticks as f64 / TICKS_PER_SECOND - self.cpu_seconds.get();
            self.cpu_seconds.inc_by(ahead.max(0.0));
            families.extend(self.cpu_seconds.collect());
        }
        families
    }
}

/// Fields are numbered as in man 5 proc. The second, the program's name, may hold spaces and parentheses, so counting
/// starts after its last parenthesis.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_pid_and_name, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat { cpu_ticks: field(14)? + field(15)?, start_ticks: field(22)? })
}

/// The first number on the line that starts with `label`.
fn number_after(text: &str, label: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

fn open_fds() -> Option<f64> {
    const DIRECTORY: &str = "/proc/self/fd";
    // Since Linux 6.2 the size of the directory is the number of descriptors, which spares a listing of 100,000.
    let size = fs::metadata(DIRECTORY).ok()?.len();
    if size > 0 {
        return Some(size as f64);
    }
    // One of the entries is the listing's own descriptor.
    Some(fs::read_dir(DIRECTORY).ok()?.count().saturating_sub(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 4 0 123456 8 9 10";
        assert_eq!(parse_stat(text), Some(Stat { cpu_ticks: 300, start_ticks: 123_456 }));
        assert_eq!(parse_stat("7 (a) S 1"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn values_of_this_process_are_plausible_and_follow_it() {
        let collector = ProcessCollector::new();
        let value = |name: &str| {
            let families = collector.collect();
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let metric = &family.get_metric()[0];
            metric.get_gauge().get_value() + metric.get_counter().get_value()
        };
        let mib = 1024.0 * 1024.0;
        let resident = value("process_resident_memory_bytes");
        assert!(resident > mib && resident < 4096.0 * mib, "{resident}");
        let start = value("process_start_time_seconds");
        assert!(start > 1.6e9 && start < 4e9, "{start}");

        let before = value("process_open_fds");
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        // Other tests open and close a few at the same time.
        assert!(value("process_open_fds") > before + 25.0);
        drop(held);
        assert!(value("process_max_fds") >= value("process_open_fds"));

        let cpu = value("process_cpu_seconds_total");
        assert!(cpu < 3600.0 && value("process_cpu_seconds_total") >= cpu, "{cpu}");
    }
}
