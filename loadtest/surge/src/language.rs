//! The small language in which loads are written: `refugees in 60s then spike(to=20x) + send(30s@50,1m@200)`.
//!
//! ```text
//! expression = sum { "then" sum }                        one after the other
//! sum        = scaled { "+" scaled }                     at the same time
//! scaled     = part { ("x" | "×" | "*") NUMBER           so many times as much
//!                   | "in" DURATION }                    the same rates in another time
//! part       = "(" expression ")" | stages | NAME [ "(" arguments ")" ] | OPERATION "(" expression ")"
//! stages     = stage { "," stage }
//! stage      = DURATION "@" RATE [ ".." RATE ]           a plateau, or a line from one rate to another
//! RATE       = NUMBER [ "/s" ] | NUMBER "x"              a second, or times the base rate
//! arguments  = NAME "=" VALUE { "," NAME "=" VALUE }
//! ```
//!
//! An expression is parsed once and becomes a load when base rates are known.

mod error;
mod evaluate;
mod lexer;
mod parser;
mod value;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use error::SyntaxError;
pub use evaluate::LoadError;
pub(crate) use parser::duration;
pub(crate) use value::in_words;
pub use value::{Arguments, Kind, Value};

use crate::catalog::Entry;
use crate::load::Op;

/// A load as it was written.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    node: Node,
}

#[derive(Clone, Debug)]
enum Node {
    Stages(Vec<Stage>),
    Profile(&'static Entry, Arguments),
    Of(Op, Box<Node>),
    Then(Box<Node>, Box<Node>),
    Plus(Box<Node>, Box<Node>),
    Times(Box<Node>, f64),
    In(Box<Node>, Duration),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Stage {
    length: Duration,
    from: Rate,
    to: Rate,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    PerSecond(f64),
    /// Times the base rate of the operation.
    Multiple(f64),
}

impl Expression {
    /// # Errors
    ///
    /// With the place in the text, what was expected there, and the name that was probably meant.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let node = parser::parse(text)?;
        Ok(Self { text: text.to_owned(), node })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The profile that this is, when it is one by name and nothing else.
    pub fn alone(&self) -> Option<&'static Entry> {
        match &self.node {
            Node::Profile(entry, arguments) if arguments.is_empty() => Some(entry),
            _ => None,
        }
    }

    /// Every profile in it.
    pub fn entries(&self) -> Vec<&'static Entry> {
        let mut entries = Vec::new();
        self.node.visit(&mut entries);
        entries
    }
}

impl Node {
    fn visit(&self, entries: &mut Vec<&'static Entry>) {
        match self {
            Node::Stages(_) => {}
            Node::Profile(entry, _) => entries.push(entry),
            Node::Of(_, inner) | Node::Times(inner, _) | Node::In(inner, _) => inner.visit(entries),
            Node::Then(a, b) | Node::Plus(a, b) => {
                a.visit(entries);
                b.visit(entries);
            }
        }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for Expression {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Self::parse(text)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
