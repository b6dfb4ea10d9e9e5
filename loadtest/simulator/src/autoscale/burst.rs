//! When a burst deployment is wanted: the rule of `services/control/src/scaler/burst.rs`, and KEDA's around it.

use super::setting::Setting;

/// `burst.activation` of the chart.
const ON: f64 = 0.85;
/// A trigger that does not say otherwise ends at nine tenths of it.
const OFF: f64 = 0.9 * ON;
/// For how long demand must have been below, in seconds.
const CALM_S: u64 = 30;
/// `burst.cooldownPeriod` of `values-surge.yaml`: KEDA waits for it besides, in seconds.
const COOLDOWN_S: u64 = 1_800;

/// From none to the minimum in one write, and back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activation {
    active: bool,
    calm_since: Option<u64>,
    active_at: u64,
    /// A write that is under way, and when it arrives.
    write_at: Option<u64>,
}

impl Activation {
    /// `ratio`: demand over the capacity of all but the burst's own. Returns the replicas that KEDA writes, of a burst that has
    /// `replicas`; what lies above the minimum is the HorizontalPodAutoscaler's.
    pub(super) fn step(&mut self, now: u64, ratio: f64, replicas: u32, setting: &Setting) -> u32 {
        self.look(now, ratio);
        if self.active {
            self.active_at = now;
            if replicas > 0 {
                return replicas;
            }
            let at = *self.write_at.get_or_insert(now + setting.delays.push);
            return if now >= at { setting.burst_least } else { 0 };
        }
        self.write_at = None;
        if now.saturating_sub(self.active_at) >= COOLDOWN_S { 0 } else { replicas }
    }

    fn look(&mut self, now: u64, ratio: f64) {
        if ratio >= ON {
            (self.active, self.calm_since) = (true, None);
        } else if !self.active || ratio >= OFF {
            self.calm_since = None;
        } else if now.saturating_sub(*self.calm_since.get_or_insert(now)) >= CALM_S {
            (self.active, self.calm_since) = (false, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_in_one_write_and_goes_after_calm_and_cooldown() {
        let (mut activation, setting) = (Activation::default(), Setting::default());
        let mut replicas = 0;
        let mut play = |from: u64, until: u64, ratio: f64| {
            for now in from..until {
                replicas = activation.step(now, ratio, replicas, &setting);
            }
            replicas
        };
        assert_eq!(play(0, 2_000, 0.84), 0);
        assert_eq!(play(2_000, 2_001, 0.85), 0, "the write is under way");
        assert_eq!(play(2_001, 2_002, 0.85), 12);
        assert_eq!(play(2_002, 9_000, 0.77), 12, "between the two nothing changes");
        assert_eq!(play(9_000, 9_000 + 30 + 1_799, 0.5), 12);
        assert_eq!(play(9_000 + 30 + 1_799, 9_000 + 30 + 1_801, 0.5), 0);
    }

    /// Both are written down twice, here and where they rule.
    #[test]
    fn the_rule_is_that_of_the_service_and_the_chart() {
        let control = include_str!("../../../../services/control/src/scaler/burst.rs");
        assert!(control.contains(&format!("const CALM: Duration = Duration::from_secs({CALM_S});")));
        let metadata = include_str!("../../../../services/control/src/scaler/metadata.rs");
        assert!(metadata.contains("const DEACTIVATION: f64 = 0.9;"));
        let values = include_str!("../../../../helm/spillway/values.yaml");
        assert!(values.contains(&format!("activation: \"{ON}\"")));
        let surge = include_str!("../../../../helm/spillway/values-surge.yaml");
        let Setting { burst_least, burst_most, least, most, buffer, .. } = Setting::default();
        for (key, value) in [
            ("  minReplicas", burst_least),
            ("  maxReplicas", burst_most),
            ("    minReplicas", least),
            ("    maxReplicas", most),
            ("  replicas", buffer),
            ("  cooldownPeriod", COOLDOWN_S as u32),
        ] {
            let line = format!("\n{key}: {value}\n");
            assert!(surge.contains(&line), "values-surge.yaml has no {line:?}");
        }
    }
}
