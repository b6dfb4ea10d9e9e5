//! When a burst deployment is wanted: one that has no replicas as a rule, and some at once when the others are nearly full.
//!
//! KEDA scales from 1 to n by Kubernetes' own autoscaler, every 15 seconds, but from 0 by itself as soon as it is told to. So what has
//! to be there at once is a deployment of its own, with `idleReplicaCount: 0`.
//!
//! Its own pods are known by how their names begin, and left out of the ratio, so that its coming up is no reason to go. It is
//! wanted from `on`, and until the ratio has been below `off` for a while: by then the others have been scaled up to their target.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::role::Role;

/// One quiet second is no end of a surge. KEDA waits for its `cooldownPeriod` besides.
const CALM: Duration = Duration::from_secs(30);
/// Of which it is remembered whether they are wanted.
pub(super) const BURSTS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Burst {
    /// Ratios of demand to capacity.
    pub(super) on: f64,
    pub(super) off: f64,
    /// How the names of its own pods begin. Empty: they are not told apart.
    pub(super) pods: String,
}

impl Burst {
    pub(super) fn is_its_own(&self, name: &str) -> bool {
        !self.pods.is_empty() && name.starts_with(&self.pods)
    }
}

type Key = (Role, u64, u64, String);

/// All that were asked about.
#[derive(Debug, Default)]
pub(super) struct Bursts(Mutex<BTreeMap<Key, State>>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    active: bool,
    calm_since: Option<Instant>,
}

impl Bursts {
    /// Whether it is wanted. `None`: of too many it would have to be remembered.
    pub(super) fn step(&self, role: Role, burst: &Burst, ratio: f64, now: Instant) -> Option<bool> {
        let key = (role, burst.on.to_bits(), burst.off.to_bits(), burst.pods.clone());
        // Only whole values are assigned under this lock.
        let mut bursts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bursts.len() >= BURSTS_MAX && !bursts.contains_key(&key) {
            return None;
        }
        let state = bursts.entry(key).or_default();
        *state = state.step(burst, ratio, now);
        Some(state.active)
    }
}

impl State {
    /// A control process that does not know yet takes it for not wanted: between `off` and `on` the fleet does well without.
    fn step(self, burst: &Burst, ratio: f64, now: Instant) -> Self {
        if ratio >= burst.on {
            return Self { active: true, calm_since: None };
        }
        if !self.active || ratio >= burst.off {
            return Self { calm_since: None, ..self };
        }
        let since = self.calm_since.unwrap_or(now);
        let calm = now.saturating_duration_since(since) >= CALM;
        Self { active: !calm, calm_since: (!calm).then_some(since) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn burst() -> Burst {
        Burst { on: 0.85, off: 0.75, pods: "burst-".to_owned() }
    }

    /// The ratio in each second: in which of them it is wanted.
    fn play(ratios: &[f64]) -> Vec<bool> {
        let (bursts, start) = (Bursts::default(), Instant::now());
        let second = |n: usize| start + Duration::from_secs(n as u64);
        let step = |(n, &ratio)| bursts.step(Role::Gateway, &burst(), ratio, second(n)).unwrap();
        ratios.iter().enumerate().map(step).collect()
    }

    #[test]
    fn it_comes_at_once_and_goes_after_a_calm() {
        assert_eq!(play(&[0.5, 0.84, 0.85, 0.8]), [false, false, true, true]);
        let mut ratios = vec![2.0];
        ratios.extend([0.5; 20]);
        // Half a minute begins anew.
        ratios.push(0.76);
        ratios.extend([0.5; 32]);
        let wanted = play(&ratios);
        assert_eq!(wanted.iter().filter(|wanted| **wanted).count(), 1 + 20 + 1 + 30);
        assert!(!wanted[wanted.len() - 1]);
    }

    #[test]
    fn its_own_pods_are_known_by_their_names() {
        assert!(burst().is_its_own("burst-7d4-x2"));
        assert!(!burst().is_its_own("gateway-burst-1"));
        assert!(!Burst { pods: String::new(), ..burst() }.is_its_own("burst-1"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (bursts, now) = (Bursts::default(), Instant::now());
        for n in 0..BURSTS_MAX {
            let pods = format!("b{n}");
            assert!(bursts.step(Role::Gateway, &Burst { pods, ..burst() }, 1.0, now).is_some());
        }
        assert_eq!(bursts.step(Role::Gateway, &burst(), 1.0, now), None);
        let known = Burst { pods: "b0".to_owned(), ..burst() };
        assert_eq!(bursts.step(Role::Gateway, &known, 0.8, now), Some(true));
    }

    proptest! {
        /// Whatever the ratio does, it is wanted from `on` at once, and never changes twice within the calm.
        #[test]
        fn it_does_not_flap(ratios in proptest::collection::vec(0.0_f64..1.5, 1..300)) {
            let wanted = play(&ratios);
            for (ratio, wanted) in ratios.iter().zip(&wanted) {
                prop_assert!(*ratio < 0.85 || *wanted);
            }
            let mut on_since = None;
            for (second, pair) in wanted.windows(2).enumerate() {
                match pair {
                    [false, true] => on_since = Some(second),
                    [true, false] => prop_assert!(on_since.is_none_or(|since| second - since >= 30)),
                    _ => {}
                }
            }
        }
    }
}
