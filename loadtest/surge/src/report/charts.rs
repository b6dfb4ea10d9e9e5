//! The charts of the report, from the rows of the timeline.

use super::chart::{Chart, Line, Mark, Tick};
use super::scale::{Combine, date_in_words, day_in_words, stride, thin, time_ticks};
use super::section;
use super::text::{maybe_millis, mebibytes, number, percent};
use crate::observe::ProcessSample;
use crate::stats::Operation;
use crate::summary::{EXISTING_SEND, SIGN_UP, Summary};
use crate::timeline::{OperationRow, Row};

/// What all charts of a run share: its time.
struct Axis<'a> {
    rows: &'a [Row],
    stride: usize,
    times: Vec<f64>,
    moments: Vec<String>,
    ticks: Vec<Tick>,
    phases: Vec<Mark>,
}

impl<'a> Axis<'a> {
    fn new(summary: &Summary, rows: &'a [Row]) -> Self {
        let stride = stride(rows.len());
        let shown = || rows.iter().step_by(stride);
        let moment = |row: &Row| match row.replayed.as_deref().and_then(date_in_words) {
            Some(date) => format!("{date} · {} s", row.second),
            None => format!("{} s · {}", row.second, row.phase),
        };
        let phases = summary.phases.iter().map(|phase| Mark { at: phase.from_s, label: phase.name.clone() });
        Self {
            rows,
            stride,
            times: shown().map(|row| row.second as f64).collect(),
            moments: shown().map(moment).collect(),
            ticks: time_ticks(rows),
            phases: phases.collect(),
        }
    }

