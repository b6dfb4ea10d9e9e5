//! What came of a run, and the table of many.

use serde::{Deserialize, Serialize};

use super::curve::Curve;
use super::scaler::Kind;
use super::setting::Setting;
use super::world::seconds;

/// Of one autoscaler on one curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub curve: String,
    pub autoscaler: Kind,
    pub offered: f64,
    pub refused: f64,
    /// Seconds in which somebody was refused, and the most of them in a row.
    pub refusing_s: f64,
    pub longest_refusing_s: u64,
    /// With those that start and those that drain.
    pub peak_pods: u32,
    pub pod_hours: f64,
    pub peak_nodes: u32,
}

impl Figures {
    /// Of one run.
    pub fn of(curve: &Curve, autoscaler: Kind, setting: &Setting, seed: u64) -> Self {
        let mut figures = Self {
            curve: curve.name.clone(),
            autoscaler,
            offered: 0.0,
            refused: 0.0,
            refusing_s: 0.0,
            longest_refusing_s: 0,
            peak_pods: 0,
            pod_hours: 0.0,
            peak_nodes: 0,
        };
        let mut in_a_row = 0;
        seconds(curve, autoscaler, setting, seed, |state| {
            figures.offered += state.second.offered;
            figures.refused += state.second.refused;
            in_a_row = if state.second.refused > 0.0 { in_a_row + 1 } else { 0 };
            figures.refusing_s += if in_a_row > 0 { 1.0 } else { 0.0 };
            figures.longest_refusing_s = figures.longest_refusing_s.max(in_a_row);
            figures.peak_pods = figures.peak_pods.max(state.pods);
            figures.peak_nodes = figures.peak_nodes.max(state.nodes);
            figures.pod_hours += f64::from(state.pods) / 3_600.0;
        });
        figures
    }

    /// Of several draws of the delays: means, and the worst of what is a most. `None`: of none.
    pub fn of_all(runs: Vec<Self>) -> Option<Self> {
        let count = runs.len() as f64;
        let mut all = runs.into_iter().reduce(|a, b| Self {
            offered: a.offered + b.offered,
            refused: a.refused + b.refused,
            refusing_s: a.refusing_s + b.refusing_s,
            longest_refusing_s: a.longest_refusing_s.max(b.longest_refusing_s),
            peak_pods: a.peak_pods.max(b.peak_pods),
            pod_hours: a.pod_hours + b.pod_hours,
            peak_nodes: a.peak_nodes.max(b.peak_nodes),
            ..a
        })?;
        for sum in [&mut all.offered, &mut all.refused, &mut all.refusing_s, &mut all.pod_hours] {
            *sum /= count;
        }
        Some(all)
    }

    pub fn refused_share(&self) -> f64 {
        self.refused / self.offered
    }
}

/// A block for each curve, a line for each autoscaler.
pub(super) fn table(figures: &[Figures]) -> String {
    let mut text = String::new();
    for block in figures.chunk_by(|a, b| a.curve == b.curve) {
        if let Some(first) = block.first() {
            text += &format!("{}\n", first.curve);
        }
        let mut lines = vec![
            ["", "refused", "longest time with refusals", "in all", "peak pods", "pod-hours", "peak nodes"]
                .map(str::to_owned),
        ];
        lines.extend(block.iter().map(|of| {
            [
                of.autoscaler.name().to_owned(),
                format!("{:.4} %", 100.0 * of.refused_share()),
                span(of.longest_refusing_s),
                span(of.refusing_s as u64),
                of.peak_pods.to_string(),
                format!("{:.0}", of.pod_hours),
                of.peak_nodes.to_string(),
            ]
        }));
        text += &crate::table::aligned(&lines);
        text.push('\n');
    }
    text
}

fn span(seconds: u64) -> String {
    match seconds {
        0..600 => format!("{seconds} s"),
        600..7_200 => format!("{:.0} min", seconds as f64 / 60.0),
        _ => format!("{:.1} h", seconds as f64 / 3_600.0),
    }
}
