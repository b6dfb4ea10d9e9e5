//! A chart over the time of the run: lines with labels at their ends, an area behind them, ticks in HTML.

use std::borrow::Cow;

use super::scale::from_zero;
use super::text::escape;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 240.0;

/// Labels closer than this share of the height would overlap.
const LABEL_GAP: f64 = 0.085;

#[derive(Debug)]
pub(super) struct Tick {
    /// Seconds of the run.
    pub(super) at: f64,
    pub(super) label: String,
    /// Hidden on a narrow screen.
    pub(super) minor: bool,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) label: Cow<'static, str>,
    /// Its colour: a class of the style sheet.
    pub(super) class: &'static str,
    pub(super) values: Vec<Option<f64>>,
}

/// A marked moment.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) label: String,
}

#[derive(Debug)]
pub(super) struct Chart<'a> {
    /// Read aloud instead of the picture.
    pub(super) description: String,
    /// Seconds of the run, one for each value.
    pub(super) times: &'a [f64],
    /// What the tooltip calls each of them.
    pub(super) moments: &'a [String],
    pub(super) ticks: &'a [Tick],
    pub(super) phases: &'a [Mark],
    pub(super) events: &'a [Mark],
    pub(super) mark: Option<Mark>,
    pub(super) lines: Vec<Line>,
    /// Drawn behind the lines on a scale of its own, unless it shares theirs.
    pub(super) area: Option<Line>,
    pub(super) area_shares_scale: bool,
    pub(super) unit: &'static str,
    pub(super) format: fn(f64) -> String,
}

