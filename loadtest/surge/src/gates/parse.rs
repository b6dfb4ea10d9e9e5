//! From text to a rule, with errors that point at what is wrong.

use std::fmt;
use std::ops::Range;

use super::{ALIASES, After, Count, FINAL, Kind, Metric, Rule, Statistic, operations};
use crate::cohorts::Cohort;
use crate::slo::{Comparison, Unit};

/// What was not understood, where, and what may have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub text: String,
    /// Bytes of the text.
    pub at: Range<usize>,
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.text.get(..self.at.start).unwrap_or_default().chars().count();
        let marked = self.text.get(self.at.clone()).unwrap_or_default().chars().count().max(1);
        writeln!(f, "{}", self.message)?;
        writeln!(f, "  {}", self.text)?;
        write!(f, "  {}{}", " ".repeat(before), "^".repeat(marked))
    }
}

impl std::error::Error for ParseError {}

const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Below),
    (">", Comparison::Above),
];
const KINDS: [(&str, Kind); 3] =
    [("response", Kind::Response), ("service", Kind::Service), ("lag", Kind::Lag)];
const COUNTS: [(&str, Count); 8] = [
    ("error_rate", Count::ErrorRate),
    ("success_rate", Count::SuccessRate),
    ("refused_rate", Count::RefusedRate),
    ("rate", Count::Rate),
    ("offered", Count::Offered),
    ("ok", Count::Ok),
    ("refused", Count::Refused),
    ("failed", Count::Failed),
];
/// Alike enough to be a slip of the fingers.
const ALIKE: f64 = 0.75;

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Up to a space or a comparison.
    fn word(&mut self) -> (&'a str, Range<usize>) {
        self.skip_spaces();
        let length = self.rest().find(|c: char| c.is_whitespace() || "<>=!".contains(c));
        let from = self.at;
        self.at += length.unwrap_or(self.rest().len());
        (self.text.get(from..self.at).unwrap_or_default(), from..self.at)
    }

    fn error(&self, at: Range<usize>, message: impl Into<String>) -> ParseError {
        ParseError { text: self.text.to_owned(), at, message: message.into() }
    }
}

pub(super) fn rule(text: &str) -> Result<Rule, ParseError> {
    let mut scanner = Scanner { text, at: 0 };
    let (figure, at) = scanner.word();
    if figure.is_empty() {
        return Err(scanner.error(at, "a check begins with a figure, such as `send.response.p99 < 250ms`"));
    }
    let metric = metric(&scanner, figure, at)?;
    scanner.skip_spaces();
    let Some((sign, comparison)) =
        COMPARISONS.into_iter().find(|(sign, _)| scanner.rest().starts_with(*sign))
    else {
        let at = scanner.at..text.len();
        return Err(scanner.error(at, "a comparison is missing here: one of < <= > >= == !="));
    };
    scanner.at += sign.len();
    let (value, at) = scanner.word();
    let threshold = threshold(&scanner, value, at, metric.unit())?;
    let mut rule = Rule {
        text: text.trim().to_owned(),
        metric,
        comparison,
        threshold,
        window_s: None,
        after: After::Start,
        abort: false,
    };
    loop {
        let (word, at) = scanner.word();
        match word {
            "" if scanner.rest().trim().is_empty() => return Ok(rule),
            "any" | "every" => {
                let (length, at) = scanner.word();
                rule.window_s = Some(seconds(&scanner, length, at)?);
            }
            "after" => {
                let (what, at) = scanner.word();
                rule.after = match what {
                    "warmup" | "calm" => After::Warmup,
                    _ => After::Seconds(seconds(&scanner, what, at)?),
                };
            }
            "abort" => rule.abort = true,
            other => {
                let known = ["any", "after", "abort"];
                let message = format!(
                    "`{other}` is not understood{}: a value may be followed by `any 10s`, `after warmup`, `after 30s` and `abort`",
                    suggestion(other, known)
                );
                let at = if other.is_empty() { scanner.at..text.len() } else { at };
                return Err(scanner.error(at, message));
            }
        }
        if let Metric::Final { .. } = rule.metric
            && (rule.window_s.is_some() || rule.abort || rule.after != After::Start)
        {
            let at = at.start..scanner.at;
            return Err(scanner.error(
                at,
                "this figure is known only when the run is over, so it has neither windows nor an abort",
            ));
        }
    }
}

pub(super) fn figure(text: &str) -> Result<Metric, ParseError> {
    let mut scanner = Scanner { text, at: 0 };
    let (figure, at) = scanner.word();
    let metric = metric(&scanner, figure, at)?;
    match scanner.rest().trim() {
        "" => Ok(metric),
        _ => Err(scanner.error(scanner.at..text.len(), "only a figure belongs here")),
    }
}

