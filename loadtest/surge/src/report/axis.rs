//! What all charts of a page share: its time.

use super::chart::{Chart, Line, Mark, Tick};
use super::scale::{Combine, stride, thin};
use super::text::number;

/// Of rows that are one second each.
pub(super) struct Axis<'a, R> {
    pub(super) rows: &'a [R],
    stride: usize,
    times: Vec<f64>,
    moments: Vec<String>,
    ticks: Vec<Tick>,
    phases: Vec<Mark>,
    events: Vec<Mark>,
}

impl<'a, R> Axis<'a, R> {
    /// `time` of a row, in seconds, and `moment`, which the tooltip calls it.
    pub(super) fn new(
        rows: &'a [R],
        ticks: Vec<Tick>,
        phases: Vec<Mark>,
        time: impl Fn(usize, &R) -> f64,
        moment: impl Fn(usize, &R) -> String,
    ) -> Self {
        let stride = stride(rows.len());
        let shown = || rows.iter().enumerate().step_by(stride);
        Self {
            rows,
            stride,
            times: shown().map(|(at, row)| time(at, row)).collect(),
            moments: shown().map(|(at, row)| moment(at, row)).collect(),
            ticks,
            phases,
            events: Vec::new(),
        }
    }

    /// Moments at which something was done to the service.
    pub(super) fn with_events(self, events: Vec<Mark>) -> Self {
        Self { events, ..self }
    }

    pub(super) fn chart(&self, description: String, unit: &'static str, lines: Vec<Line>) -> Chart<'_> {
        Chart {
            description,
            times: &self.times,
            moments: &self.moments,
            ticks: &self.ticks,
            phases: &self.phases,
            events: &self.events,
            mark: None,
            lines,
            area: None,
            area_shares_scale: false,
            unit,
            format: number,
        }
    }

    pub(super) fn line(
        &self,
        label: &'static str,
        class: &'static str,
        combine: Combine,
        value: impl Fn(&R) -> Option<f64>,
    ) -> Line {
        let values: Vec<_> = self.rows.iter().map(value).collect();
        self.thinned(label, class, combine, &values)
    }

    /// Of values that are not of one row each.
    pub(super) fn thinned(
        &self,
        label: &'static str,
        class: &'static str,
        combine: Combine,
        values: &[Option<f64>],
    ) -> Line {
        Line { label: label.into(), class, values: thin(values, self.stride, combine) }
    }
}
