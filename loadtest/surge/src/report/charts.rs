//! The charts of the report, from the rows of the timeline.

use super::axis::Axis;
use super::chart::{Chart, Line, Mark};
use super::scale::{Combine, date_in_words, day_in_words, time_ticks};
use super::scatter;
use super::section;
use super::text::{count, maybe_millis, mebibytes, millis, money, number, percent};
use crate::observe::ProcessSample;
use crate::stats::Operation;
use crate::summary::{Codes, EXISTING_SEND, RoomSummary, SIGN_UP, Summary};
use crate::timeline::{OperationRow, RoomRow, Row};

fn axis<'a>(summary: &Summary, rows: &'a [Row]) -> Axis<'a, Row> {
    let moment = |_: usize, row: &Row| match row.replayed.as_deref().and_then(date_in_words) {
        Some(date) => format!("{date} · {} s", row.second),
        None => format!("{} s · {}", row.second, row.phase),
    };
    let phases = summary.phases.iter().map(|phase| Mark { at: phase.from_s, label: phase.name.clone() });
    let events = summary.events.iter().map(|event| Mark { at: event.at_s, label: event.label.clone() });
    Axis::new(rows, time_ticks(rows), phases.collect(), |_, row| row.second as f64, moment)
        .with_events(events.collect())
}

impl Axis<'_, Row> {
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

    /// A figure of the waiting room.
    fn of_room(
        &self,
        label: &'static str,
        class: &'static str,
        combine: Combine,
        value: impl Fn(&RoomRow) -> Option<f64>,
    ) -> Line {
        self.line(label, class, combine, |row| row.room.as_ref().and_then(&value))
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
        self.thinned(label, class, Combine::Mean, &values)
    }
}

pub(super) fn sign_ups(summary: &Summary, rows: &[Row]) -> String {
    let axis = axis(summary, rows);
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
        "Sign-ups that arrived, and sign-ups that were done. The gap is who waits for a turn, and what is the service's.",
        &chart.html(),
    )
}

/// Nothing where nobody came to a room.
pub(super) fn waiting_room(summary: &Summary, rows: &[Row]) -> String {
    let Some(room) = &summary.room else { return String::new() };
    let axis = axis(summary, rows);
    let mean = Combine::Mean;
    let mut flow = vec![
        axis.of_room("came", "halo", mean, |room| Some(room.entered as f64)),
        axis.of_room("let in", "one", mean, |room| Some(room.turns as f64)),
    ];
    let seats = axis.of_room("room for", "three", mean, |room| room.rate_per_s);
    if seats.values.iter().any(Option::is_some) {
        flow.push(seats);
    }
    let length = axis.of_room("waiting", "one", Combine::Highest, |room| Some(room.waiting as f64));
    let truth = vec![
        axis.of_room("told", "two", mean, |room| room.told_s),
        axis.of_room("waited", "one", mean, |room| room.waited_s),
    ];
    let codes = &summary.codes;
    let spent = axis.line("spent", "two", Combine::Highest, |row| Some(row.codes as f64 * codes.cost));
    let most = format!("People with a place whose turn had not come; {} at most.", count(room.most_waiting));
    let money_spent = format!("What codes cost, up to {}.", money(codes.spent));
    let told = "Of those whose turn came in a second: the middle of the range that they were told first, and the wait from \
        then on."
        .to_owned();
    let second = Chart { format: money, ..axis.chart(money_spent, "spent on codes", vec![spent]) };
    let area = Line { label: "sign-up curve, not to scale".into(), ..axis.planned() };
    let existing = Chart {
        area: Some(area),
        ..axis.chart(
            "Milliseconds from planned send to acknowledgement.".to_owned(),
            "existing users' send p99, ms",
            vec![axis.of(EXISTING_SEND, "p99", "one", Combine::Highest, |row| row.response_p99_ms)],
        )
    };
    let body = [
        figures_of(room, codes),
        axis.chart("Newcomers who came, and who were let in.".to_owned(), "people per second", flow).html(),
        format!(
            "<div class=\"pair\">{}{}</div>",
            axis.chart(most, "people waiting", vec![length]).html(),
            axis.chart(told, "told and waited, s", truth).html()
        ),
        format!("<div class=\"pair\">{}{}</div>", existing.html(), second.html()),
    ];
    section("Waiting room", &story_of(room), &body.concat())
}

fn figures_of(room: &RoomSummary, codes: &Codes) -> String {
    let figure = |name: &str, value: String, class: &str| {
        format!("<div><dt>{name}</dt><dd class=\"{class}\">{value}</dd></div>")
    };
    let fault = |count: u64| if count == 0 { "good" } else { "bad" };
    let spent = match codes.per_account {
        Some(per_account) => {
            format!("{} <small>codes an account: {}</small>", money(codes.spent), number(per_account))
        }
        None => money(codes.spent),
    };
    format!(
        "<dl class=\"ledger\">{}{}{}{}{}{}</dl>",
        figure("came", count(room.entered), ""),
        figure("got their account", count(room.finished), ""),
        figure("still wait, with a place", count(room.still_waiting), ""),
        figure("places lost", count(room.places_lost), fault(room.places_lost)),
        figure("overtaken by, at most", millis(room.overtaking_ms), ""),
        figure("spent", spent, ""),
    )
}

