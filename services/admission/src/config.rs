//! Settings of overload control, each with its number's reason.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of one [`Admission`](crate::Admission). The defaults are for a server of any size: what depends on its size is
/// measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionConfig {
    pub mode: Mode,
    /// Processors to plan for. Unset: those that the process may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// The widest that one call counts, in seats. A wider one takes as long as it takes, and would starve others of
    /// its tier if it had to wait until so much is free.
    pub seats_max: u32,
    /// Exempt calls that run at once. Further ones are served like the most important acks, so that a flood of health
    /// checks is no way around admission.
    pub exempt_max: u32,
    pub gate: GateConfig,
    pub limiter: LimiterConfig,
    pub queue: QueueConfig,
    pub pressure: PressureConfig,
    pub pushback: PushbackConfig,
    pub hold_back: HoldBackConfig,
    pub brownout: BrownoutConfig,
}

/// Whether decisions count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    On,
    /// Count what would be refused, refuse nothing, let nobody wait.
    Shadow,
    /// Let everything through, and measure only how much runs.
    Off,
}

/// The priority gate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateConfig {
    /// `false`: only the limiter and its queue refuse.
    pub enabled: bool,
    /// The wait for a seat that is no sign of overload, and the queue that is aimed at in overload, if that is not less than chance
    /// takes away within a tick. DAGOR takes 20 ms at a timeout of 500 ms; 5 ms is CoDel's.
    #[serde(with = "humantime_serde")]
    pub queue_target: Duration,
    /// The most of what is offered that is refused, 0 to 1.
    pub rho_max: f64,
    /// Of each tier but the last this share is let through to the queue, so that recovery is seen.
    pub probe: f64,
    /// Seats in the window of arrivals that decides who is refused, if so many come within a second. The deviation of
    /// 200 is 7 %.
    pub window_seats: u32,
    /// With fewer seats in a second the gate only opens.
    pub window_thin: u32,
}

/// The limit on what runs at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimiterConfig {
    /// The first limit, in seats. Unset: 32 for each processor, and 256 at least: too much is cut within a second, too
    /// little takes longer to be found, and refuses meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<u32>,
    /// The least limit, in seats. Unset: 2 for each processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least: Option<u32>,
    /// The most, in seats. What memory allows.
    pub most: u32,
    /// The absolute ceiling: acks that take longer than this lower the limit, whatever their usual time has become.
    /// Without it a steadily bad time looks normal (Netflix/concurrency-limits issue 137).
    #[serde(with = "humantime_serde")]
    pub ceiling: Duration,
    /// The shortest time over which throughput at one limit is judged.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// The fewest finished calls over which it is judged.
    pub window_calls: u32,
    /// The limit aimed at is this many times what throughput and uncongested service time need (BBR aims at 2 as well).
    pub gain: f64,
    /// How often, about, the limit is lowered by a quarter for a window when it has been full all the time, to see
    /// whether throughput needs it.
    #[serde(with = "humantime_serde")]
    pub dip_every: Duration,
}

/// The queue for seats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// The most calls that wait, whatever the capacity.
    pub calls_max: u32,
    /// A tier whose queue has not been empty for `codel_interval` in overload makes new calls wait at most
    /// `codel_target`. Facebook's numbers ("Fail at Scale", ACM Queue 2015).
    #[serde(with = "humantime_serde")]
    pub codel_target: Duration,
    #[serde(with = "humantime_serde")]
    pub codel_interval: Duration,
}

/// What of each signal is too much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PressureConfig {
    /// The delay of a runnable task until it runs.
    #[serde(with = "humantime_serde")]
    pub run_queue_delay: Duration,
    /// Of the memory the process may use, 0 to 1.
    pub memory: f64,
    /// Of the descriptors the process may open, 0 to 1.
    pub descriptors: f64,
}

/// How long the refused are sent away.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushbackConfig {
    /// What those who come back may be of what their tier is granted, 0 to 1.
    pub share: f64,
}

