//! Latency against offered load: a dot for each second, and what is usual at each load.
//!
//! Dots are HTML and not SVG, because the plot is stretched and circles would be.

use super::scale::from_zero;
use super::text::{escape, millis, number};

/// Groups of seconds with about the same load, for the line.
const BINS: usize = 12;
/// More dots than these would hide each other.
const DOTS_MAX: usize = 600;

/// One second: offered a second, milliseconds.
pub(super) type Dot = (f64, f64);

/// Nothing where there are too few seconds to see anything.
pub(super) fn html(dots: &[Dot], unit_x: &str, unit_y: &str, description: &str) -> Option<String> {
    if dots.len() < 5 {
        return None;
    }
    let (right, x_ticks) = from_zero(dots.iter().map(|dot| dot.0).fold(0.0, f64::max));
    let (top, y_ticks) = from_zero(dots.iter().map(|dot| dot.1).fold(0.0, f64::max));
    let place = |dot: &Dot| (100.0 * dot.0 / right, 100.0 - 100.0 * dot.1 / top);
    let mut inside = String::new();
    let mut grid = String::new();
    for tick in &y_ticks {
        let y = 100.0 - 100.0 * tick / top;
        grid += &format!("<path class=\"grid\" d=\"M0 {y:.2}H100\"/>");
        inside += &format!("<span class=\"y\" style=\"top:{y:.1}%\">{}</span>", number(*tick));
    }
    for tick in &x_ticks {
        let x = 100.0 * tick / right;
        inside += &format!("<span class=\"x\" style=\"left:{x:.1}%\">{}</span>", number(*tick));
    }
    let line: Vec<_> = usual(dots).iter().map(place).map(|(x, y)| format!("{x:.2} {y:.2}")).collect();
    grid += &format!("<path class=\"line one\" d=\"M{}\"/>", line.join("L"));
    let stride = dots.len().div_ceil(DOTS_MAX).max(1);
    for (x, y) in dots.iter().step_by(stride).map(place) {
        inside += &format!("<i class=\"dot\" style=\"left:{x:.2}%;top:{y:.2}%\"></i>");
    }
    Some(format!(
        "<figure class=\"chart scatter\"><figcaption><em>{}, by {}</em><span class=\"one\">median of seconds with about this load</span></figcaption>\
         <div class=\"plot\" role=\"img\" aria-label=\"{}\"><svg viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{grid}</svg>\
         {inside}</div></figure>",
        escape(unit_y),
        escape(unit_x),
        escape(description),
    ))
}

/// The middle of each group of seconds, in order of load.
fn usual(dots: &[Dot]) -> Vec<Dot> {
    let mut dots = dots.to_vec();
    dots.sort_by(|a, b| a.0.total_cmp(&b.0));
    let size = dots.len().div_ceil(BINS).max(1);
    let middle = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    let group = |group: &[Dot]| {
        let (mut x, mut y): (Vec<f64>, Vec<f64>) = group.iter().copied().unzip();
        (middle(&mut x), middle(&mut y))
    };
    dots.chunks(size).map(group).collect()
}

/// In words, for whoever does not see the plot.
pub(super) fn in_words(dots: &[Dot]) -> String {
    let usual = usual(dots);
    match (usual.first(), usual.last()) {
        (Some(low), Some(high)) if low.0 < high.0 => format!(
            "At {} a second p99 was {} in the middle of seconds, at {} a second {}.",
            number(low.0),
            millis(low.1),
            number(high.0),
            millis(high.1)
        ),
        _ => "The load was the same all the time.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_lie_inside_and_the_line_goes_through_their_middle() {
        let dots: Vec<Dot> = (0..120).map(|n| (f64::from(n), f64::from(n * n) / 10.0)).collect();
        let page = html(&dots, "offered", "ms", "d").unwrap();
        assert_eq!(page.matches("class=\"dot\"").count(), 120);
        assert!(!page.contains("NaN") && !page.contains("-0.") && !page.contains("left:1000"));
        let usual = usual(&dots);
        assert_eq!((usual.len(), usual[0]), (BINS, (5.0, 2.5)));
        assert!(in_words(&dots).starts_with("At 5 a second p99 was 2.5 ms"));
        assert!(html(&dots[..4], "", "", "").is_none());
        assert!(html(&[(0.0, 0.0); 9], "", "", "").is_some_and(|page| !page.contains("NaN")));
    }

    #[test]
    fn a_day_of_seconds_has_no_more_dots_than_can_be_seen() {
        let page = html(&vec![(1.0, 1.0); 86_400], "", "", "").unwrap();
        assert!(page.matches("class=\"dot\"").count() <= DOTS_MAX);
    }
}
