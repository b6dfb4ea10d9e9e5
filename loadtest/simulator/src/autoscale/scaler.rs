//! Who decides how many pods there are.

use serde::{Deserialize, Serialize};

use super::burst::Activation;
use super::fleet::{Fleet, Pool, Replicas};
use super::hpa::{Behavior, Hpa, metric};
use super::setting::Setting;
use super::views::Views;

/// `autoscaling.hpa.cpuUtilization` of the chart.
const CPU_TARGET: f64 = 0.6;
/// `autoscaling.hpa.demandTarget` and `autoscaling.keda.target` of the chart, and what control tells by itself.
const DEMAND_TARGET: f64 = 0.7;

/// Of the processors of a pod that waits, what is busy when it is full. An assumption, chosen so that it is below the target.
const WAITING: f64 = 0.5;

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The first replicas stay.
    Fixed,
    /// By processors, with nothing set but the chart's target.
    Cpu,
    /// By processors, with all that the demand has: as much room in each pod, and the chart's `behavior`.
    CpuEqual,
    /// The same as the first, of pods that wait for a store: they refuse while half of their processors are idle.
    CpuWaiting,
    /// By `spillway_control_demand_ratio`, out of Prometheus.
    Demand,
    /// Both, which is what the chart's HorizontalPodAutoscaler does if nothing is changed.
    DemandAndCpu,
    /// KEDA asks control.
    Keda,
    /// The same, and control pushes a burst deployment.
    KedaBurst,
}

/// What there is to decide from, each second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) now: u64,
    pub(super) replicas: Replicas,
    pub(super) fleet: &'a Fleet,
    pub(super) views: &'a Views,
    pub(super) setting: &'a Setting,
}

pub(super) trait Autoscaler {
    fn step(&mut self, seen: &Seen<'_>) -> Replicas;
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Fixed,
        Self::Cpu,
        Self::CpuEqual,
        Self::CpuWaiting,
        Self::Demand,
        Self::DemandAndCpu,
        Self::Keda,
        Self::KedaBurst,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "none",
            Self::Cpu => "CPU HPA at 60 %",
            Self::CpuEqual => "CPU HPA at 70 %, the chart's behavior",
            Self::CpuWaiting => "CPU HPA at 60 %, pods that wait",
            Self::Demand => "demand HPA",
            Self::DemandAndCpu => "demand and CPU HPA, as the chart has it",
            Self::Keda => "KEDA",
            Self::KedaBurst => "KEDA push with burst",
        }
    }

    /// Those who wait are other pods; all else is the same for everybody.
    pub(super) fn setting(self, setting: &Setting) -> Setting {
        let mut setting = *setting;
        if self == Self::CpuWaiting {
            setting.limits.busy_at_capacity = WAITING;
        }
        setting
    }

    /// `phase`: when, in its interval, the controller looks.
    pub(super) fn autoscaler(self, setting: &Setting, phase: u64) -> Box<dyn Autoscaler> {
        let hpa = |behavior| Hpa::new(setting.least, setting.most, behavior);
        let chart = || hpa(Behavior::chart());
        let by = |hpa, cpu, demand| Box::new(ByMetrics { hpa, cpu, demand, phase });
        match self {
            Self::Fixed => Box::new(Fixed),
            Self::Cpu | Self::CpuWaiting => by(hpa(Behavior::kubernetes()), Some(CPU_TARGET), None),
            Self::CpuEqual => by(chart(), Some(DEMAND_TARGET), None),
            Self::Demand => by(chart(), None, Some(DEMAND_TARGET)),
            Self::DemandAndCpu => by(chart(), Some(CPU_TARGET), Some(DEMAND_TARGET)),
            Self::Keda => Box::new(Keda { hpa: chart(), phase, burst: None }),
            Self::KedaBurst => {
                let above = Hpa::new(setting.burst_least, setting.burst_most, Behavior::chart());
                let burst = Some(Burst { activation: Activation::default(), above });
                Box::new(Keda { hpa: chart(), phase, burst })
            }
        }
    }
}

impl Seen<'_> {
    /// Whether the controller looks in this second.
    fn syncs(&self, phase: u64) -> bool {
        self.now % self.setting.delays.sync == phase % self.setting.delays.sync
    }
}

