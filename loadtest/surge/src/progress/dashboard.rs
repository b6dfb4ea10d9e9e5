//! A snapshot as a panel, drawn with ratatui into a buffer of cells.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, LineGauge, Paragraph, Sparkline, Widget};

use super::panel::{in_room, millis, minutes};
use super::{GateNow, Snapshot};

/// Narrower than this, figures would be cut off.
const COLUMNS_MIN: u16 = 64;
/// Wider than this, only the curve would gain.
const COLUMNS_MAX: u16 = 110;
/// Gates that are shown; the rest is counted.
const GATES_MAX: usize = 6;

const CALM: Style = Style::new();
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const GOOD: Style = Style::new().fg(Color::Green);

/// The panel of a run.
#[derive(Debug)]
pub struct Dashboard<'a>(pub &'a Snapshot);

impl Dashboard<'_> {
    /// How many lines it takes.
    pub fn height(&self) -> u16 {
        let gates = self.0.gates.len().min(GATES_MAX) + usize::from(self.0.gates.len() > GATES_MAX);
        let room = usize::from(self.0.room.is_some()) + usize::from(self.0.codes > 0);
        // Head, curve of two lines, date, boxes of five, sends, messages, generator.
        12 + u16::try_from(gates + room).unwrap_or(u16::MAX - 12)
    }

    /// Where it is drawn in a terminal of this size; `None` when it does not fit, with a line left for what is written below it.
    pub fn area(&self, columns: u16, rows: u16) -> Option<Rect> {
        let height = self.height();
        (columns >= COLUMNS_MIN && rows > height)
            .then(|| Rect::new(0, 0, columns.min(COLUMNS_MAX) - 1, height))
    }

    fn head(&self) -> (Line<'_>, Line<'_>) {
        let now = self.0;
        let name = Line::styled(format!("surge  {} · {}", now.profile, now.phase), BOLD);
        let clock = format!("{} / {}", minutes(now.elapsed.as_secs()), minutes(now.planned.as_secs()));
        (name, Line::styled(clock, BOLD).right_aligned())
    }

    fn curve(&self, area: Rect, buffer: &mut Buffer) {
        let highest = self.0.curve.iter().copied().fold(0.0, f64::max);
        if highest <= 0.0 || area.width == 0 {
            return;
        }
        let width = usize::from(area.width);
        let at = |column: usize| {
            let rate = self.0.curve.get(column * self.0.curve.len() / width).copied().unwrap_or(0.0);
            (rate / highest * 1_000.0).round() as u64
        };
        let bars: Vec<u64> = (0..width).map(at).collect();
        Sparkline::default().data(bars).max(1_000).render(area, buffer);
        let share = self.0.elapsed.as_secs_f64() / self.0.planned.as_secs_f64().max(1e-9);
        let played = (share.clamp(0.0, 1.0) * f64::from(area.width)) as u16;
        let ahead = Rect { x: area.x + played, width: area.width - played, ..area };
        buffer.set_style(ahead, DIM);
        let done = Rect { width: played, ..area };
        buffer.set_style(done, Style::new().fg(Color::Cyan));
    }

    fn sign_ups(&self, area: Rect, buffer: &mut Buffer) {
        let now = self.0;
        let block = Block::new().borders(Borders::ALL).border_style(DIM).title(" load ");
        let inside = block.inner(area);
        block.render(area, buffer);
        let [target, gauge, flight] = Layout::vertical([Constraint::Length(1); 3]).areas(inside);
        let ratio = if now.offered_per_s > 0.0 { now.completed_per_s / now.offered_per_s } else { 1.0 };
        let pair =
            |name: &'static str, value: String| Line::from(vec![Span::styled(name, DIM), Span::raw(value)]);
        pair("sign-ups  target ", format!("{:.0}/s", now.offered_per_s)).render(target, buffer);
        LineGauge::default()
            .ratio(ratio.clamp(0.0, 1.0))
            .label(format!("achieved {:.0}/s", now.completed_per_s))
            .filled_style(Style::new().fg(Color::Cyan))
            .unfilled_style(DIM)
            .render(gauge, buffer);
        pair("in flight ", now.sign_ups_in_flight.to_string()).render(flight, buffer);
    }

    fn existing(&self, area: Rect, buffer: &mut Buffer) {
        let now = self.0;
        let block = Block::new().borders(Borders::ALL).border_style(DIM).title(" existing users ");
        let inside = block.inner(area);
        block.render(area, buffer);
        let p = |name: &str, ms: Option<f64>| format!("{name} {}  ", millis(ms));
        let percentiles =
            [p("p50", now.existing_p50_ms), p("p99", now.existing_p99_ms), p("p99.9", now.existing_p999_ms)]
                .concat();
        let before = format!("p99 before {}", millis(now.existing_p99_before_ms));
        let accepted = match now.existing_success_ratio {
            // Never rounded up to all of them.
            Some(ratio) => format!("{:.2} % accepted", (ratio * 10_000.0).floor() / 100.0),
            None => "nothing sent yet".to_owned(),
        };
        let style = if now.existing_success_ratio.is_some_and(|ratio| ratio < 0.999) { BAD } else { CALM };
        let lines = vec![Line::raw(percentiles), Line::styled(before, DIM), Line::styled(accepted, style)];
        Paragraph::new(lines).render(inside, buffer);
    }

    fn rows(&self) -> Vec<Line<'_>> {
        let now = self.0;
        let row = |name: &'static str, text: String, style: Style| {
            Line::from(vec![Span::styled(format!("{name:<11}"), DIM), Span::styled(text, style)])
        };
        let mut rows = Vec::new();
        if let Some(room) = &now.room {
            rows.push(row("room", in_room(room), if room.frozen { BAD } else { CALM }));
        }
        if now.codes > 0 {
            let spent = now.codes as f64 * now.code_cost;
            rows.push(row("codes", format!("{} sent   {spent:.2} spent", now.codes), CALM));
        }
        let sends = format!(
            "{:.0}/s of {:.0}/s   {} in flight",
            now.sends_per_s, now.sends_offered_per_s, now.sends_in_flight
        );
        rows.push(row("sends", sends, CALM));
        let trouble = now.failed + now.duplicated > 0;
        let messages = format!(
            "{} acked   {} on their way   {} duplicated   {} failed   {} refused",
            now.acked, now.on_their_way, now.duplicated, now.failed, now.refused
        );
        rows.push(row("messages", messages, if trouble { BAD } else { CALM }));
        let late = now.lag_p99_ms.is_some_and(|ms| ms > 5.0);
        rows.push(row(
            "generator",
            format!("lag p99 {}", millis(now.lag_p99_ms)),
            if late { BAD } else { CALM },
        ));
        rows.extend(now.gates.iter().take(GATES_MAX).map(gate));
        if now.gates.len() > GATES_MAX {
            rows.push(Line::styled(
                format!("           and {} more gates", now.gates.len() - GATES_MAX),
                DIM,
            ));
        }
        rows
    }
}

