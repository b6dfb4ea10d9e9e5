//! From a tree and base rates to a load.

use super::{Expression, Node, Rate, Stage};
use crate::curve::{Curve, CurveError};
use crate::load::{BaseRates, Load, Op};

/// Why an expression that was well written makes no load.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    #[error("the load makes no curve")]
    Curve(#[from] CurveError),
}

impl Expression {
    /// What it is at these base rates.
    ///
    /// # Errors
    ///
    /// When a rate is too high to be a number.
    pub fn load(&self, rates: &BaseRates) -> Result<Load, LoadError> {
        self.node.load(rates, Op::SignUp)
    }
}

impl Node {
    fn load(&self, rates: &BaseRates, op: Op) -> Result<Load, LoadError> {
        Ok(match self {
            Node::Stages(stages) => Load::one(op, curve(stages, rates.of(op))?),
            Node::Profile(entry, arguments) => entry.load(arguments, rates, op)?,
            Node::Of(op, inner) => inner.load(rates, *op)?,
            Node::Then(first, next) => first.load(rates, op)?.then(&next.load(rates, op)?),
            Node::Plus(a, b) => a.load(rates, op)?.plus(&b.load(rates, op)?),
            Node::Times(inner, factor) => inner.load(rates, op)?.times(*factor)?,
            Node::In(inner, duration) => inner.load(rates, op)?.within(*duration)?,
        })
    }
}

fn curve(stages: &[Stage], base: f64) -> Result<Curve, CurveError> {
    let per_s = |rate| match rate {
        Rate::PerSecond(per_s) => per_s,
        Rate::Multiple(times) => times * base,
    };
    stages.iter().try_fold(Curve::default(), |curve, stage| {
        curve.then_ramp(per_s(stage.from), per_s(stage.to), stage.length)
    })
}