    fn chart(&self, description: String, unit: &'static str, lines: Vec<Line>) -> Chart<'_> {
        Chart {
            description,
            times: &self.times,
            moments: &self.moments,
            ticks: &self.ticks,
            phases: &self.phases,
            mark: None,
            lines,
            area: None,
            area_shares_scale: false,
            unit,
            format: number,
        }
    }

    fn line(
        &self,
        label: &'static str,
        class: &'static str,
        combine: Combine,
        value: impl Fn(&Row) -> Option<f64>,
    ) -> Line {
        let values: Vec<_> = self.rows.iter().map(value).collect();
        Line { label: label.into(), class, values: thin(&values, self.stride, combine) }
    }

    /// A figure of one operation; `None` in seconds without it.
    fn of(
        &self,
        operation: Operation,
        label: &'static str,
        class: &'static str,
        combine: Combine,
        value: impl Fn(&OperationRow) -> Option<f64>,
    ) -> Line {
        self.line(label, class, combine, |row| row.operations.get(operation.0).and_then(&value))
    }

    fn planned(&self) -> Line {
        self.line("planned by the curve", "shape", Combine::Mean, |row| Some(row.planned_sign_ups))
    }

    /// Growth per second of a cumulative figure.
    fn growth(
        &self,
        label: &'static str,
        class: &'static str,
        sample: impl Fn(&Row) -> Option<ProcessSample>,
        value: impl Fn(&ProcessSample) -> f64,
    ) -> Line {
        let mut values = vec![None];
        values.extend(self.rows.windows(2).map(|pair| {
            let seconds = (pair[1].second.checked_sub(pair[0].second)? as f64).max(1.0);
            Some((value(&sample(&pair[1])?) - value(&sample(&pair[0])?)).max(0.0) / seconds)
        }));
        values.truncate(self.rows.len());
        Line { label: label.into(), class, values: thin(&values, self.stride, Combine::Mean) }
    }
}

pub(super) fn sign_ups(summary: &Summary, rows: &[Row]) -> String {
    let axis = Axis::new(summary, rows);
    let lines = vec![
        axis.of(SIGN_UP, "offered", "halo", Combine::Mean, |row| Some(row.offered as f64)),
        axis.of(SIGN_UP, "completed", "one", Combine::Mean, |row| Some(row.ok as f64)),
    ];
    let peak = rows.iter().max_by(|a, b| a.planned_sign_ups.total_cmp(&b.planned_sign_ups));
    let mark = peak.filter(|row| row.planned_sign_ups > 0.0).map(|row| Mark {
        at: row.second as f64,
        label: row
            .replayed
            .as_deref()
            .and_then(day_in_words)
            .map_or_else(|| "peak".to_owned(), |day| format!("peak: {day}")),
    });
    let description = format!(
        "Sign-ups per second. The curve peaks at {}; the best second completed {}.",
        number(summary.peak.planned_sign_ups_per_s),
        number(summary.peak.achieved_sign_ups_per_s)
    );
    let chart = Chart {
        area: Some(axis.planned()),
        area_shares_scale: true,
        mark,
        ..axis.chart(description, "sign-ups per second", lines)
    };
    section(
        "Newcomers",
        "Sign-ups that arrived, and sign-ups that were done. The gap is the service's.",
        &chart.html(),
    )
}

pub(super) fn existing_users(summary: &Summary, rows: &[Row]) -> String {
    let axis = Axis::new(summary, rows);
    let lines = vec![
        axis.of(EXISTING_SEND, "p99", "one", Combine::Highest, |row| row.response_p99_ms),
        axis.of(EXISTING_SEND, "p50", "three", Combine::Highest, |row| row.response_p50_ms),
    ];
    let description = format!(
        "Milliseconds from planned send to acknowledgement; p99 {} during the surge, {} before it.",
        maybe_millis(summary.existing.send_p99_ms),
        maybe_millis(summary.existing.send_p99_ms_before_surge)
    );
    let area = Line { label: "sign-up curve, not to scale".into(), ..axis.planned() };
    let chart = Chart { area: Some(area), ..axis.chart(description, "send to acknowledgement, ms", lines) };
    let note =
        "How long existing users waited for a message to be safe, while newcomers arrived behind them.";
    section("Existing users", note, &chart.html())
}

pub(super) fn sign_up_response(summary: &Summary, rows: &[Row]) -> String {
    let axis = Axis::new(summary, rows);
    let lines = vec![
        axis.of(SIGN_UP, "p99", "one", Combine::Highest, |row| row.response_p99_ms),
        axis.of(SIGN_UP, "p50", "three", Combine::Highest, |row| row.response_p50_ms),
    ];
    let area = Line { label: "sign-up curve, not to scale".into(), ..axis.planned() };
    let description = "Milliseconds from the planned start of a sign-up to an account.".to_owned();
    let chart = Chart { area: Some(area), ..axis.chart(description, "start to account, ms", lines) };
    section(
        "Time to sign up",
        "From the planned moment of the first call to an account, retries included.",
        &chart.html(),
    )
}

pub(super) fn server(summary: &Summary, rows: &[Row]) -> String {
    let axis = Axis::new(summary, rows);
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    if rows.iter().all(|row| row.server.is_none()) {
        return section(
            "Server",
            "The server's process was not on this machine, so its cost was not seen.",
            "",
        );
    }
    let cpu = axis.growth("processors", "one", |row| row.server, |sample| sample.cpu_us as f64 / 1e6);
    let memory =
        axis.line("resident", "two", Combine::Highest, |row| row.server.map(|sample| mib(sample.rss_bytes)));
    let cost = summary
        .server
        .cpu_us_per_op
        .map_or_else(String::new, |us| format!(" {} µs of CPU an operation.", number(us)));
    let peak = summary
        .server
        .rss_peak_bytes
        .map_or_else(String::new, |bytes| format!(" {} at most.", mebibytes(bytes)));
    let body = format!(
        "<div class=\"pair\">{}{}</div>",
        axis.chart(format!("Processors that the server kept busy.{cost}"), "processors busy", vec![cpu])
            .html(),
        axis.chart(format!("Resident memory of the server.{peak}"), "resident memory, MiB", vec![memory])
            .html(),
    );
    section("Server", &format!("What the service took to do this.{cost}{peak}"), &body)
}

pub(super) fn generator(summary: &Summary, rows: &[Row]) -> String {
    let axis = Axis::new(summary, rows);
    let worst_lag = |row: &Row| row.operations.values().filter_map(|o| o.lag_p99_ms).reduce(f64::max);
    let lag = axis.line("lag p99", "one", Combine::Highest, worst_lag);
    let cpu = axis.growth("processors", "two", |row| row.generator, |sample| sample.cpu_us as f64 / 1e6);
    let validity = match summary.generator.valid {
        true => "The load was sent when it was planned, so the figures are the service's.",
        false => "The load was sent late, so the figures are this generator's as much as the service's.",
    };
    let lag_p99 = maybe_millis(summary.generator.lag_p99_ms);
    let steal = summary
        .generator
        .steal_ratio
        .map_or_else(String::new, |r| format!(" The host took away {} of the CPU.", percent(r)));
    let body = format!(
        "<div class=\"pair\">{}{}</div>",
        axis.chart("Lag between planned and sent.".to_owned(), "planned to sent, ms", vec![lag]).html(),
        axis.chart("Processors that the generator kept busy.".to_owned(), "processors busy", vec![cpu])
            .html(),
    );
    section("Load generator", &format!("{validity} Lag p99 {lag_p99} over the run.{steal}"), &body)
}