fn gate(gate: &GateNow) -> Line<'_> {
    let (mark, style) = match gate.holds {
        Some(true) => ("✓", GOOD),
        Some(false) => ("✗", BAD),
        None => ("·", DIM),
    };
    let value = gate.value.as_ref().map_or_else(String::new, |value| format!("   {value}"));
    Line::from(vec![
        Span::styled("gate       ", DIM),
        Span::styled(format!("{mark} {}{value}", gate.text), style),
    ])
}

impl Widget for Dashboard<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let constraints = [1, 2, 1, 5].map(Constraint::Length).into_iter().chain([Constraint::Min(0)]);
        let [head, curve, date, boxes, rest] = Layout::vertical(constraints).areas(area);
        let (name, clock) = self.head();
        name.render(head, buffer);
        clock.render(head, buffer);
        self.curve(curve, buffer);
        let replayed = self.0.replayed.as_deref().unwrap_or_default();
        Line::styled(replayed.replace('T', " ").replace('Z', " UTC"), DIM).render(date, buffer);
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(40), Constraint::Percentage(60)]).areas(boxes);
        self.sign_ups(left, buffer);
        self.existing(right, buffer);
        Paragraph::new(self.rows()).render(rest, buffer);
    }
}

/// The lines of a buffer for a terminal. Blanks at their ends are left out, so that a copy of them is clean.
pub(super) fn ansi_lines(buffer: &Buffer, colour: bool) -> Vec<String> {
    let area = buffer.area;
    (area.top()..area.bottom())
        .map(|y| {
            let mut line = String::new();
            let mut style = Style::new();
            let written = (area.left()..area.right()).rev().find(|x| buffer[(*x, y)].symbol() != " ");
            let end = written.map_or(area.left(), |x| x + 1);
            for x in area.left()..end {
                let cell = &buffer[(x, y)];
                let wanted = cell.style();
                if colour && sequence(wanted) != sequence(style) {
                    line += "\x1b[0m";
                    line += &sequence(wanted);
                    style = wanted;
                }
                line += cell.symbol();
            }
            if colour && !sequence(style).is_empty() {
                line += "\x1b[0m";
            }
            line
        })
        .collect()
}

