//! What a person sees while a run goes on: a panel in a terminal, a plain line every second or two elsewhere.
//!
//! Rendering is a function of a snapshot; only [`Progress`] knows of a terminal.

mod panel;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

pub use panel::{line, panel};

/// Narrower than this, a panel would wrap and could not be redrawn in place.
const PANEL_COLUMNS_MIN: u16 = 56;

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
    /// Where people come through a waiting room.
    pub room: Option<InRoom>,
    /// Codes that were sent, and what one costs.
    pub codes: u64,
    pub code_cost: f64,
    pub refused: u64,
    pub failed: u64,
    pub existing_p99_ms: Option<f64>,
    pub existing_p99_before_ms: Option<f64>,
    pub existing_success_ratio: Option<f64>,
    pub acked: u64,
    pub delivered: u64,
    /// Acknowledged and not delivered yet.
    pub on_their_way: u64,
    pub duplicated: u64,
    pub lag_p99_ms: Option<f64>,
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
}

impl Progress<io::Stderr> {
    /// A panel when standard error is a terminal that is wide enough, else lines. Colour obeys `NO_COLOR`.
    pub fn stderr() -> Self {
        let out = io::stderr();
        let wide = crossterm::terminal::size().is_ok_and(|(columns, _)| columns >= PANEL_COLUMNS_MIN);
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = if out.is_terminal() && wide { Style::Panel { colour } } else { Style::Lines };
        Self::new(out, style)
    }
}

impl<W: Write> Progress<W> {
    pub fn new(out: W, style: Style) -> Self {
        Self { out, style, shown: None, drawn: 0 }
    }

    /// Shows a snapshot unless the last one is fresh; call it as often as convenient.
    pub fn show(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let every = match self.style {
            Style::Panel { .. } => REDRAW_EVERY,
            Style::Lines => LINE_EVERY,
        };
        let now = Instant::now();
        if self.shown.is_some_and(|shown| now - shown < every) {
            return Ok(());
        }
        self.shown = Some(now);
        match self.style {
            Style::Lines => writeln!(self.out, "{}", line(snapshot)),
            Style::Panel { colour } => {
                let columns = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
                self.draw(&panel(snapshot, columns, colour))
            }
        }
    }

    /// Writes a line that stays, above the panel.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
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
        progress.show(&Snapshot::default()).unwrap();
        let lines = progress.drawn;
        time::advance(REDRAW_EVERY).await;
        progress.show(&Snapshot::default()).unwrap();
        progress.say("the server was restarted").unwrap();
        let text = String::from_utf8(out).unwrap();
        let up = format!("\x1b[{lines}A\r\x1b[J");
        assert_eq!(text.matches(&up).count(), 2);
        assert!(text.ends_with(&format!("{up}the server was restarted\n")), "{text:?}");
    }
}
