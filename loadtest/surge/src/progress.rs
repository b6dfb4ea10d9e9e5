//! What a person sees while a run goes on: a panel in a terminal, a plain line every two seconds elsewhere or where the panel does not fit.
//!
//! Rendering is a function of a snapshot; only [`Progress`] knows of a terminal.

mod dashboard;
mod panel;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

pub use dashboard::Dashboard;
pub use panel::line;
use ratatui::buffer::Buffer;
use ratatui::widgets::Widget;

/// A few times a second is smooth enough and costs the run nothing.
const REDRAW_EVERY: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Where a run stands.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub profile: String,
    pub phase: String,
    pub elapsed: Duration,
    pub planned: Duration,
    /// The recorded hour that is being replayed.
    pub replayed: Option<String>,
    /// The rate over the whole run, at any number of evenly spaced moments.
    pub curve: Vec<f64>,
    pub offered_per_s: f64,
    pub completed_per_s: f64,
    /// Of existing users who are polite.
    pub sends_offered_per_s: f64,
    pub sends_per_s: f64,
    /// Where people come through a waiting room.
    pub room: Option<InRoom>,
    /// Codes that were sent, and what one costs.
    pub codes: u64,
    pub code_cost: f64,
    pub refused: u64,
    pub failed: u64,
    pub sign_ups_in_flight: u64,
    pub sends_in_flight: u64,
    pub existing_p50_ms: Option<f64>,
    pub existing_p99_ms: Option<f64>,
    pub existing_p999_ms: Option<f64>,
    pub existing_p99_before_ms: Option<f64>,
    pub existing_success_ratio: Option<f64>,
    pub acked: u64,
    pub delivered: u64,
    /// Acknowledged and not delivered yet.
    pub on_their_way: u64,
    pub duplicated: u64,
    pub lag_p99_ms: Option<f64>,
    /// Gates that were asked for.
    pub gates: Vec<GateNow>,
}

/// How a gate stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateNow {
    pub text: String,
    /// As people read it.
    pub value: Option<String>,
    /// `None` while nothing was seen, and of figures that are known only at the end.
    pub holds: Option<bool>,
}

/// How the waiting room stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InRoom {
    pub waiting: u64,
    /// Who noticed that the turn had come, which is some seconds later.
    pub come_in_per_s: f64,
    /// What the service means to let in, where that is known.
    pub rate_per_s: Option<f64>,
    pub frozen: bool,
    /// Of those whose turn came last.
    pub told_and_waited_s: Option<(f64, f64)>,
}

/// Shows snapshots.
#[derive(Debug)]
pub struct Progress<W> {
    out: W,
    style: Style,
    shown: Option<Instant>,
    /// Lines of the panel that is on the screen.
    drawn: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Redrawn in place.
    Panel {
        colour: bool,
    },
    Lines,
    /// Nothing at all.
    Quiet,
}

impl Progress<io::Stderr> {
    /// A panel when standard error is a terminal, else lines. Colour obeys `NO_COLOR`.
    pub fn stderr(quiet: bool) -> Self {
        let out = io::stderr();
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = match quiet {
            true => Style::Quiet,
            false if out.is_terminal() => Style::Panel { colour },
            false => Style::Lines,
        };
        Self::new(out, style)
    }
}

impl<W: Write> Progress<W> {
    pub fn new(out: W, style: Style) -> Self {
        Self { out, style, shown: None, drawn: 0 }
    }

    /// Shows a snapshot unless the last one is fresh; call it as often as convenient.
    pub fn show(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        // Looked at each time, because a person may make the window smaller.
        let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
        self.show_in(snapshot, columns, rows)
    }

    fn show_in(&mut self, snapshot: &Snapshot, columns: u16, rows: u16) -> io::Result<()> {
        let panel = Dashboard(snapshot);
        let area = match self.style {
            Style::Quiet => return Ok(()),
            Style::Lines => None,
            Style::Panel { .. } => panel.area(columns, rows),
        };
        let every = if area.is_some() { REDRAW_EVERY } else { LINE_EVERY };
        let now = Instant::now();
        if self.shown.is_some_and(|shown| now - shown < every) {
            return Ok(());
        }
        self.shown = Some(now);
        match (area, self.style) {
            (Some(area), Style::Panel { colour }) => {
                let mut buffer = Buffer::empty(area);
                panel.render(area, &mut buffer);
                self.draw(&dashboard::ansi_lines(&buffer, colour))
            }
            // The panel of a terminal that was larger before.
            _ => {
                self.erase()?;
                writeln!(self.out, "{}", line(snapshot))
            }
        }
    }

    /// Writes a line that stays, above the panel.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        if self.style == Style::Quiet {
            return Ok(());
        }
        self.erase()?;
        writeln!(self.out, "{text}")
    }

    /// Leaves the last panel on the screen; what is written next comes below it.
    pub fn finish(&mut self) -> io::Result<()> {
        self.drawn = 0;
        self.out.flush()
    }

    fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        self.erase()?;
        for line in lines {
            writeln!(self.out, "{line}")?;
        }
        self.drawn = lines.len();
        self.out.flush()
    }

    /// Moves up to the panel's first line and clears from there to the end of the screen.
    fn erase(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            write!(self.out, "\x1b[{}A\r\x1b[J", self.drawn)?;
            self.drawn = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_come_every_two_seconds() {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, Style::Lines);
        for _ in 0..50 {
            progress.show(&Snapshot::default()).unwrap();
            time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panel_replaces_itself_and_what_is_said_stays_above() {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, Style::Panel { colour: false });
        progress.show_in(&Snapshot::default(), 80, 24).unwrap();
        let lines = progress.drawn;
        time::advance(REDRAW_EVERY).await;
        progress.show_in(&Snapshot::default(), 80, 24).unwrap();
        progress.say("the server was restarted").unwrap();
        let text = String::from_utf8(out).unwrap();
        let up = format!("\x1b[{lines}A\r\x1b[J");
        assert_eq!(text.matches(&up).count(), 2);
        assert!(text.ends_with(&format!("{up}the server was restarted\n")), "{text:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_that_became_too_small_gets_lines() {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, Style::Panel { colour: true });
        progress.show_in(&Snapshot::default(), 80, 24).unwrap();
        let lines = progress.drawn;
        time::advance(LINE_EVERY).await;
        progress.show_in(&Snapshot::default(), 30, 24).unwrap();
        time::advance(REDRAW_EVERY).await;
        progress.show_in(&Snapshot::default(), 80, 5).unwrap();
        let text = String::from_utf8(out).unwrap();
        let (_, after) = text.split_once(&format!("\x1b[{lines}A\r\x1b[J")).unwrap();
        assert!(
            after.lines().count() == 1 && after.contains("| sign-ups 0/s of 0/s | sends 0/s of 0/s"),
            "{after:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_is_quiet() {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, Style::Quiet);
        progress.show(&Snapshot::default()).unwrap();
        progress.say("something").unwrap();
        progress.finish().unwrap();
        assert!(out.is_empty());
    }
}
