//! Words, numbers and signs, with their places.

use std::time::Duration;

use super::SyntaxError;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name or a keyword, in small letters.
    Word(String),
    Number(f64),
    /// `2.5x`
    Multiple(f64),
    /// `30%`, as a share
    Percent(f64),
    Duration(Duration),
    Open,
    Close,
    Comma,
    At,
    Equals,
    Plus,
    /// `x`, `×` or `*`
    Times,
    Range,
    PerSecond,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) at: usize,
    pub(super) length: usize,
}

/// Seconds of the units.
const UNITS: [(&str, f64); 5] = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0)];
/// A century: so that sums of durations stay far from their limits.
const SECONDS_MAX: f64 = 3.2e9;

pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        if first.is_whitespace() {
            rest = rest.trim_start();
            continue;
        }
        let (token, length) = next(text, at, rest, first)?;
        tokens.push(Placed { token, at, length });
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(tokens)
}

fn next(text: &str, at: usize, rest: &str, first: char) -> Result<(Token, usize), SyntaxError> {
    let sign = match first {
        '(' => Some(Token::Open),
        ')' => Some(Token::Close),
        ',' => Some(Token::Comma),
        '@' => Some(Token::At),
        '=' => Some(Token::Equals),
        '+' => Some(Token::Plus),
        '×' | '*' => Some(Token::Times),
        _ => None,
    };
    if let Some(token) = sign {
        return Ok((token, first.len_utf8()));
    }
    if rest.starts_with("..") {
        return Ok((Token::Range, 2));
    }
    if rest.starts_with("/s") {
        return Ok((Token::PerSecond, 2));
    }
    if first.is_ascii_digit() {
        return number(text, at, rest);
    }
    if first.is_alphabetic() {
        return Ok(word(rest));
    }
    Err(SyntaxError::new(text, at, first.len_utf8(), format!("`{first}` means nothing here")))
}

fn word(rest: &str) -> (Token, usize) {
    let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_')).unwrap_or(rest.len());
    let word = rest.get(..length).unwrap_or_default().to_lowercase().replace('_', "-");
    // `x2` is a factor; no profile is called so.
    if let Some(after) = word.strip_prefix('x')
        && (after.is_empty() || after.starts_with(|c: char| c.is_ascii_digit()))
    {
        return (Token::Times, 1);
    }
    (Token::Word(word), length)
}

/// `1h30m`, `2.5x`, `30%` or a mere number.
fn number(text: &str, at: usize, rest: &str) -> Result<(Token, usize), SyntaxError> {
    let (value, mut length) = digits(text, at, rest)?;
    let unit_of = |from: usize| {
        let after = rest.get(from..).unwrap_or_default();
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        after.get(..letters).unwrap_or_default()
    };
    let unit = unit_of(length);
    if unit.is_empty() {
        let is_percent = rest.get(length..).is_some_and(|after| after.starts_with('%'));
        let token = if is_percent { Token::Percent(value / 100.0) } else { Token::Number(value) };
        return Ok((token, length + usize::from(is_percent)));
    }
    if ["x", "X", "×"].contains(&unit) {
        return Ok((Token::Multiple(value), length + unit.len()));
    }
    let mut seconds = 0.0;
    let (mut value, mut unit) = (value, unit);
    loop {
        let Some((_, of_one)) = UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name)) else {
            let what = format!("`{unit}` is no unit: ms, s, m, h and d are, and x is a multiple");
            return Err(SyntaxError::new(text, at + length, unit.len(), what));
        };
        seconds += value * of_one;
        length += unit.len();
        let after = rest.get(length..).unwrap_or_default();
        if !after.starts_with(|c: char| c.is_ascii_digit()) {
            break;
        }
        let (more, more_length) = digits(text, at + length, after)?;
        length += more_length;
        (value, unit) = (more, unit_of(length));
    }
    if seconds > SECONDS_MAX {
        return Err(SyntaxError::new(text, at, length, "that is longer than a century"));
    }
    Ok((Token::Duration(Duration::from_secs_f64(seconds)), length))
}

fn digits(text: &str, at: usize, rest: &str) -> Result<(f64, usize), SyntaxError> {
    let mut length = 0;
    let bytes = rest.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    while digit(length) || bytes.get(length) == Some(&b'_') {
        length += 1;
    }
    // `1..2` is a range and not a number with a point.
    if bytes.get(length) == Some(&b'.') && digit(length + 1) {
        length += 1;
        while digit(length) {
            length += 1;
        }
    }
    let number = rest.get(..length).unwrap_or_default().replace('_', "");
    let value = number.parse().ok().filter(|value: &f64| value.is_finite());
    value.map(|value| (value, length)).ok_or_else(|| SyntaxError::new(text, at, length, "this is no number"))
}
