//! From text to a tree, by recursive descent.

use std::time::Duration;

use super::error::meant;
use super::lexer::{Placed, Token, tokens};
use super::{Arguments, Kind, Node, Rate, Stage, SyntaxError, Value};
use crate::catalog::{self, Entry};
use crate::load::Op;

/// Parentheses in parentheses: so that a text cannot use up the stack.
const DEPTH_MAX: usize = 64;
const KEYWORDS: [&str; 2] = ["then", "in"];

pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut parser = Parser { text, tokens: tokens(text)?, at: 0, depth: 0, within: None };
    let node = parser.expression()?;
    match parser.peek() {
        None => Ok(node),
        Some(Token::Close) => Err(parser.wrong("this parenthesis was never opened")),
        Some(_) => Err(parser.wrong("`then`, `+`, `x` or `in` is missing before this")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Placed>,
    at: usize,
    depth: usize,
    /// The operation whose parentheses these are.
    within: Option<Op>,
}

impl Parser<'_> {
    fn expression(&mut self) -> Result<Node, SyntaxError> {
        let mut node = self.sum()?;
        while self.take_word("then") {
            node = Node::Then(Box::new(node), Box::new(self.sum()?));
        }
        Ok(node)
    }

    fn sum(&mut self) -> Result<Node, SyntaxError> {
        let mut node = self.scaled()?;
        while self.take(&Token::Plus) {
            node = Node::Plus(Box::new(node), Box::new(self.scaled()?));
        }
        Ok(node)
    }

    fn scaled(&mut self) -> Result<Node, SyntaxError> {
        let mut node = self.part()?;
        loop {
            if self.take(&Token::Times) {
                let factor = match self.peek() {
                    Some(Token::Number(factor) | Token::Multiple(factor)) => *factor,
                    _ => return Err(self.wrong("a factor such as `2.5` is expected after `x`")),
                };
                self.at += 1;
                node = Node::Times(Box::new(node), factor);
            } else if self.take_word("in") {
                let Some(Token::Duration(duration)) = self.peek().cloned() else {
                    return Err(self.wrong("a time such as `60s` is expected after `in`"));
                };
                if duration.is_zero() {
                    return Err(self.wrong("nothing can be played in no time"));
                }
                self.at += 1;
                node = Node::In(Box::new(node), duration);
            } else {
                return Ok(node);
            }
        }
    }

    fn part(&mut self) -> Result<Node, SyntaxError> {
        match self.peek().cloned() {
            Some(Token::Open) => self.in_parentheses(None),
            Some(Token::Duration(_)) => self.stages(),
            Some(Token::Word(word)) if !KEYWORDS.contains(&word.as_str()) => self.named(&word),
            Some(Token::Number(_)) => {
                Err(self.wrong("a stage begins with a time: `30s@50` is 50 a second for 30 s"))
            }
            _ => Err(self.wrong("a profile's name, a stage such as `30s@50`, or `(` is expected here")),
        }
    }

    fn in_parentheses(&mut self, op: Option<Op>) -> Result<Node, SyntaxError> {
        let opened = self.at;
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong_at(opened, "too many parentheses in each other"));
        }
        let outer = self.within;
        self.within = op.or(outer);
        let node = self.expression()?;
        self.within = outer;
        self.depth -= 1;
        match self.peek() {
            Some(Token::Close) => self.at += 1,
            None => return Err(self.wrong_at(opened, "this parenthesis is never closed")),
            Some(_) => return Err(self.wrong("`)`, `then`, `+`, `x` or `in` is expected here")),
        }
        Ok(node)
    }

    fn stages(&mut self) -> Result<Node, SyntaxError> {
        let mut stages = vec![self.stage()?];
        while self.peek() == Some(&Token::Comma) {
            self.at += 1;
            stages.push(self.stage()?);
        }
        Ok(Node::Stages(stages))
    }

    fn stage(&mut self) -> Result<Stage, SyntaxError> {
        let Some(Token::Duration(length)) = self.peek().cloned() else {
            return Err(self.wrong("the next stage begins with a time, such as `1m@200`"));
        };
        if length.is_zero() {
            return Err(self.wrong("a stage must take some time"));
        }
        self.at += 1;
        if !self.take(&Token::At) {
            return Err(self.wrong("`@` and a rate are expected after a time: `30s@50`"));
        }
        let from = self.rate()?;
        let to = if self.take(&Token::Range) { self.rate()? } else { from };
        Ok(Stage { length, from, to })
    }

    fn rate(&mut self) -> Result<Rate, SyntaxError> {
        let rate = match self.peek() {
            Some(Token::Number(per_s)) => Rate::PerSecond(*per_s),
            Some(Token::Multiple(times)) => Rate::Multiple(*times),
            _ => return Err(self.wrong("a rate is expected here: `50` a second, or `20x` the base rate")),
        };
        self.at += 1;
        self.take(&Token::PerSecond);
        Ok(rate)
    }

    fn named(&mut self, word: &str) -> Result<Node, SyntaxError> {
        let at = self.at;
        // A profile may be called as an operation is: `flap` is one, and `flap(1m@2x)` the other.
        let profile = catalog::find(word);
        let op = Op::parse(word).filter(|_| profile.is_none() || self.opens_an_expression());
        self.at += 1;
        if let Some(op) = op {
            if self.peek() != Some(&Token::Open) {
                return Err(self.wrong_at(
                    at,
                    format!("`{word}` is an operation: say how much, such as `{word}(30s@50)`"),
                ));
            }
            if self.within.is_some() {
                return Err(self.wrong_at(at, "an operation cannot be made of another one"));
            }
            return Ok(Node::Of(op, Box::new(self.in_parentheses(Some(op))?)));
        }
        let Some(entry) = profile else { return Err(self.unknown(at, word)) };
        if let (Some(op), false) = (self.within, entry.is_shape()) {
            let what = format!("`{word}` says what each operation does, so it cannot be made one of `{op}`");
            return Err(self.wrong_at(at, what));
        }
        let arguments =
            if self.peek() == Some(&Token::Open) { self.arguments(entry)? } else { Arguments::default() };
        if entry.is_scene() && self.tokens.len() > 1 {
            let what = format!("`{word}` brings a world of its own, and cannot be combined or changed");
            return Err(self.wrong_at(at, what));
        }
        Ok(Node::Profile(entry, arguments))
    }

    /// Whether what follows the word here is in parentheses and not a list of arguments.
    fn opens_an_expression(&self) -> bool {
        let token = |ahead: usize| self.tokens.get(self.at + ahead).map(|placed| &placed.token);
        token(1) == Some(&Token::Open) && token(2) != Some(&Token::Close) && token(3) != Some(&Token::Equals)
    }

    fn unknown(&self, at: usize, word: &str) -> SyntaxError {
        let known = catalog::ENTRIES.iter().map(|entry| entry.name).chain(Op::ALL.map(Op::name));
        let what = match meant(word, known.chain(KEYWORDS)) {
            Some(name) => format!("there is no profile `{word}`; do you mean `{name}`?"),
            None => format!("there is no profile `{word}`; `surge profiles` lists them"),
        };
        self.wrong_at(at, what)
    }

    fn arguments(&mut self, entry: &'static Entry) -> Result<Arguments, SyntaxError> {
        let opened = self.at;
        let mut arguments = Arguments::default();
        self.at += 1;
        while !self.take(&Token::Close) {
            let at = self.at;
            let Some(Token::Word(name)) = self.peek().cloned() else {
                return Err(match self.peek() {
                    None => self.wrong_at(opened, "this parenthesis is never closed"),
                    Some(_) => {
                        self.wrong(format!("a parameter such as `{}` is expected here", example(entry)))
                    }
                });
            };
            let Some(parameter) = entry.parameters.iter().find(|parameter| parameter.name == name) else {
                let known = entry.parameters.iter().map(|parameter| parameter.name);
                let what = match (meant(&name, known.clone()), known.collect::<Vec<_>>().as_slice()) {
                    (Some(meant), _) => {
                        format!("`{}` has no parameter `{name}`; do you mean `{meant}`?", entry.name)
                    }
                    (None, []) => format!("`{}` has no parameters", entry.name),
                    (None, all) => {
                        format!("`{}` has no parameter `{name}`; it has {}", entry.name, all.join(", "))
                    }
                };
                return Err(self.wrong_at(at, what));
            };
            self.at += 1;
            if !self.take(&Token::Equals) {
                return Err(self.wrong(format!("`=` is expected after `{name}`")));
            }
            let kind = parameter.default.kind();
            let value = self.value(kind).ok_or_else(|| self.wrong(format!("`{name}` is {kind}")))?;
            if let Some(why) = parameter.refuses(value) {
                return Err(self.wrong(format!("`{name}` {why}")));
            }
            self.at += 1;
            if !arguments.set(parameter.name, value) {
                return Err(self.wrong_at(at, format!("`{name}` was given before")));
            }
            if !self.take(&Token::Comma) && self.peek() != Some(&Token::Close) {
                return Err(match self.peek() {
                    None => self.wrong_at(opened, "this parenthesis is never closed"),
                    Some(_) => self.wrong("`,` or `)` is expected here"),
                });
            }
        }
        Ok(arguments)
    }

    /// Of the token here, if it is of that kind.
    fn value(&self, kind: Kind) -> Option<Value> {
        match (kind, self.peek()?) {
            (Kind::Duration, Token::Duration(duration)) => Some(Value::Duration(*duration)),
            (Kind::Multiple, Token::Multiple(times) | Token::Number(times)) => Some(Value::Multiple(*times)),
            (Kind::Share, Token::Percent(share)) => Some(Value::Share(*share)),
            (Kind::Share, Token::Number(share)) => Some(Value::Share(*share)),
            (Kind::Count, Token::Number(count)) if count.fract() == 0.0 => Some(Value::Count(*count)),
            _ => None,
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|placed| &placed.token)
    }

    fn take(&mut self, token: &Token) -> bool {
        let is_there = self.peek() == Some(token);
        self.at += usize::from(is_there);
        is_there
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_there = matches!(self.peek(), Some(Token::Word(here)) if here == word);
        self.at += usize::from(is_there);
        is_there
    }

    fn wrong(&self, what: impl Into<String>) -> SyntaxError {
        self.wrong_at(self.at, what)
    }

    fn wrong_at(&self, token: usize, what: impl Into<String>) -> SyntaxError {
        match self.tokens.get(token) {
            Some(placed) => SyntaxError::new(self.text, placed.at, placed.length, what),
            None => SyntaxError::new(self.text, self.text.len(), 0, what),
        }
    }
}

fn example(entry: &Entry) -> String {
    let first = entry.parameters.first();
    first.map_or_else(|| ")".to_owned(), |parameter| format!("{}={}", parameter.name, parameter.default))
}

/// A time as the language has it, such as `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, SyntaxError> {
    match tokens(text)?.as_slice() {
        [Placed { token: Token::Duration(duration), .. }] => Ok(*duration),
        _ => Err(SyntaxError::new(text, 0, text.len(), "a time such as `10s` or `1h30m` is expected")),
    }
}