impl Chart<'_> {
    pub(super) fn html(&self) -> String {
        let lines = self.lines.iter().flat_map(|line| highest(&line.values));
        let area =
            self.area.as_ref().filter(|_| self.area_shares_scale).and_then(|area| highest(&area.values));
        let (top, y_ticks) = from_zero(lines.chain(area).fold(0.0, f64::max));

        let mut svg = String::new();
        let mut labels = String::new();
        for tick in &y_ticks {
            let y = HEIGHT * (1.0 - tick / top);
            svg += &format!("<path class=\"grid\" d=\"M0 {y:.1}H{WIDTH}\"/>");
            let text = (self.format)(*tick);
            labels += &format!("<span class=\"y\" style=\"top:{:.1}%\">{text}</span>", 100.0 * y / HEIGHT);
        }
        if let Some(area) = &self.area {
            let top = if self.area_shares_scale {
                top
            } else {
                highest(&area.values).unwrap_or(1.0).max(1e-9) * 1.15
            };
            svg += &format!("<path class=\"area\" d=\"{}\"/>", self.area_path(&area.values, top));
        }
        for line in &self.lines {
            svg +=
                &format!("<path class=\"line {}\" d=\"{}\"/>", line.class, self.line_path(&line.values, top));
        }
        self.ticks_and_marks(&mut labels);
        self.end_labels(&mut labels, top);

        format!(
            "<figure class=\"chart\" tabindex=\"0\">{}<div class=\"plot\" role=\"img\" aria-label=\"{}\">\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{svg}</svg>{labels}\
             <i class=\"hair\"></i><div class=\"tip\"></div></div>\
             <script type=\"application/json\">{}</script></figure>\n",
            self.legend(),
            escape(&self.description),
            self.data(top),
        )
    }

    /// With a line above it that says what it is of.
    pub(super) fn html_with_title(&self, title: &str) -> String {
        format!("<h3>{}</h3>{}", escape(title), self.html())
    }

    fn end(&self) -> f64 {
        self.times.last().copied().unwrap_or(0.0).max(1.0)
    }

    fn x(&self, at: f64) -> f64 {
        WIDTH * at / self.end()
    }

    fn points<'v>(
        &'v self,
        values: &'v [Option<f64>],
        top: f64,
    ) -> impl Iterator<Item = Option<(f64, f64)>> + 'v {
        let points = self.times.iter().zip(values);
        points.map(move |(at, value)| value.map(|value| (self.x(*at), HEIGHT * (1.0 - value / top))))
    }

    /// Breaks where nothing was measured.
    fn line_path(&self, values: &[Option<f64>], top: f64) -> String {
        let mut path = String::new();
        let mut pen = 'M';
        for point in self.points(values, top) {
            match point {
                Some((x, y)) => {
                    path += &format!("{pen}{x:.1} {y:.1}");
                    pen = 'L';
                }
                None => pen = 'M',
            }
        }
        path
    }

    fn area_path(&self, values: &[Option<f64>], top: f64) -> String {
        let mut path = format!("M0 {HEIGHT}");
        for (x, y) in self.points(values, top).flatten() {
            path += &format!("L{x:.1} {y:.1}");
        }
        path + &format!("V{HEIGHT}Z")
    }

    fn ticks_and_marks(&self, labels: &mut String) {
        let percent = |at: f64| 100.0 * at / self.end();
        for tick in self.ticks {
            let class = if tick.minor { "x minor" } else { "x" };
            let label = escape(&tick.label);
            *labels +=
                &format!("<span class=\"{class}\" style=\"left:{:.2}%\">{label}</span>", percent(tick.at));
        }
        for phase in self.phases.iter().filter(|phase| phase.at <= self.end()) {
            let label = escape(&phase.label);
            *labels +=
                &format!("<span class=\"phase\" style=\"left:{:.2}%\">{label}</span>", percent(phase.at));
        }
        for event in self.events.iter().filter(|event| event.at <= self.end()) {
            let side = if event.at > self.end() * 0.7 { "fault left" } else { "fault" };
            let label = escape(&event.label);
            *labels += &format!(
                "<span class=\"{side}\" style=\"left:{:.2}%\" title=\"{label}\"><b>{label}</b></span>",
                percent(event.at)
            );
        }
        if let Some(mark) = &self.mark {
            // To the side of the mark that has room.
            let side = if mark.at > self.end() / 2.0 { "mark left" } else { "mark" };
            let label = escape(&mark.label);
            *labels += &format!(
                "<span class=\"{side}\" style=\"left:{:.2}%\"><b>{label}</b></span>",
                percent(mark.at)
            );
        }
    }

    /// Each line's name beside its last value, moved apart where they would overlap.
    fn end_labels(&self, labels: &mut String, top: f64) {
        let last =
            |line: &Line| line.values.iter().rev().flatten().next().map_or(1.0, |value| 1.0 - value / top);
        let mut ends: Vec<_> = self.lines.iter().map(|line| (last(line), line)).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut lowest_free = f64::MAX;
        for (at, _) in ends.iter_mut().rev() {
            *at = at.min(lowest_free - LABEL_GAP);
            lowest_free = *at;
        }
        for (at, line) in ends {
            let percent = 100.0 * at;
            *labels += &format!(
                "<span class=\"end {}\" style=\"top:{percent:.1}%\">{}</span>",
                line.class,
                escape(&line.label)
            );
        }
    }

    fn legend(&self) -> String {
        let entry = |class: &str, label: &str| format!("<span class=\"{class}\">{}</span>", escape(label));
        let lines: String = self.lines.iter().map(|line| entry(line.class, &line.label)).collect();
        let area = self.area.as_ref().map_or_else(String::new, |area| entry("shape", &area.label));
        format!("<figcaption><em>{}</em>{lines}{area}</figcaption>", self.unit)
    }

    /// What the tooltip shows.
    fn data(&self, top: f64) -> String {
        let series = |line: &Line, class: &str, on_scale: bool| {
            let text = |value: &Option<f64>| value.map_or_else(|| "–".to_owned(), self.format);
            let height = |value: &Option<f64>| value.filter(|_| on_scale).map(|v| (1000.0 * v / top).round());
            serde_json::json!({
                "label": line.label,
                "class": class,
                "text": line.values.iter().map(text).collect::<Vec<_>>(),
                "height": line.values.iter().map(height).collect::<Vec<_>>(),
            })
        };
        let mut all: Vec<_> = self.lines.iter().map(|line| series(line, line.class, true)).collect();
        if let Some(area) = self.area.as_ref().filter(|_| self.area_shares_scale) {
            all.push(series(area, "shape", false));
        }
        let at: Vec<_> =
            self.times.iter().map(|at| (10_000.0 * at / self.end()).round() / 10_000.0).collect();
        let data = serde_json::json!({ "at": at, "when": self.moments, "unit": self.unit, "series": all });
        // `</script>` inside a name must not end the element.
        data.to_string().replace('<', "\\u003c")
    }
}

fn highest(values: &[Option<f64>]) -> Option<f64> {
    values.iter().flatten().copied().reduce(f64::max)
}
