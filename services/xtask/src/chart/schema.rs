//! `values.schema.json`, so that a mistyped value is an error of `helm install` and not a setting that does nothing.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::values::{Entry, Section};

pub(super) fn of(sections: &[Section]) -> Result<String> {
    let mut properties = object(sections.iter().flat_map(|section| &section.entries));
    // What a chart above this one gives to all of its charts.
    properties.insert("global".to_owned(), json!({"type": "object"}));
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Made from values.yaml by `cargo xtask chart docs`.",
        "title": "Values of the chart spillway",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&schema)?))
}

fn object<'a>(entries: impl Iterator<Item = &'a Entry>) -> Map<String, Value> {
    entries.map(|entry| (entry.key.clone(), property(entry))).collect()
}

fn property(entry: &Entry) -> Value {
    let added = entry.schema.as_ref().and_then(Value::as_object);
    let mut schema = Map::new();
    let has = |key: &str| added.is_some_and(|added| added.contains_key(key));
    // Whoever refers to another schema, or lists what is allowed, has said what it is.
    if !has("$ref") && !has("enum") {
        schema.insert("type".to_owned(), json!(kind(&entry.default)));
    }
    if entry.default.is_object() && !has("$ref") && !has("additionalProperties") && !entry.entries.is_empty()
    {
        schema.insert("properties".to_owned(), Value::Object(object(entry.entries.iter())));
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    if !entry.about.is_empty() && !has("$ref") {
        schema.insert("description".to_owned(), json!(entry.about));
    }
    schema.extend(added.cloned().unwrap_or_default());
    Value::Object(schema)
}

fn kind(default: &Value) -> &'static str {
    match default {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::parse;
    use super::*;

    #[test]
    fn types_follow_from_defaults_and_annotations_add() {
        let text = "# == A\n# Why.\na: 1\nb:\n  c: x\nd: {}\n# @schema {\"enum\": [\"u\", \"v\"]}\ne: u\n# @schema {\"$ref\": \"#/properties/b\"}\nf:\n  c: y\n# @schema {\"type\": [\"integer\", \"string\"]}\ng: 1\n";
        let schema: Value = serde_json::from_str(&of(&parse(text).unwrap()).unwrap()).unwrap();
        let properties = &schema["properties"];
        assert_eq!(properties["a"], json!({"type": "integer", "description": "Why."}));
        assert_eq!(properties["b"]["additionalProperties"], json!(false));
        assert_eq!(properties["d"], json!({"type": "object"}));
        assert_eq!(properties["e"], json!({"enum": ["u", "v"]}));
        assert_eq!(properties["f"], json!({"$ref": "#/properties/b"}));
        assert_eq!(properties["g"], json!({"type": ["integer", "string"]}));
        assert_eq!(schema["additionalProperties"], json!(false));
    }
}
