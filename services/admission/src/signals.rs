//! What tells that a process is short of something other than seats.

use std::time::Duration;

use crate::config::PressureConfig;

/// Signals of one tick, from the owner, who can measure them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signals {
    /// How long a runnable task waits until it runs. In async code this is the other half of the time in queue. What stands
    /// and not what peaks, such as the median of some ticks: a pause is no overload.
    pub run_queue_delay: Duration,
    /// Memory used over what may be used.
    pub memory: f64,
    /// Descriptors open over what may be open.
    pub descriptors: f64,
    /// What reaches the hop below over what it can do, as it has told: 1 is as much as it can, 2 is twice that. 0 if it says nothing,
    /// which is what it does below 0.8.
    pub downstream: f64,
}

/// Which signal is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    RunQueue,
    Memory,
    Descriptors,
    Downstream,
}

impl Source {
    pub const ALL: [Self; 4] = [Self::RunQueue, Self::Memory, Self::Descriptors, Self::Downstream];

    pub const fn name(self) -> &'static str {
        match self {
            Self::RunQueue => "run_queue",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::Downstream => "downstream",
        }
    }
}

impl Signals {
    /// Each signal over its target, in the order of [`Source::ALL`]. What is no number counts as no pressure: a broken
    /// gauge must not stop the service.
    pub(crate) fn pressures(&self, targets: &PressureConfig) -> [f64; 4] {
        [
            self.run_queue_delay.div_duration_f64(targets.run_queue_delay),
            self.memory / targets.memory,
            self.descriptors / targets.descriptors,
            self.downstream,
        ]
        .map(|pressure| if pressure.is_finite() { pressure.clamp(0.0, 1_000.0) } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_is_measured_by_its_own_target() {
        let signals = Signals {
            run_queue_delay: Duration::from_millis(30),
            memory: 0.4,
            descriptors: f64::NAN,
            downstream: 3.0,
        };
        assert_eq!(signals.pressures(&PressureConfig::default()), [1.5, 0.5, 0.0, 3.0]);
    }
}