/// What switches a style on; empty for none.
fn sequence(style: Style) -> String {
    let mut sequence = String::new();
    if style.add_modifier.contains(Modifier::BOLD) {
        sequence += "\x1b[1m";
    }
    if style.add_modifier.contains(Modifier::DIM) {
        sequence += "\x1b[2m";
    }
    sequence += match style.fg {
        Some(Color::Red) => "\x1b[31m",
        Some(Color::Green) => "\x1b[32m",
        Some(Color::Cyan) => "\x1b[36m",
        _ => "",
    };
    sequence
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::panel::example;
    use super::super::{InRoom, Snapshot};
    use super::*;

    fn drawn(now: &Snapshot, columns: u16) -> Vec<String> {
        let height = Dashboard(now).height();
        let mut terminal = Terminal::new(TestBackend::new(columns, height)).unwrap();
        terminal.draw(|frame| frame.render_widget(Dashboard(now), frame.area())).unwrap();
        ansi_lines(terminal.backend().buffer(), false)
    }

    fn gates() -> Vec<GateNow> {
        let gate = |text: &str, value: Option<&str>, holds| GateNow {
            text: text.to_owned(),
            value: value.map(str::to_owned),
            holds,
        };
        vec![
            gate("send.response.p99 < 250ms", Some("12 ms"), Some(true)),
            gate("signup.error_rate < 0.1%", Some("0.4 %"), Some(false)),
            gate("e2e.lost == 0", None, None),
        ]
    }

    #[test]
    fn the_panel_reads_like_this() {
        let now = Snapshot { gates: gates(), ..example() };
        let expected = "\
surge  signal-2021 · surge                               0:42 / 1:24
                                               ▁▁▂▂▃▃▃▄▄▅▅▆▆▆▇▇██▁
               ▁▁▂▂▂▃▃▄▄▄▅▅▆▆▇▇▇████████████████████████████████████
2021-01-15 15:00 UTC
┌ load ───────────────────────┐┌ existing users ───────────────────┐
│sign-ups  target 812/s       ││p50 2.1 ms  p99 12 ms  p99.9 31 ms │
│achieved 806/s ────────────── ││p99 before 7.0 ms                  │
│in flight 41                 ││99.99 % accepted                   │
└─────────────────────────────┘└───────────────────────────────────┘
sends      398/s of 400/s   3 in flight
messages   182004 acked   6 on their way   0 duplicated   0 failed   12 refused
generator  lag p99 0.4 ms
gate       ✓ send.response.p99 < 250ms   12 ms
gate       ✗ signup.error_rate < 0.1%   0.4 %
gate       · e2e.lost == 0";
        let lines = drawn(&now, 90);
        let has = |text: &str| {
            assert!(lines.iter().any(|line| line.contains(text)), "{text}\n{}", lines.join("\n"))
        };
        for line in expected.lines().filter(|line| !line.contains(['▁', '┌', '│', '└'])) {
            has(line.trim_end().split("   0:42").next().unwrap().trim_end());
        }
        assert!(lines[0].ends_with("0:42 / 1:24") && lines[4].starts_with("┌ load ─"));
        for text in [
            "target 812/s",
            "achieved 806/s",
            "in flight 41",
            "p99.9 31 ms",
            "p99 before 7.0 ms",
            "99.99 % accepted",
        ] {
            has(text);
        }
        assert_eq!(lines.len(), 15);
    }

    #[test]
    fn nothing_is_cut_at_the_least_width_and_nothing_is_drawn_below_it() {
        let now = Snapshot { gates: gates(), ..example() };
        let lines = drawn(&now, COLUMNS_MIN);
        assert!(lines.iter().any(|line| line.contains("p99.9 31 ms")), "{}", lines.join("\n"));
        assert!(lines.iter().all(|line| line.chars().count() <= usize::from(COLUMNS_MIN)));
        let panel = Dashboard(&now);
        assert_eq!(panel.area(COLUMNS_MIN - 1, 50), None);
        assert_eq!(panel.area(80, panel.height()), None);
        assert_eq!(panel.area(300, 50), Some(Rect::new(0, 0, COLUMNS_MAX - 1, panel.height())));
        // A size that nothing fits in is no reason to panic.
        let mut buffer = Buffer::empty(Rect::new(0, 0, 3, 2));
        Dashboard(&now).render(buffer.area, &mut buffer);
    }

    #[test]
    fn a_room_has_a_line_and_alarm_is_red() {
        let room = InRoom { waiting: 1_204, come_in_per_s: 119.6, frozen: true, ..InRoom::default() };
        let now = Snapshot { room: Some(room), codes: 12, code_cost: 0.5, failed: 2, ..example() };
        let height = Dashboard(&now).height();
        let mut buffer = Buffer::empty(Rect::new(0, 0, 90, height));
        Dashboard(&now).render(buffer.area, &mut buffer);
        let lines = ansi_lines(&buffer, true);
        let line = |text: &str| lines.iter().find(|line| line.contains(text)).unwrap();
        assert!(line("1204 wait").contains("\x1b[31m"), "{:?}", line("1204 wait"));
        assert!(line("2 failed").contains("\x1b[31m") && line("6.00 spent").ends_with("spent"));
        assert!(ansi_lines(&buffer, false).iter().all(|line| !line.contains('\x1b')));
    }

    #[test]
    fn more_gates_than_fit_are_counted() {
        let many: Vec<_> = gates().into_iter().cycle().take(9).collect();
        let lines = drawn(&Snapshot { gates: many, ..example() }, 80);
        assert!(lines.last().unwrap().contains("and 3 more gates"), "{}", lines.join("\n"));
    }
}