fn metric(scanner: &Scanner<'_>, figure: &str, at: Range<usize>) -> Result<Metric, ParseError> {
    if let Some((_, unit, name)) = FINAL.into_iter().find(|(name, ..)| *name == figure) {
        return Ok(Metric::Final { figure: name, unit });
    }
    let mut parts = Vec::new();
    let mut from = at.start;
    for part in figure.split('.') {
        parts.push((part, from..from + part.len()));
        from += part.len() + 1;
    }
    let mut of_cohort = None;
    if let Some(cohort) = parts.first().and_then(|(name, _)| Cohort::find(name)) {
        let about = cohort.about();
        let whose = parts.remove(0);
        match parts.first() {
            Some((verb, _)) if *verb == about.verb => of_cohort = Some(about.operation.0),
            other => {
                let at = other.map_or(whose.1, |(_, at)| at.clone());
                let message = format!(
                    "what is counted of `{name}` is {verb}: write {name}.{verb}.response.p99 or {name}.{verb}.refused",
                    name = about.name,
                    verb = about.verb
                );
                return Err(scanner.error(at, message));
            }
        }
    }
    let (name, name_at) = parts.first().cloned().unwrap_or((figure, at.clone()));
    let known = operations();
    let alias = ALIASES.into_iter().find(|(alias, _)| *alias == name).map(|(_, operation)| operation);
    let alias = of_cohort.or(alias);
    let Some(operation) = alias.or_else(|| known.iter().copied().find(|operation| *operation == name)) else {
        let names = ALIASES.iter().map(|(alias, _)| *alias).chain(known.iter().copied());
        let names: Vec<_> = names.chain(["generator", "server", "fault", "harm"]).collect();
        let message = format!(
            "no operation is called `{name}`{}; known are {}",
            suggestion(name, names.iter().copied()),
            names.join(", ")
        );
        return Err(scanner.error(name_at, message));
    };
    let operation = operation.to_owned();
    let whole_run = FINAL.iter().filter_map(|(of_run, ..)| of_run.strip_prefix(name)?.strip_prefix('.'));
    let second = parts.get(1).cloned();
    let Some((what, what_at)) = second else {
        return Err(scanner.error(
            at,
            format!("which figure of `{name}`? Such as {name}.response.p99 or {name}.error_rate"),
        ));
    };
    if let Some((_, count)) = COUNTS.into_iter().find(|(count, _)| *count == what) {
        return match parts.get(2) {
            Some((_, more)) => Err(scanner.error(more.clone(), format!("`{what}` has no parts"))),
            None => Ok(Metric::Count { operation, count }),
        };
    }
    let Some((_, kind)) = KINDS.into_iter().find(|(kind, _)| *kind == what) else {
        let names: Vec<_> = KINDS
            .map(|(kind, _)| kind)
            .into_iter()
            .chain(COUNTS.map(|(count, _)| count))
            .chain(whole_run)
            .collect();
        let message = format!(
            "`{name}` has no figure `{what}`{}; it has {}",
            suggestion(what, names.iter().copied()),
            names.join(", ")
        );
        return Err(scanner.error(what_at, message));
    };
    let Some((_, statistic_at)) = parts.get(2).cloned() else {
        return Err(
            scanner.error(what_at, format!("which percentile? Such as {name}.{what}.p99, .mean or .max"))
        );
    };
    // p99.9 holds the dot that parts the words.
    let statistic: String =
        parts.iter().skip(2).map(|(part, _)| *part).collect::<Vec<_>>().join(".").replace(' ', "");
    let statistic_at = statistic_at.start..at.end;
    let statistic = match statistic.as_str() {
        "mean" => Statistic::Mean,
        "max" => Statistic::Max,
        text => Statistic::Quantile(quantile(text).ok_or_else(|| {
            scanner.error(
                statistic_at,
                format!("`{text}` is not a percentile: write p50, p90, p99, p99.9 (or p999), mean or max"),
            )
        })?),
    };
    Ok(Metric::Latency { operation, kind, statistic })
}

/// `p99` is 0.99, `p99.9` and `p999` are 0.999.
fn quantile(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('p')?;
    if !digits.chars().all(|c| c.is_ascii_digit() || c == '.') || digits.is_empty() {
        return None;
    }
    let percent: f64 = match digits.len() {
        // p999 is short for p99.9; p100 is no percentile.
        3.. if digits.starts_with('9') && !digits.contains('.') => {
            format!("{}.{}", digits.get(..2)?, digits.get(2..)?).parse().ok()?
        }
        _ => digits.parse().ok()?,
    };
    (percent > 0.0 && percent < 100.0).then_some(percent / 100.0)
}