/// What cooperating clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HoldBackConfig {
    /// How long advice holds in light overload.
    #[serde(with = "humantime_serde")]
    pub ttl_min: Duration,
    /// How long it holds when nearly everything is refused. Clients wait up to half as long again, so it bounds how long
    /// they stay away after the overload is over: 2 s. Longer advice does not lower the load, because whoever was
    /// refused waits for the pause of `RetryInfo` anyway (simulated: E2 and E7).
    #[serde(with = "humantime_serde")]
    pub ttl_max: Duration,
}

/// The ladder of what is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrownoutConfig {
    /// `false`: only the operator moves it.
    pub automatic: bool,
    /// How long a reason must last for the next rung up.
    #[serde(with = "humantime_serde")]
    pub up_after: Duration,
    /// How long the reason must be gone for the next rung down. Doubled each time that going down was wrong.
    #[serde(with = "humantime_serde")]
    pub down_after: Duration,
    /// The most that `down_after` is doubled to.
    #[serde(with = "humantime_serde")]
    pub down_after_max: Duration,
}

/// Why a configuration cannot be used. The text names the key and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionConfigError {
    #[error("admission: {0} must be more than 0; leave it out for the default")]
    Zero(&'static str),
    #[error("admission: {0} must be more than 0 and at most 1; it is a share of the whole")]
    Share(&'static str),
    #[error("admission: {least} must not be more than {most}; lower the first or raise the second")]
    Order { least: &'static str, most: &'static str },
    #[error(
        "admission: limiter.gain must be from 1.1 to 10; at 1 the limit never grows, and 2 is a good value"
    )]
    Gain,
    #[error(
        "admission: gate.rho_max must be at least 0 and less than 1; at 1 nothing is let through and recovery is not seen"
    )]
    RhoMax,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            mode: Mode::On,
            cores: None,
            seats_max: 64,
            exempt_max: 64,
            gate: GateConfig::default(),
            limiter: LimiterConfig::default(),
            queue: QueueConfig::default(),
            pressure: PressureConfig::default(),
            pushback: PushbackConfig::default(),
            hold_back: HoldBackConfig::default(),
            brownout: BrownoutConfig::default(),
        }
    }
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            queue_target: Duration::from_millis(5),
            rho_max: 0.999,
            probe: 0.01,
            window_seats: 200,
            window_thin: 40,
        }
    }
}

impl Default for LimiterConfig {
    fn default() -> Self {
        Self {
            initial: None,
            least: None,
            most: 100_000,
            ceiling: Duration::from_millis(250),
            window: Duration::from_secs(1),
            window_calls: 200,
            gain: 2.0,
            dip_every: Duration::from_secs(60),
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            calls_max: 16_384,
            codel_target: Duration::from_millis(5),
            codel_interval: Duration::from_millis(100),
        }
    }
}

impl Default for PressureConfig {
    fn default() -> Self {
        Self { run_queue_delay: Duration::from_millis(20), memory: 0.8, descriptors: 0.8 }
    }
}

impl Default for PushbackConfig {
    fn default() -> Self {
        Self { share: 0.1 }
    }
}

impl Default for HoldBackConfig {
    fn default() -> Self {
        Self { ttl_min: Duration::from_millis(500), ttl_max: Duration::from_millis(1_200) }
    }
}

impl Default for BrownoutConfig {
    fn default() -> Self {
        Self {
            automatic: true,
            up_after: Duration::from_secs(2),
            down_after: Duration::from_secs(10),
            down_after_max: Duration::from_secs(300),
        }
    }
}

impl LimiterConfig {
    pub(crate) fn initial(&self, cores: u32) -> u32 {
        self.initial.unwrap_or((32 * cores).max(256)).min(self.most)
    }
}

