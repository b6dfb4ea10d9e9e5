//! Rules with windows and waits that are sixty times as short.

/// Two scrapes at least, of which there is one a second.
const LEAST_SECONDS: u64 = 4;
const FACTOR: u64 = 60;

/// `[5m]` becomes `[5s]`, `offset 10m` `offset 10s`, `for: 1h` `for: 60s`, `interval: 30s` `interval: 1s`. What is compared with a time in seconds stays.
pub(super) fn rules(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    for line in text.lines() {
        let (indent, trimmed) = line.split_at(line.len() - line.trim_start().len());
        short.push_str(indent);
        if let Some(wait) = trimmed.strip_prefix("for: ").and_then(seconds) {
            short.push_str(&format!("for: {}s", (wait / FACTOR).max(1)));
        } else if trimmed.starts_with("interval: ") {
            short.push_str("interval: 1s");
        } else if trimmed.starts_with('#') {
            short.push_str(trimmed);
        } else {
            short.push_str(&windows(trimmed));
        }
        short.push('\n');
    }
    short
}

/// An expression.
pub(super) fn windows(expression: &str) -> String {
    let mut short = String::new();
    let mut rest = expression;
    while let Some(at) =
        [rest.find('['), rest.find("offset ").map(|at| at + "offset".len())].into_iter().flatten().min()
    {
        let (before, after) = rest.split_at(at + 1);
        short.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
        let (duration, after) = after.split_at(end);
        match seconds(duration) {
            Some(seconds) => short.push_str(&format!("{}s", (seconds / FACTOR).max(LEAST_SECONDS))),
            None => short.push_str(duration),
        }
        rest = after;
    }
    short + rest
}

/// `5m`, `1h`, `30s`, `3d`.
fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_waits_and_intervals_are_shortened_and_nothing_else() {
        let long = "  - name: a\n    interval: 30s\n      # [5m]\n      - alert: A\n        expr: |-\n          \
            sum(rate(x_total{code=~\"[a]\"}[5m])) / avg_over_time(y[6h] offset 10m) > 60 and z < 2 * 86400\n        for: 10m\n";
        let short = "  - name: a\n    interval: 1s\n      # [5m]\n      - alert: A\n        expr: |-\n          \
            sum(rate(x_total{code=~\"[a]\"}[5s])) / avg_over_time(y[360s] offset 10s) > 60 and z < 2 * 86400\n        for: 10s\n";
        assert_eq!(rules(long), short);
        assert_eq!(windows("rate(a[1m])"), "rate(a[4s])");
    }
}
