//! Curves in a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use crate::curve::Curve;
use crate::language::in_words;
use crate::load::Load;

/// Columns of a chart: with its axis, the width of an ordinary terminal.
const WIDTH: u32 = 68;
const HEIGHT: usize = 6;
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A chart for each operation.
pub fn draw(load: &Load) -> String {
    let mut text = String::new();
    for (op, curve) in load.curves() {
        let title = format!("{op} a second, {:.0} in all", curve.total());
        text.push_str(&chart(&title, &columns(curve, load.duration())));
        text.push_str(&axis(load.duration()));
        text.push('\n');
    }
    text
}

/// Mean rates of equal parts of the time.
fn columns(curve: &Curve, duration: Duration) -> Vec<f64> {
    let part = duration / WIDTH;
    (0..WIDTH).map(|n| curve.count_between(part * n, part * (n + 1)) / part.as_secs_f64().max(1e-9)).collect()
}

pub(crate) fn chart(title: &str, columns: &[f64]) -> String {
    let top = columns.iter().copied().fold(0.0, f64::max);
    let mut text = format!("{title}\n");
    for row in (0..HEIGHT).rev() {
        let label = if row + 1 == HEIGHT { short(top) } else { String::new() };
        let bars: String = columns.iter().map(|rate| bar(rate / top.max(1e-12), row)).collect();
        writeln!(text, "{label:>8} ┤{}", bars.trim_end()).expect("a string takes everything");
    }
    text
}

fn axis(duration: Duration) -> String {
    let end = in_words(Duration::from_millis(duration.as_millis() as u64));
    let width = WIDTH as usize;
    format!("       0 └{}\n         0{end:>width$}\n", "─".repeat(width))
}

/// The part of a column that lies in a row, from the bottom; what is there at all is shown.
fn bar(share: f64, row: usize) -> char {
    let eighths = (share * HEIGHT as f64 * 8.0).round();
    let eighths = if share > 0.0 { eighths.max(1.0) } else { 0.0 };
    BARS[(eighths - row as f64 * 8.0).clamp(0.0, 8.0) as usize]
}

pub(crate) fn short(rate: f64) -> String {
    match rate {
        _ if rate >= 10_000.0 => format!("{:.0}k", rate / 1_000.0),
        _ if rate >= 100.0 => format!("{rate:.0}"),
        _ if rate >= 1.0 => format!("{rate:.1}"),
        _ => format!("{rate:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Op;

    #[test]
    fn a_curve_is_drawn_as_high_as_it_is() {
        let curve = Curve::constant(50.0, Duration::from_secs(34)).unwrap();
        let curve = curve.then_step(100.0, Duration::from_secs(34)).unwrap();
        let text = draw(&Load::one(Op::SignUp, curve));
        let rows: Vec<_> = text.lines().collect();
        assert_eq!(rows[0], "signup a second, 5100 in all");
        assert_eq!(rows[1], format!("     100 ┤{}{}", " ".repeat(34), "█".repeat(34)));
        assert_eq!(rows[4], format!("         ┤{}", "█".repeat(68)));
        assert!(rows[8].ends_with("1m8s"), "{text}");
    }

    #[test]
    fn a_little_is_more_than_nothing() {
        assert_eq!([bar(0.0, 0), bar(1e-6, 0), bar(1.0, 5), bar(0.5, 3)], [' ', '▁', '█', ' ']);
        assert_eq!([short(0.25), short(7.0), short(250.0), short(25_000.0)], ["0.250", "7.0", "250", "25k"]);
    }
}
