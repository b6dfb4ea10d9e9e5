//! The library of named profiles: what each plays, why, and how well that is known.

mod entries;
mod shapes;
mod surges;

use std::time::Duration;

pub use entries::ENTRIES;

use crate::curve::{Curve, CurveError};
use crate::language::{Arguments, Value};
use crate::load::{BaseRates, Load, Op};

/// A profile with a name.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    /// One sentence.
    pub purpose: &'static str,
    pub evidence: &'static [Evidence],
    pub parameters: &'static [Parameter],
    /// Of the sign-ups that a machine can take, how many the highest second has when nobody says.
    pub share_of_capacity: f64,
    /// Hours and days that are played in a minute when nobody says.
    pub compressed: bool,
    pub(crate) plays: Plays,
}

/// Something that is known, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    pub grade: Grade,
    pub says: &'static str,
    pub source: &'static str,
}

/// How well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// The source states it.
    Stated,
    /// Arithmetic on what sources state.
    Derived,
    /// Chosen for this tool.
    Assumed,
}

/// Something about a profile that can be changed.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub default: Value,
    pub says: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Plays {
    /// One curve, of sign-ups unless another operation is named around it.
    Shape(fn(&Values<'_>, f64) -> Result<Curve, CurveError>),
    /// Curves for operations, and how people behave.
    Surge(fn(&Values<'_>, &BaseRates) -> Result<Load, CurveError>),
    /// More than a load: see [`crate::profile::Profile`].
    Scene,
}

/// The arguments of a profile, with defaults for what was not given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    arguments: &'a Arguments,
    parameters: &'static [Parameter],
}

/// By name; underscores are hyphens.
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = name.to_lowercase().replace('_', "-");
    ENTRIES.iter().find(|entry| entry.name == name)
}

impl Entry {
    pub(crate) const fn is_shape(&self) -> bool {
        matches!(self.plays, Plays::Shape(_))
    }

    pub(crate) const fn is_scene(&self) -> bool {
        matches!(self.plays, Plays::Scene)
    }

    pub(crate) fn load(&self, arguments: &Arguments, rates: &BaseRates, op: Op) -> Result<Load, CurveError> {
        let values = Values { arguments, parameters: self.parameters };
        match self.plays {
            Plays::Shape(shape) => Ok(Load::one(op, shape(&values, rates.of(op))?)),
            Plays::Surge(surge) => surge(&values, rates),
            // Who comes is decided where it is played.
            Plays::Scene => Ok(Load::default()),
        }
    }
}

impl Parameter {
    /// Why a value of the right kind is none all the same.
    pub(crate) fn refuses(&self, value: Value) -> Option<&'static str> {
        match value {
            Value::Share(share) if share > 1.0 => Some("is at most 100%"),
            Value::Share(share) if share <= 0.0 => Some("is more than 0%"),
            Value::Duration(duration) if duration.is_zero() => Some("must take some time"),
            Value::Count(count) if count < 1.0 && self.default.number() >= 1.0 => Some("is at least 1"),
            Value::Count(count) if count > 1e6 => Some("is at most a million"),
            _ => None,
        }
    }
}

impl Values<'_> {
    fn number(&self, name: &str) -> f64 {
        let default = || self.parameters.iter().find(|parameter| parameter.name == name).map(|p| p.default);
        self.arguments.get(name).or_else(default).map_or(0.0, Value::number)
    }

    fn time(&self, name: &str) -> Duration {
        Duration::from_secs_f64(self.number(name))
    }
}

#[cfg(test)]
mod tests;
