//! What the server and this generator cost, read from `/proc`.
//!
//! Figures are cumulative where the kernel's are; the difference of two samples is the cost of the time between them.
//! Only Linux has `/proc`; elsewhere every read fails and the run goes on without these figures.

mod check;
mod sources;

use std::path::PathBuf;
use std::{fs, io, process};

pub use check::ObserveError;
use serde::{Deserialize, Serialize};
pub use sources::{Observed, Observer, Source, SourceError};

/// `USER_HZ`: the kernel reports CPU time to programs in hundredths of a second on every architecture it has for
/// servers, whatever its own tick is.
const MICROS_PER_TICK: u64 = 10_000;

/// One process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSample {
    /// User and system time since the process started.
    pub cpu_us: u64,
    pub rss_bytes: u64,
    pub rss_peak_bytes: u64,
    pub descriptors: u64,
    pub threads: u64,
}

impl ProcessSample {
    const fn plus(self, other: Self) -> Self {
        Self {
            cpu_us: self.cpu_us + other.cpu_us,
            rss_bytes: self.rss_bytes + other.rss_bytes,
            rss_peak_bytes: self.rss_peak_bytes + other.rss_peak_bytes,
            descriptors: self.descriptors + other.descriptors,
            threads: self.threads + other.threads,
        }
    }
}

/// All processors of the machine at one moment; times add up over processors, since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSample {
    pub total_us: u64,
    pub idle_us: u64,
    /// Time in which the hypervisor ran somebody else.
    pub steal_us: u64,
}

#[derive(Clone, Debug)]
pub struct Proc {
    root: PathBuf,
}

impl Default for Proc {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl Proc {
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// All of them together. Fails when there are none, or one is gone.
    pub fn processes(&self, pids: &[u32]) -> io::Result<ProcessSample> {
        let mut samples = pids.iter().map(|pid| self.process(*pid));
        let first = samples.next().ok_or(io::ErrorKind::NotFound)??;
        samples.try_fold(first, |sum, sample| Ok(sum.plus(sample?)))
    }

    /// Fails when the process is gone or belongs to somebody else.
    pub fn process(&self, pid: u32) -> io::Result<ProcessSample> {
        let folder = self.root.join(pid.to_string());
        let stat = fs::read_to_string(folder.join("stat"))?;
        let status = fs::read_to_string(folder.join("status"))?;
        // The command's name may hold anything, spaces and parentheses included, so fields count from its end.
        let (_, fields) = stat.rsplit_once(") ").ok_or_else(|| malformed("stat"))?;
        let field = |at: usize| fields.split(' ').nth(at).and_then(|text| text.parse::<u64>().ok());
        // From `state`, which is field 3 of proc_pid_stat(5): utime is 14, stime 15, num_threads 20.
        let (user, system, threads) = field(11)
            .zip(field(12))
            .zip(field(17))
            .map(|((u, s), t)| (u, s, t))
            .ok_or_else(|| malformed("stat"))?;
        Ok(ProcessSample {
            cpu_us: (user + system) * MICROS_PER_TICK,
            rss_bytes: kilobytes(&status, "VmRSS:").ok_or_else(|| malformed("status"))? * 1024,
            rss_peak_bytes: kilobytes(&status, "VmHWM:").ok_or_else(|| malformed("status"))? * 1024,
            descriptors: fs::read_dir(folder.join("fd"))?.count() as u64,
            threads,
        })
    }

    /// This process.
    pub fn own(&self) -> io::Result<ProcessSample> {
        self.process(process::id())
    }

    pub fn host(&self) -> io::Result<HostSample> {
        let stat = fs::read_to_string(self.root.join("stat"))?;
        let line =
            stat.lines().find_map(|line| line.strip_prefix("cpu ")).ok_or_else(|| malformed("stat"))?;
        // user nice system idle iowait irq softirq steal; guest time after these is part of user time already.
        let ticks: Vec<u64> = line.split_whitespace().map_while(|text| text.parse().ok()).take(8).collect();
        let [.., idle, iowait, _, _, steal] = ticks[..] else {
            return Err(malformed("stat"));
        };
        Ok(HostSample {
            total_us: ticks.iter().sum::<u64>() * MICROS_PER_TICK,
            idle_us: (idle + iowait) * MICROS_PER_TICK,
            steal_us: steal * MICROS_PER_TICK,
        })
    }
}

impl HostSample {
    /// The share of processor time that was stolen since `earlier`.
    pub fn steal_share_since(&self, earlier: &HostSample) -> f64 {
        let total = self.total_us.saturating_sub(earlier.total_us);
        if total == 0 { 0.0 } else { self.steal_us.saturating_sub(earlier.steal_us) as f64 / total as f64 }
    }
}

fn kilobytes(status: &str, key: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix(" kB")?.parse().ok()
}

fn malformed(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc has a `{file}` of an unknown form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_even_with_a_hostile_name() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("42");
        fs::create_dir_all(folder.join("fd")).unwrap();
        for descriptor in ["0", "1", "7"] {
            fs::write(folder.join("fd").join(descriptor), "").unwrap();
        }
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 11 0 999 1000 2000\n";
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("status"), "Name:\ta\nVmHWM:\t    300 kB\nVmRSS:\t    200 kB\n").unwrap();
        let sample = Proc::at(root.path()).process(42).unwrap();
        let expected = ProcessSample {
            cpu_us: 3_000_000,
            rss_bytes: 200 * 1024,
            rss_peak_bytes: 300 * 1024,
            descriptors: 3,
            threads: 11,
        };
        assert_eq!(sample, expected);
        assert_eq!(Proc::at(root.path()).process(43).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn stolen_time_is_a_share_of_all_time() {
        let root = tempfile::tempdir().unwrap();
        let proc = Proc::at(root.path());
        fs::write(root.path().join("stat"), "cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 1\n").unwrap();
        let before = proc.host().unwrap();
        fs::write(root.path().join("stat"), "cpu  50 0 50 70 10 0 0 20 5 0\ncpu0 1 1\n").unwrap();
        let after = proc.host().unwrap();
        assert_eq!(after.steal_share_since(&before), 0.2);
        assert_eq!(before.steal_share_since(&before), 0.0);
        assert_eq!(before.idle_us, 800_000);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_threads() {
        let sample = Proc::default().own().unwrap();
        assert!(sample.rss_bytes > 0 && sample.rss_peak_bytes >= sample.rss_bytes / 2);
        assert!(sample.threads >= 1 && sample.descriptors >= 3);
    }
}
