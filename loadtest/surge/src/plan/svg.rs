//! Curves as a picture that a browser shows: no script, no font from elsewhere.

use std::fmt::Write as _;
use std::time::Duration;

use super::draw::short;
use crate::language::in_words;
use crate::load::Load;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 70.0;
const GAP: f64 = 46.0;
const POINTS: u32 = 450;

/// One chart for each operation, one above the other.
pub fn svg(title: &str, load: &Load) -> String {
    let count = load.curves().count() as f64;
    let height = 50.0 + count * (HEIGHT + GAP);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}</text>\n",
        LEFT + WIDTH + 30.0,
        escaped(title)
    );
    for (n, (op, curve)) in load.curves().enumerate() {
        let top = 50.0 + n as f64 * (HEIGHT + GAP);
        let part = load.duration() / POINTS;
        let rates: Vec<_> = (0..POINTS)
            .map(|n| curve.count_between(part * n, part * (n + 1)) / part.as_secs_f64().max(1e-9))
            .collect();
        let highest = rates.iter().copied().fold(0.0, f64::max).max(1e-12);
        let mut path = format!("M{LEFT} {}", top + HEIGHT);
        for (n, rate) in rates.iter().enumerate() {
            let x = LEFT + WIDTH * n as f64 / f64::from(POINTS);
            let y = top + HEIGHT * (1.0 - rate / highest);
            let next = LEFT + WIDTH * (n + 1) as f64 / f64::from(POINTS);
            write!(path, "L{x:.1} {y:.1}L{next:.1} {y:.1}").expect("a string takes everything");
        }
        let end = in_words(Duration::from_millis(load.duration().as_millis() as u64));
        writeln!(
            text,
            "<text x=\"{LEFT}\" y=\"{:.0}\">{op} a second, {:.0} in all</text>\n\
             <path d=\"{path}L{:.1} {:.1}Z\" fill=\"#9ecae1\" stroke=\"#3182bd\"/>\n\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\n\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{end}</text>",
            top - 6.0,
            curve.total(),
            LEFT + WIDTH,
            top + HEIGHT,
            LEFT - 6.0,
            top + 12.0,
            short(highest),
            LEFT + WIDTH,
            top + HEIGHT + 16.0,
        )
        .expect("a string takes everything");
    }
    text.push_str("</svg>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::Curve;
    use crate::load::Op;

    #[test]
    fn every_operation_has_its_chart_and_no_text_breaks_out() {
        let curve = |per_s| Curve::constant(per_s, Duration::from_secs(60)).unwrap();
        let load = Load::one(Op::SignUp, curve(3.0)).plus(&Load::one(Op::Send, curve(9.0)));
        let text = svg("a <b> & c", &load);
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
        assert_eq!(text.matches("<path").count(), 2);
        assert!(text.contains("a &lt;b&gt; &amp; c") && text.contains("signup a second, 180 in all"));
        assert!(!text.contains("<script") && !text.contains("NaN"));
    }
}
