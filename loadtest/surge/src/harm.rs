//! What the rude do to the polite: one run beside another with the same seed in which the rude are silent.
//!
//! In both runs the polite are offered the same: the same messages from and to the same people, at the same times. The difference between two
//! runs is partly chance, so the calm of both, which had nobody rude in it, is shown beside it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::summary::{EXISTING_SEND, Existing, OperationSummary};
use crate::workload::DELIVER;

/// What the polite saw in one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Sends that were offered, over the whole run.
    pub sends: u64,
    /// Of the sends of the surge.
    pub success_ratio: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Of the calm before it.
    pub calm_p99_ms: Option<f64>,
    /// Over the whole run.
    pub p50_ms: Option<f64>,
    /// From sending to arrival.
    pub deliver_p99_ms: Option<f64>,
}

/// Two runs beside each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Harm {
    /// Folder of the run without the rude.
    pub folder: String,
    pub alone: Seen,
    pub together: Seen,
    /// How much later the slowest hundredth of polite people's sends was acknowledged.
    pub p99_ms: Option<f64>,
    /// The same in the calm, in which nobody was rude: what chance does.
    pub calm_p99_ms: Option<f64>,
    /// How many more polite sends of a hundred did not succeed, as a ratio.
    pub failed_ratio: Option<f64>,
}

impl Seen {
    pub fn of(existing: &Existing, operations: &BTreeMap<String, OperationSummary>) -> Self {
        let send = operations.get(EXISTING_SEND.0);
        let deliver = operations.get(DELIVER.0);
        Self {
            sends: send.map_or(0, |send| send.offered),
            success_ratio: existing.send_success_ratio,
            p99_ms: existing.send_p99_ms,
            calm_p99_ms: existing.send_p99_ms_before_surge,
            p50_ms: send.and_then(|send| send.response_ms.p50),
            deliver_p99_ms: deliver.and_then(|deliver| deliver.response_ms.p99),
        }
    }
}

impl Harm {
    pub fn between(folder: String, alone: Seen, together: Seen) -> Self {
        let more = |with: Option<f64>, without: Option<f64>| Some(with? - without?);
        Self {
            p99_ms: more(together.p99_ms, alone.p99_ms),
            calm_p99_ms: more(together.calm_p99_ms, alone.calm_p99_ms),
            failed_ratio: more(alone.success_ratio, together.success_ratio),
            folder,
            alone,
            together,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn harm_is_the_difference_and_nothing_where_one_side_saw_nothing() {
        let (summary, _) = example::run();
        let together = Seen::of(&summary.existing, &summary.operations);
        assert_eq!(together.sends, 32_000);
        let alone = Seen {
            p99_ms: together.p99_ms.map(|ms| ms - 3.0),
            success_ratio: together.success_ratio.map(|_| 1.0),
            calm_p99_ms: None,
            ..together
        };
        let harm = Harm::between("a".to_owned(), alone, together.clone());
        assert!((harm.p99_ms.unwrap() - 3.0).abs() < 1e-9);
        assert!((harm.failed_ratio.unwrap() - (1.0 - together.success_ratio.unwrap())).abs() < 1e-12);
        assert_eq!(harm.calm_p99_ms, None);
        let nothing = Harm::between(String::new(), together.clone(), together);
        assert_eq!((nothing.p99_ms, nothing.failed_ratio), (Some(0.0), Some(0.0)));
    }
}
