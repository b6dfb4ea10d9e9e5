//! YAML as JSON values: what charts, custom resources and rules are written in. Aliases are refused, because none of those has any.

use std::iter::Peekable;

use anyhow::{Context, Result, bail};
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

type Events<'a> = Peekable<Parser<'a, StrInput<'a>>>;

/// The documents of a text; empty ones are left out.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>> {
    let mut events: Events<'_> = Parser::new_from_str(text).peekable();
    let mut documents = Vec::new();
    while let Some(event) = events.next() {
        if let (Event::DocumentStart(_), _) = event.context("this is not YAML")? {
            let document = value(&mut events)?;
            if !document.is_null() {
                documents.push(document);
            }
        }
    }
    Ok(documents)
}

/// The only document of a text.
pub(crate) fn document(text: &str) -> Result<Value> {
    let mut documents = documents(text)?;
    match documents.len() {
        1 => Ok(documents.remove(0)),
        count => bail!("one document was expected, not {count}"),
    }
}

/// A mapping with the line, from 1, that each key stands on.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) value: Value,
    /// Of a mapping in block style or not.
    pub(crate) entries: Vec<Entry>,
}

/// The entries of the one mapping that a text is.
pub(crate) fn entries(text: &str) -> Result<Vec<Entry>> {
    let mut events: Events<'_> = Parser::new_from_str(text).peekable();
    while let Some(event) = events.next() {
        if let (Event::MappingStart(..), _) = event.context("this is not YAML")? {
            return mapping(&mut events);
        }
    }
    bail!("a mapping was expected")
}

fn mapping(events: &mut Events<'_>) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    loop {
        let (event, span) = events.next().context("the text ends within a mapping")??;
        let key = match event {
            Event::MappingEnd => return Ok(entries),
            Event::Scalar(text, ..) => text.into_owned(),
            other => bail!("line {}: a key must be text, not {other:?}", span.start.line()),
        };
        let line = span.start.line();
        let is_mapping = matches!(events.peek(), Some(Ok((Event::MappingStart(..), _))));
        if is_mapping {
            events.next();
            let inner = mapping(events)?;
            let value = inner.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
            entries.push(Entry { key, line, value: Value::Object(value), entries: inner });
        } else {
            entries.push(Entry { key, line, value: value(events)?, entries: Vec::new() });
        }
    }
}

fn value(events: &mut Events<'_>) -> Result<Value> {
    let (event, span) = events.next().context("the text ends too early")??;
    Ok(match event {
        Event::Scalar(text, style, _, tag) => match (style, tag) {
            (ScalarStyle::Plain, None) => plain(&text),
            _ => Value::String(text.into_owned()),
        },
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            while !matches!(events.peek(), Some(Ok((Event::SequenceEnd, _)))) {
                items.push(value(events)?);
            }
            events.next();
            Value::Array(items)
        }
        Event::MappingStart(..) => {
            let map: Map<_, _> = mapping(events)?.into_iter().map(|entry| (entry.key, entry.value)).collect();
            Value::Object(map)
        }
        other => bail!("line {}: {other:?} cannot be read here", span.start.line()),
    })
}

/// What a scalar without quotes means (YAML 1.2, core schema).
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => number(text).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    if let Ok(integer) = text.parse::<i64>() {
        return Some(Value::from(integer));
    }
    // Rust reads `inf` and `nan` too, which are words here.
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    let float = text.parse::<f64>().ok().filter(|_| is_number)?;
    serde_json::Number::from_f64(float).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_what_the_core_schema_says() {
        let text = "a: 1\nb: 1.5\nc: \"1\"\nd: ~\ne: yes\nf: 10%\ng: [true, {h: -1}]\nh: |\n  x\n  y\n";
        let expected = json!({
            "a": 1, "b": 1.5, "c": "1", "d": null, "e": "yes", "f": "10%", "g": [true, {"h": -1}], "h": "x\ny\n"
        });
        assert_eq!(document(text).unwrap(), expected);
    }

    #[test]
    fn several_documents_and_empty_ones() {
        assert_eq!(
            documents("---\n# nothing\n---\na: 1\n---\nb: 2\n").unwrap(),
            [json!({"a": 1}), json!({"b": 2})]
        );
        assert!(document("a: 1\n---\nb: 2\n").is_err());
        assert!(documents("a: [1").is_err());
    }

    #[test]
    fn keys_know_their_lines() {
        let entries = entries("# first\n\na:\n  b: 1\nc: {d: 2}\n").unwrap();
        let lines: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.line)).collect();
        assert_eq!(lines, [("a", 3), ("c", 5)]);
        assert_eq!(entries[0].entries[0].line, 4);
        assert_eq!(entries[1].value, json!({"d": 2}));
    }
}
