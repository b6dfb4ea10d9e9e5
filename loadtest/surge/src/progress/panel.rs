//! A snapshot as text.

use super::{InRoom, Snapshot};

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The widest panel; more would only stretch the curve.
const COLUMNS_MAX: usize = 92;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// One plain line.
pub fn line(now: &Snapshot) -> String {
    let date = now.replayed.as_deref().map_or_else(String::new, |utc| format!(" {utc}"));
    let room = now.room.map_or_else(String::new, |room| format!(" | room: {}", in_room(&room)));
    let codes = match now.codes {
        0 => String::new(),
        sent => format!(" | codes {sent}, {:.2} spent", sent as f64 * now.code_cost),
    };
    format!(
        "{:>4}s/{}s {}{date} | sign-ups {:.0}/s of {:.0}/s{room}{codes} | existing p99 {} | acked {} delivered {} | refused {} failed {} duplicated {}",
        now.elapsed.as_secs(),
        now.planned.as_secs(),
        now.phase,
        now.completed_per_s,
        now.offered_per_s,
        millis(now.existing_p99_ms),
        now.acked,
        now.delivered,
        now.refused,
        now.failed,
        now.duplicated,
    )
}

/// The lines of a panel, none of them wider than `columns`.
pub fn panel(now: &Snapshot, columns: usize, colour: bool) -> Vec<String> {
    let columns = columns.saturating_sub(1).clamp(1, COLUMNS_MAX);
    let paint = Paint { columns, colour };
    let clock = format!("{} / {}", minutes(now.elapsed.as_secs()), minutes(now.planned.as_secs()));
    let date =
        now.replayed.as_deref().map_or_else(String::new, |utc| utc.replace('T', " ").replace('Z', " UTC"));
    let before =
        now.existing_p99_before_ms.map_or_else(String::new, |ms| format!(" (before {})", millis(Some(ms))));
    let accepted = now
        .existing_success_ratio
        .map_or_else(String::new, |ratio| format!("   {:.2} % accepted", (ratio * 10_000.0).floor() / 100.0));
    let room = now.room.map(|room| paint.alarm("room", &in_room(&room), room.frozen));
    let spent = now.codes as f64 * now.code_cost;
    let codes =
        (now.codes > 0).then(|| paint.row("codes", &format!("{} sent   {spent:.2} spent", now.codes)));
    let share = now.elapsed.as_secs_f64() / now.planned.as_secs_f64().max(1e-9);
    let mut lines = vec![
        String::new(),
        paint.spread(&format!("surge  {} · {}", now.profile, now.phase), &clock),
        paint.curve(&now.curve, share),
        paint.dim(&date),
        paint.row(
            "sign-ups",
            &format!("{:.0}/s completed of {:.0}/s offered", now.completed_per_s, now.offered_per_s),
        ),
    ];
    lines.extend(room.into_iter().chain(codes));
    lines.extend([
        paint.row("existing", &format!("send p99 {}{before}{accepted}", millis(now.existing_p99_ms))),
        paint.row(
            "messages",
            &format!("{} acked   {} delivered   {} on their way", now.acked, now.delivered, now.on_their_way),
        ),
        paint.alarm(
            "trouble",
            &format!("{} refused   {} failed   {} duplicated", now.refused, now.failed, now.duplicated),
            now.failed + now.duplicated > 0,
        ),
        paint.row("generator", &format!("lag p99 {}", millis(now.lag_p99_ms))),
    ]);
    lines
}

fn in_room(room: &InRoom) -> String {
    let of = match (room.frozen, room.rate_per_s) {
        (true, _) => ", nobody is called".to_owned(),
        (false, Some(rate)) => format!(", room for {rate:.0}/s"),
        (false, None) => String::new(),
    };
    let told = room
        .told_and_waited_s
        .map_or_else(String::new, |(told, waited)| format!("   told {told:.0} s, waited {waited:.0} s"));
    format!("{} wait   {:.0}/s come in{of}{told}", room.waiting, room.come_in_per_s)
}

struct Paint {
    columns: usize,
    colour: bool,
}

