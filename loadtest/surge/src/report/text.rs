//! Numbers and names as people read them.

/// Text that is safe in HTML content and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `182,004`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Three significant digits, grouped: `0.42`, `7.3`, `812`, `12,400`.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 99.95 {
        let rounded = count(size.round() as u64);
        return if value < 0.0 { format!("-{rounded}") } else { rounded };
    }
    let decimals = if size >= 9.995 { 1 } else { 2 };
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `0.42 ms`, `812 ms`, `12.4 s`
pub(crate) fn millis(ms: f64) -> String {
    if ms >= 10_000.0 { format!("{} s", number(ms / 1_000.0)) } else { format!("{} ms", number(ms)) }
}

pub(crate) fn maybe_millis(ms: Option<f64>) -> String {
    ms.map_or_else(|| "–".to_owned(), millis)
}

/// `99.987 %`, and never a rounded-up 100 %; `6.77 %`, where a thousandth says nothing.
pub(crate) fn percent(ratio: f64) -> String {
    let percent = if ratio < 1.0 { (ratio * 100_000.0).floor() / 1_000.0 } else { ratio * 100.0 };
    let decimals = if (1.0..90.0).contains(&percent.abs()) { 2 } else { 3 };
    let text = format!("{percent:.decimals$}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `250.60`, `1,234`: without a currency, because the run was not told which.
pub(super) fn money(amount: f64) -> String {
    if amount >= 999.995 { count(amount.round() as u64) } else { format!("{amount:.2}") }
}

pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", number(bytes as f64 / 1_048_576.0))
}

/// `sign_up` is read as `sign up`.
pub(super) fn words(name: &str) -> String {
    escape(&name.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 0.423, 7.0, 9.996, 42.36, 99.96, 1_234.5].map(number),
            ["0", "0.42", "7", "10", "42.4", "100", "1,235"]
        );
        assert_eq!([4.2, 12_400.0].map(millis), ["4.2 ms", "12.4 s"]);
        assert_eq!([0.0, 250.6, 12_345.6].map(money), ["0.00", "250.60", "12,346"]);
        assert_eq!([1.0, 0.999_996, 0.5].map(percent), ["100 %", "99.999 %", "50 %"]);
        assert_eq!([0.067_739, -0.094_16, 0.000_014].map(percent), ["6.77 %", "-9.42 %", "0.001 %"]);
    }
}
