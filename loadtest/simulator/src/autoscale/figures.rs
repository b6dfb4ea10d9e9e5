//! What came of a run, and the table of many.

use serde::{Deserialize, Serialize};

use super::curve::Curve;
use super::gate::Second;
use super::scaler::Kind;

/// Of one autoscaler on one curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub curve: String,
    pub autoscaler: String,
    pub offered: f64,
    pub refused: f64,
    /// Seconds in which somebody was refused, and the most of them in a row.
    pub refusing_s: u64,
    pub longest_refusing_s: u64,
    /// With those that start and those that drain.
    pub peak_pods: u32,
    pub pod_hours: f64,
    pub peak_nodes: u32,
    in_a_row: u64,
}

impl Figures {
    pub(super) fn new(curve: &Curve, kind: Kind) -> Self {
        Self {
            curve: curve.name.clone(),
            autoscaler: kind.name().to_owned(),
            offered: 0.0,
            refused: 0.0,
            refusing_s: 0,
            longest_refusing_s: 0,
            peak_pods: 0,
            pod_hours: 0.0,
            peak_nodes: 0,
            in_a_row: 0,
        }
    }

    pub(super) fn add(&mut self, second: &Second, pods: u32, nodes: u32) {
        self.offered += second.offered;
        self.refused += second.refused;
        if second.refused > 0.0 {
            self.refusing_s += 1;
            self.in_a_row += 1;
            self.longest_refusing_s = self.longest_refusing_s.max(self.in_a_row);
        } else {
            self.in_a_row = 0;
        }
        self.peak_pods = self.peak_pods.max(pods);
        self.peak_nodes = self.peak_nodes.max(nodes);
        self.pod_hours += f64::from(pods) / 3_600.0;
    }

    pub fn refused_share(&self) -> f64 {
        self.refused / self.offered
    }
}

/// A block for each curve, a line for each autoscaler.
pub fn table(figures: &[Figures]) -> String {
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
                of.autoscaler.clone(),
                format!("{:.4} %", 100.0 * of.refused_share()),
                span(of.longest_refusing_s),
                span(of.refusing_s),
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
