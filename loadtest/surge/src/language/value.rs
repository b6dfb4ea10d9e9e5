//! Arguments of profiles.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a parameter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Duration,
    /// Of a base rate.
    Multiple,
    Share,
    Count,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Duration(Duration),
    Multiple(f64),
    Share(f64),
    Count(f64),
}

/// By the parameter's name; what was not given has its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments(BTreeMap<&'static str, Value>);

impl Arguments {
    pub(super) fn set(&mut self, name: &'static str, value: Value) -> bool {
        self.0.insert(name, value).is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Value> {
        self.0.get(name).copied()
    }
}

impl Value {
    pub const fn kind(self) -> Kind {
        match self {
            Value::Duration(_) => Kind::Duration,
            Value::Multiple(_) => Kind::Multiple,
            Value::Share(_) => Kind::Share,
            Value::Count(_) => Kind::Count,
        }
    }

    pub const fn number(self) -> f64 {
        match self {
            Value::Duration(duration) => duration.as_secs_f64(),
            Value::Multiple(number) | Value::Share(number) | Value::Count(number) => number,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Duration => "a time such as `10s`",
            Kind::Multiple => "a multiple of the base rate such as `20x`",
            Kind::Share => "a share such as `30%`",
            Kind::Count => "a number such as `5`",
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Duration(duration) => f.write_str(&in_words(*duration)),
            Value::Multiple(times) => write!(f, "{times}x"),
            Value::Share(share) => write!(f, "{}%", share * 100.0),
            Value::Count(count) => write!(f, "{count}"),
        }
    }
}

/// As the language has it: `1h30m`.
pub(crate) fn in_words(duration: Duration) -> String {
    let (whole, millis) = (duration.as_secs(), duration.subsec_millis());
    let parts = [(whole / 86_400, "d"), (whole / 3_600 % 24, "h"), (whole / 60 % 60, "m"), (whole % 60, "s")];
    let mut text: String =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if millis > 0 {
        text.push_str(&format!("{millis}ms"));
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