/// What the figures say to somebody who waited.
fn story_of(room: &RoomSummary) -> String {
    let mut story = "Newcomers take a place and are let in in the order in which they came. ".to_owned();
    if let (Some(median), Some(longest)) = (room.wait_ms.p50, room.wait_ms.max) {
        story += &format!(
            "Half of them had their turn within {}, all who had it within {}; {} had it at once. ",
            millis(median),
            millis(longest),
            count(room.at_once)
        );
    }
    story += &match (room.estimate_inside_ratio, room.estimate_mean_error_ms) {
        (Some(inside), Some(error)) => format!(
            "Of {} who were told a range of ten seconds or more, {} had their turn inside it, give or take half of the 5 s to which it is rounded; its \
             middle was off by {} on average. ",
            count(room.estimates_judged),
            percent(inside),
            millis(error)
        ),
        _ => "Nobody waited for long enough to compare the wait with what was told. ".to_owned(),
    };
    if let (Some(used), Some(over)) = (room.seats_used_ratio, room.over_admission_ratio) {
        story += &format!("While people waited, {} of the seats were taken", percent(used));
        story += &match over > 0.0 {
            true => format!(", and over ten seconds or more at most {} too many. ", percent(over)),
            false => ", and never more than there were. ".to_owned(),
        };
    }
    if room.still_waiting > 0 {
        story += &format!(
            "{} still waited when the run ended: they have their places and lost nothing.",
            count(room.still_waiting)
        );
    }
    story
}

pub(super) fn existing_users(summary: &Summary, rows: &[Row]) -> String {
    let axis = axis(summary, rows);
    let mut lines = vec![
        axis.of(EXISTING_SEND, "p99", "one", Combine::Highest, |row| row.response_p99_ms),
        axis.of(EXISTING_SEND, "p50", "three", Combine::Highest, |row| row.response_p50_ms),
    ];
    let extreme = axis.of(EXISTING_SEND, "p99.9", "two", Combine::Highest, |row| row.response_p999_ms);
    if extreme.values.iter().any(Option::is_some) {
        lines.insert(0, extreme);
    }
    let description = format!(
        "Milliseconds from planned send to acknowledgement; p99 {} during the surge, {} before it.",
        maybe_millis(summary.existing.send_p99_ms),
        maybe_millis(summary.existing.send_p99_ms_before_surge)
    );
    let area = Line { label: "sign-up curve, not to scale".into(), ..axis.planned() };
    let chart = Chart { area: Some(area), ..axis.chart(description, "send to acknowledgement, ms", lines) };
    let flow = vec![
        axis.of(EXISTING_SEND, "offered", "halo", Combine::Mean, |row| Some(row.offered as f64)),
        axis.of(EXISTING_SEND, "acknowledged", "one", Combine::Mean, |row| Some(row.ok as f64)),
    ];
    let trouble = vec![
        axis.of(EXISTING_SEND, "failed", "two", Combine::Mean, |row| Some(row.failed as f64)),
        axis.of(EXISTING_SEND, "refused", "three", Combine::Mean, |row| Some(row.refused as f64)),
    ];
    let pair = format!(
        "<div class=\"pair\">{}{}</div>",
        axis.chart(
            "Sends that were due, and sends that were acknowledged.".to_owned(),
            "sends per second",
            flow
        )
        .html(),
        axis.chart("Sends that failed or were refused.".to_owned(), "sends per second", trouble).html()
    );
    let note =
        "How long existing users waited for a message to be safe, while newcomers arrived behind them.";
    section("Existing users", note, &(chart.html() + &pair))
}

/// Nothing where the run is too short to see anything.
pub(super) fn against_load(rows: &[Row]) -> String {
    let total = |row: &Row| row.operations.values().map(|seen| seen.offered).sum::<u64>() as f64;
    let dots_of = |operation: Operation| -> Vec<scatter::Dot> {
        let dot = |row: &Row| Some((total(row), row.operations.get(operation.0)?.response_p99_ms?));
        rows.iter().filter_map(dot).collect()
    };
    let charts: Vec<_> = [(EXISTING_SEND, "existing users' send p99, ms"), (SIGN_UP, "sign-up p99, ms")]
        .into_iter()
        .filter_map(|(operation, unit)| {
            let dots = dots_of(operation);
            scatter::html(&dots, "calls offered per second", unit, &scatter::in_words(&dots))
        })
        .collect();
    if charts.is_empty() {
        return String::new();
    }
    section(
        "Latency against load",
        "Each dot is a second: how much was asked of the service in it, and how long answers took. Where the line bends upwards, the service \
         has reached what it can take.",
        &format!("<div class=\"pair\">{}</div>", charts.concat()),
    )
}

pub(super) fn sign_up_response(summary: &Summary, rows: &[Row]) -> String {
    let axis = axis(summary, rows);
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
    let axis = axis(summary, rows);
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
    let server = &summary.server;
    let fact = |name: &str, value: Option<String>| {
        value.map_or_else(String::new, |value| format!("<div><dt>{name}</dt><dd>{value}</dd></div>"))
    };
    let facts = [
        fact("CPU an operation", server.cpu_us_per_op.map(|us| format!("{} µs", number(us)))),
        fact("memory, at most", server.rss_peak_bytes.map(mebibytes)),
        fact("of it its own (PSS)", server.pss_peak_bytes.map(mebibytes)),
        fact(
            "a session more",
            server.bytes_per_session.map(|bytes| format!("{} KiB", number(bytes / 1_024.0))),
        ),
        fact("descriptors, at most", server.descriptors_peak.map(count)),
        fact("TCP memory, machine", server.tcp_peak_bytes.map(mebibytes)),
    ]
    .concat();
    let body = format!(
        "<dl class=\"ledger\">{facts}</dl><div class=\"pair\">{}{}</div>",
        axis.chart(format!("Processors that the server kept busy.{cost}"), "processors busy", vec![cpu])
            .html(),
        axis.chart(format!("Resident memory of the server.{peak}"), "resident memory, MiB", vec![memory])
            .html(),
    );
    section("Server", &format!("What the service took to do this.{cost}{peak}"), &body)
}

pub(super) fn generator(summary: &Summary, rows: &[Row]) -> String {
    let axis = axis(summary, rows);
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