struct Fixed;

/// A HorizontalPodAutoscaler of these metrics, with their targets.
struct ByMetrics {
    hpa: Hpa,
    cpu: Option<f64>,
    demand: Option<f64>,
    phase: u64,
}

struct Keda {
    hpa: Hpa,
    phase: u64,
    burst: Option<Burst>,
}

struct Burst {
    activation: Activation,
    /// What lies above the burst's minimum. Control tells it the whole demand, as it tells the other.
    above: Hpa,
}

impl Autoscaler for Fixed {
    fn step(&mut self, seen: &Seen<'_>) -> Replicas {
        seen.replicas
    }
}

impl Autoscaler for ByMetrics {
    fn step(&mut self, seen: &Seen<'_>) -> Replicas {
        if !seen.syncs(self.phase) {
            return seen.replicas;
        }
        let current = seen.replicas.main;
        let tolerance = self.hpa.tolerance();
        let by_cpu = self.cpu.map(|target| {
            let pods = seen.views.processors(seen.now, seen.fleet)?;
            metric::utilization(current, target, pods, tolerance)
        });
        let by_demand = self.demand.map(|target| {
            let (demand, ready) = (seen.views.scraped()?, seen.fleet.ready(Pool::Main, seen.now));
            Some(metric::external_value(current, ready, demand.ratio(), target, tolerance))
        });
        let wish = metric::highest(current, &[by_cpu, by_demand]);
        Replicas { main: self.hpa.scale(seen.now, current, wish), ..seen.replicas }
    }
}

impl Autoscaler for Keda {
    fn step(&mut self, seen: &Seen<'_>) -> Replicas {
        let Replicas { mut main, mut burst } = seen.replicas;
        let told = seen.views.told();
        if let (Some(of), Some(told)) = (&mut self.burst, told) {
            burst = of.activation.step(seen.now, told.ratio_without_burst(), burst, seen.setting);
        }
        if seen.syncs(self.phase) {
            main = keda_syncs(&mut self.hpa, seen, main);
            if let Some(of) = &mut self.burst {
                burst = keda_syncs(&mut of.above, seen, burst);
            }
        }
        Replicas { main, burst }
    }
}

/// The HorizontalPodAutoscaler that KEDA has made of a ScaledObject.
fn keda_syncs(hpa: &mut Hpa, seen: &Seen<'_>, replicas: u32) -> u32 {
    if replicas == 0 {
        return 0;
    }
    let wish = seen
        .views
        .told()
        .map(|demand| metric::external_average(replicas, demand.pods_filled, DEMAND_TARGET, hpa.tolerance()));
    hpa.scale(seen.now, replicas, wish)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_the_chart_and_of_control() {
        let values = include_str!("../../../../helm/spillway/values.yaml");
        assert!(values.contains(&format!("demandTarget: \"{DEMAND_TARGET}\"")));
        assert!(values.contains(&format!("\n      target: \"{DEMAND_TARGET}\"")));
        assert!(values.contains(&format!("cpuUtilization: {}\n", 100.0 * CPU_TARGET)));
        let metadata = include_str!("../../../../services/control/src/scaler/metadata.rs");
        assert!(metadata.contains(&format!("const TARGET: f64 = {DEMAND_TARGET};")));
    }

    #[test]
    fn the_behavior_is_that_of_the_chart() {
        let values = include_str!("../../../../helm/spillway/values.yaml");
        let policies = "scaleUp:\n        stabilizationWindowSeconds: 0\n        selectPolicy: Max\n        policies:\n          \
                        - type: Percent\n            value: 900\n            periodSeconds: 15\n          \
                        - type: Pods\n            value: 50\n            periodSeconds: 15\n";
        assert!(values.contains(policies));
        let down = "- type: Percent\n            value: 10\n            periodSeconds: 60\n";
        assert!(values.contains(down));
        let surge = include_str!("../../../../helm/spillway/values-surge.yaml");
        let window = Behavior::chart().down.window_s;
        assert!(surge.contains(&format!("stabilizationWindowSeconds: {window}\n")));
    }
}