impl AdmissionConfig {
    /// # Errors
    ///
    /// The first value that cannot work.
    pub fn validate(&self) -> Result<(), AdmissionConfigError> {
        use AdmissionConfigError::{Gain, Order, RhoMax, Share, Zero};
        let (gate, limiter, queue) = (&self.gate, &self.limiter, &self.queue);
        let zeros = [
            ("cores", self.cores == Some(0)),
            ("seats_max", self.seats_max == 0),
            ("gate.queue_target", gate.queue_target.is_zero()),
            ("gate.window_seats", gate.window_seats == 0),
            ("limiter.initial", limiter.initial == Some(0)),
            ("limiter.least", limiter.least == Some(0)),
            ("limiter.most", limiter.most == 0),
            ("limiter.ceiling", limiter.ceiling.is_zero()),
            ("limiter.window", limiter.window.is_zero()),
            ("limiter.window_calls", limiter.window_calls == 0),
            ("limiter.dip_every", limiter.dip_every.is_zero()),
            ("queue.calls_max", queue.calls_max == 0),
            ("queue.codel_target", queue.codel_target.is_zero()),
            ("queue.codel_interval", queue.codel_interval.is_zero()),
            ("pressure.run_queue_delay", self.pressure.run_queue_delay.is_zero()),
            ("hold_back.ttl_min", self.hold_back.ttl_min.is_zero()),
            ("brownout.up_after", self.brownout.up_after.is_zero()),
            ("brownout.down_after", self.brownout.down_after.is_zero()),
        ];
        if let Some((key, _)) = zeros.into_iter().find(|(_, zero)| *zero) {
            return Err(Zero(key));
        }
        let shares = [
            ("gate.probe", gate.probe),
            ("pressure.memory", self.pressure.memory),
            ("pressure.descriptors", self.pressure.descriptors),
            ("pushback.share", self.pushback.share),
        ];
        // Written so that what is not a number is refused too.
        if let Some((key, _)) = shares.into_iter().find(|&(_, share)| !(share > 0.0 && share <= 1.0)) {
            return Err(Share(key));
        }
        if !(1.1..=10.0).contains(&limiter.gain) {
            return Err(Gain);
        }
        if !(0.0..1.0).contains(&gate.rho_max) {
            return Err(RhoMax);
        }
        let order = |least, most, wrong: bool| if wrong { Err(Order { least, most }) } else { Ok(()) };
        order("limiter.least", "limiter.most", limiter.least.is_some_and(|least| least > limiter.most))?;
        order("limiter.initial", "limiter.most", limiter.initial.is_some_and(|first| first > limiter.most))?;
        order("hold_back.ttl_min", "hold_back.ttl_max", self.hold_back.ttl_min > self.hold_back.ttl_max)?;
        let brownout = &self.brownout;
        order("brownout.down_after", "brownout.down_after_max", brownout.down_after > brownout.down_after_max)
    }

    /// The processors to plan for.
    pub(crate) fn cores(&self) -> u32 {
        let available = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        self.cores.unwrap_or_else(available).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> AdmissionConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_default_works_and_survives_printing() {
        let config = AdmissionConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(parse(&toml::to_string(&config).unwrap()), config);
        assert_eq!(parse(""), config);
    }

    #[test]
    fn what_cannot_work_is_named() {
        use AdmissionConfigError::{Gain, Order, RhoMax, Share, Zero};
        let wrong = |text| parse(text).validate().unwrap_err();
        assert_eq!(wrong("cores = 0"), Zero("cores"));
        assert_eq!(wrong("[gate]\nqueue_target = \"0s\""), Zero("gate.queue_target"));
        assert_eq!(wrong("[pressure]\nmemory = 1.2"), Share("pressure.memory"));
        assert_eq!(wrong("[pushback]\nshare = nan"), Share("pushback.share"));
        assert_eq!(wrong("[gate]\nrho_max = 1.0"), RhoMax);
        assert_eq!(wrong("[limiter]\ngain = 1.0"), Gain);
        let (least, most) = ("limiter.least", "limiter.most");
        assert_eq!(wrong("[limiter]\nleast = 9\nmost = 8"), Order { least, most });
        assert!(
            wrong("[limiter]\nleast = 9\nmost = 8").to_string().contains("limiter.least must not be more")
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = toml::from_str::<AdmissionConfig>("[gate]\ntarget = \"5ms\"").unwrap_err();
        assert!(error.message().contains("target"), "{error}");
        assert_eq!(parse("mode = \"shadow\"").mode, Mode::Shadow);
    }
}