fn threshold(scanner: &Scanner<'_>, text: &str, at: Range<usize>, unit: Unit) -> Result<f64, ParseError> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let wrong = |message: String| Err(scanner.error(at.clone(), message));
    let Ok(value) = number.replace('_', "").parse::<f64>() else {
        return wrong("a value is missing here, such as 250ms, 0.1% or 0".to_owned());
    };
    let factor = match (unit, suffix) {
        (Unit::Ms, "us" | "µs") | (Unit::Us, "ms") => {
            if unit == Unit::Ms {
                1e-3
            } else {
                1e3
            }
        }
        (Unit::Ms, "ms") | (Unit::Us, "us" | "µs") => 1.0,
        (Unit::Ms, "s") => 1e3,
        (Unit::Us, "s") => 1e6,
        (Unit::Ms, "m" | "min") => 60e3,
        (Unit::Ms | Unit::Us, "") if value == 0.0 => 1.0,
        (Unit::Ms | Unit::Us, "") => {
            return wrong(format!("which unit? Such as {text}ms, {text}us or {text}s"));
        }
        (Unit::Ratio, "%") => 0.01,
        (Unit::Ratio, "") if value <= 1.0 => 1.0,
        (Unit::Ratio, "") => {
            return wrong(format!("a share is between 0 and 1; write {text}% for a percentage"));
        }
        (Unit::PerSecond, "" | "/s") | (Unit::Count | Unit::Bytes, "") => 1.0,
        (Unit::Bytes, "k" | "KiB") => 1024.0,
        (Unit::Bytes, "M" | "MiB") => 1024.0 * 1024.0,
        (Unit::Count, _) => return wrong(format!("this is a count, and has no unit `{suffix}`")),
        _ => return wrong(format!("`{suffix}` is not a unit of this figure")),
    };
    Ok(value * factor)
}

fn seconds(scanner: &Scanner<'_>, text: &str, at: Range<usize>) -> Result<u64, ParseError> {
    let (number, factor) = match text.strip_suffix('s') {
        Some(number) => (number, 1),
        None => (text.strip_suffix('m').unwrap_or(""), 60),
    };
    match number.parse::<u64>() {
        Ok(value @ 1..) => Ok(value * factor),
        _ => Err(scanner.error(at, "a time in whole seconds or minutes belongs here, such as 10s or 2m")),
    }
}

/// ` (did you mean `send`?)`, if one of them is like it.
pub(super) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, name)| format!(" (did you mean `{name}`?)"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn checks_are_read() {
        let rule = rule("send.response.p99 < 250ms any 10s after warmup abort").unwrap();
        assert_eq!(
            rule.metric,
            Metric::Latency {
                operation: "existing_send".to_owned(),
                kind: Kind::Response,
                statistic: Statistic::Quantile(0.99)
            }
        );
        assert_eq!((rule.comparison, rule.threshold, rule.window_s), (Comparison::Below, 250.0, Some(10)));
        assert_eq!((rule.after, rule.abort), (After::Warmup, true));
        let value = |text: &str| super::rule(text).map(|rule| rule.threshold).unwrap();
        assert_eq!(value("signup.error_rate < 0.1%"), 0.001);
        assert_eq!(value("send.lag.p99.9<=1.5s"), 1_500.0);
        assert_eq!(value("e2e.lost == 0"), 0.0);
        assert_eq!(value("e2e.response.max < 2m after 30s"), 120_000.0);
        assert_eq!(value("server.memory_per_session < 64KiB"), 65_536.0);
        assert_eq!(value("signup.rate >= 1_000/s"), 1_000.0);
        let quantile = |text| super::quantile(text);
        assert_eq!([quantile("p50"), quantile("p100"), quantile("p0")], [Some(0.5), None, None]);
        assert!((quantile("p99.9").unwrap() - 0.999).abs() < 1e-12);
        assert!((quantile("p999").unwrap() - 0.999).abs() < 1e-12);
    }

    #[test]
    fn errors_point_at_what_is_wrong_and_suggest_what_was_meant() {
        let of = |text: &str| super::rule(text).unwrap_err().to_string();
        let error = of("sned.response.p99 < 250ms");
        assert!(error.starts_with("no operation is called `sned` (did you mean `send`?)"), "{error}");
        assert!(error.ends_with("  sned.response.p99 < 250ms\n  ^^^^"), "{error}");
        let error = of("send.respnse.p99 < 250ms");
        assert!(error.contains("did you mean `response`?") && error.ends_with("       ^^^^^^^"), "{error}");
        for (text, says, mark) in [
            ("send.response.p99 < 250", "which unit?", "250"),
            ("send.response.p99 250ms", "a comparison is missing", "250ms"),
            ("send.response.q99 < 250ms", "not a percentile", "q99"),
            ("send.error_rate < 5", "write 5% for a percentage", "5"),
            ("e2e.lost == 0 any 10s", "known only when the run is over", "any 10s"),
            ("send.response.p99 < 250ms in 10s", "`in` is not understood", "in"),
            ("send.response.p99 < 250ms any ten", "such as 10s or 2m", "ten"),
            ("send.response.p99 <", "a value is missing", ""),
        ] {
            let error = super::rule(text).unwrap_err();
            assert!(error.message.contains(says), "{text}: {error}");
            assert_eq!(text.get(error.at.clone()).unwrap(), mark, "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in ".{0,60}") {
            if let Err(error) = super::rule(&text) {
                prop_assert!(error.at.end <= text.len() && !error.to_string().is_empty());
            }
        }
    }
}