impl Paint {
    fn styled(&self, style: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("{style}{text}{RESET}") } else { text.to_owned() }
    }

    fn fit(&self, text: &str) -> String {
        text.chars().take(self.columns).collect()
    }

    fn dim(&self, text: &str) -> String {
        self.styled(DIM, &self.fit(text))
    }

    fn spread(&self, left: &str, right: &str) -> String {
        let gap = self.columns.saturating_sub(left.chars().count() + right.chars().count()).max(1);
        self.styled(BOLD, &self.fit(&format!("{left}{}{right}", " ".repeat(gap))))
    }

    fn row(&self, name: &str, text: &str) -> String {
        self.alarm(name, text, false)
    }

    fn alarm(&self, name: &str, text: &str, alarmed: bool) -> String {
        let fitted = self.fit(&format!("{name:<11}{text}"));
        let name: String = fitted.chars().take(11).collect();
        let text: String = fitted.chars().skip(11).collect();
        let text = if alarmed { self.styled(RED, &text) } else { text };
        format!("{}{text}", self.styled(DIM, &name))
    }

    /// The curve of the whole run; what is still to come is dim, or a line of dots without colour.
    fn curve(&self, rates: &[f64], share: f64) -> String {
        let highest = rates.iter().copied().fold(0.0, f64::max);
        if highest <= 0.0 {
            return String::new();
        }
        let bar = |column: usize| {
            let from = column * rates.len() / self.columns;
            let to = ((column + 1) * rates.len() / self.columns).clamp(from + 1, rates.len().max(from + 1));
            let rate = rates.get(from..to).map_or(0.0, |part| part.iter().copied().fold(0.0, f64::max));
            BARS[((rate / highest * 7.0).round() as usize).min(7)]
        };
        let bars: Vec<char> = (0..self.columns).map(bar).collect();
        let played = ((share.clamp(0.0, 1.0) * self.columns as f64) as usize).min(self.columns);
        let (done, ahead) = bars.split_at(played);
        let done: String = done.iter().collect();
        let ahead: String = if self.colour { ahead.iter().collect() } else { "·".repeat(ahead.len()) };
        format!("{done}{}", self.styled(DIM, &ahead))
    }
}

fn minutes(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            profile: "signal-2021".to_owned(),
            phase: "surge".to_owned(),
            elapsed: Duration::from_secs(42),
            planned: Duration::from_secs(84),
            replayed: Some("2021-01-15T15:00Z".to_owned()),
            curve: (0..40).map(f64::from).collect(),
            offered_per_s: 812.0,
            completed_per_s: 806.4,
            refused: 12,
            existing_p99_ms: Some(12.3),
            existing_p99_before_ms: Some(7.04),
            existing_success_ratio: Some(0.999_99),
            acked: 182_004,
            delivered: 181_998,
            on_their_way: 6,
            lag_p99_ms: Some(0.4),
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_panel_reads_like_this() {
        let lines = panel(&snapshot(), 61, false);
        let expected = [
            "",
            "surge  signal-2021 · surge                        0:42 / 1:24",
            "▁▁▁▁▁▂▂▂▂▂▂▂▂▃▃▃▃▃▃▃▃▄▄▄▄▄▄▄▄▄······························",
            "2021-01-15 15:00 UTC",
            "sign-ups   806/s completed of 812/s offered",
            "existing   send p99 12 ms (before 7.0 ms)   99.99 % accepted",
            "messages   182004 acked   181998 delivered   6 on their way",
            "trouble    12 refused   0 failed   0 duplicated",
            "generator  lag p99 0.4 ms",
        ];
        assert_eq!(lines.len(), expected.len());
        for (line, expected) in lines.iter().zip(expected) {
            if !expected.starts_with(['▁', 's']) || expected.starts_with("sign-ups") {
                assert_eq!(line, expected);
            }
        }
        assert!(
            lines[1].ends_with("0:42 / 1:24") && lines[2].starts_with("▁▁▁") && lines[2].ends_with("···")
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in [1, 20, 56, 80, 300] {
            for line in panel(&snapshot(), columns, false) {
                assert!(line.chars().count() < columns.max(2), "{columns}: {line}");
            }
        }
    }

    #[test]
    fn a_room_and_its_codes_have_lines_of_their_own() {
        let room = InRoom {
            waiting: 1_204,
            come_in_per_s: 119.6,
            rate_per_s: Some(120.0),
            frozen: false,
            told_and_waited_s: Some((15.2, 13.4)),
        };
        let now = Snapshot { room: Some(room), codes: 5_012, code_cost: 0.05, ..snapshot() };
        let lines = panel(&now, 80, false);
        assert_eq!(lines[5], "room       1204 wait   120/s come in, room for 120/s   told 15 s, waited 13 s");
        assert_eq!(lines[6], "codes      5012 sent   250.60 spent");
        assert!(line(&now).contains(" of 812/s | room: 1204 wait   120/s come in, room for 120/s   told"));
        let frozen = Snapshot { room: Some(InRoom { frozen: true, ..room }), ..now };
        let lines = panel(&frozen, 80, true);
        assert!(lines[5].contains(RED) && lines[5].contains("come in, nobody is called"), "{}", lines[5]);
    }

    #[test]
    fn trouble_is_red_only_when_there_is_some() {
        let calm = panel(&snapshot(), 80, true).join("\n");
        assert!(!calm.contains(RED) && calm.contains(BOLD));
        let troubled = Snapshot { failed: 1, ..snapshot() };
        assert!(panel(&troubled, 80, true).join("\n").contains(RED));
    }

    #[test]
    fn a_plain_line_says_the_same() {
        assert_eq!(
            line(&snapshot()),
            "  42s/84s surge 2021-01-15T15:00Z | sign-ups 806/s of 812/s | existing p99 12 ms | acked 182004 delivered \
             181998 | refused 12 failed 0 duplicated 0"
        );
    }
}
