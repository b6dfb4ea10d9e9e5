//! Processor time that a hypervisor gave to other machines while something was measured.
//!
//! A tail of milliseconds cannot be measured in it: on a machine with two processors, of which others took a tenth, the
//! p99 of the same program went from 19 to 50 ms.

use std::fs;

/// What has been counted since the machine started, in ticks of its clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessorTime {
    stolen: u64,
    all: u64,
}

impl ProcessorTime {
    /// `None` where there is no `/proc/stat`.
    pub(crate) fn now() -> Option<Self> {
        parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The share that others took since then, 0 to 1.
    pub(crate) fn stolen_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        self.stolen.saturating_sub(earlier.stolen) as f64 / all.max(1) as f64
    }
}

/// proc(5): `cpu user nice system idle iowait irq softirq steal guest guest_nice`; the last two are in `user` and `nice` too.
fn parse(stat: &str) -> Option<ProcessorTime> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> =
        line.split_ascii_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(ProcessorTime { stolen: *ticks.get(7)?, all: ticks.iter().sum() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_took_is_a_share_of_all() {
        let earlier = parse("cpu  100 0 50 800 10 0 5 35 7 0\ncpu0 1 2 3\n").unwrap();
        let later = parse("cpu  160 0 70 810 10 0 5 45 9 0\n").unwrap();
        assert!((later.stolen_since(earlier) - 0.1).abs() < 1e-9);
        assert!(parse("cpu0 1 2 3\n").is_none());
        assert!(parse("cpu  1 2 3\n").is_none(), "a kernel that does not count it");
    }
}
