/// A metric, and what is asked of its labels.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) name: String,
    pub(crate) matchers: Vec<Matcher>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Matcher {
    pub(crate) label: String,
    pub(crate) value: String,
}

impl Matcher {
    /// The values that it names: itself, or the branches of an expression like `ok|cancelled`. Nothing of what is no list.
    pub(crate) fn literals(&self) -> Vec<&str> {
        let is_plain = |value: &str| {
            !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
        };
        let branches: Vec<&str> = self.value.split('|').collect();
        if branches.iter().all(|branch| is_plain(branch)) { branches } else { Vec::new() }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

/// What an expression reads of Spillway: metrics of the service and of its process, and what rules have recorded.
pub(crate) fn selectors(expression: &str) -> Vec<Selector> {
    let mut tokens = tokens(expression).into_iter().peekable();
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        let Token::Word(name) = token else { continue };
        if !["spillway_", "spillway:", "process_"].iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let mut matchers = Vec::new();
        if tokens.next_if_eq(&Token::Mark('{')).is_some() {
            let mut label = String::new();
            for token in tokens.by_ref() {
                match token {
                    Token::Mark('}') => break,
                    Token::Word(word) => label = word,
                    Token::Text(value) => matchers.push(Matcher { label: label.clone(), value }),
                    Token::Mark(_) => {}
                }
            }
        }
        found.push(Selector { name, matchers });
    }
    found
}

fn tokens(expression: &str) -> Vec<Token> {
    let is_word = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let mut chars = expression.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(first) = chars.next() {
        if matches!(first, '"' | '\'') {
            // No expression of ours has a quote within quotes.
            tokens.push(Token::Text(chars.by_ref().take_while(|c| *c != first).collect()));
        } else if is_word(&first) {
            let mut word = String::from(first);
            while let Some(next) = chars.next_if(is_word) {
                word.push(next);
            }
            tokens.push(Token::Word(word));
        } else if !first.is_whitespace() {
            tokens.push(Token::Mark(first));
        }
    }
    tokens
}

#[test]
fn names_and_matchers_are_found() {
    let expression = r#"histogram_quantile(0.99, sum by (le) (rate(spillway_a_bucket{x="1", y=~"ok|no", z!~"v.*"}[5m])))
        / on (slo) (process_b > 0) and spillway:c:ratio"#;
    let found = selectors(expression);
    let names: Vec<_> = found.iter().map(|selector| selector.name.as_str()).collect();
    assert_eq!(names, ["spillway_a_bucket", "process_b", "spillway:c:ratio"]);
    let matchers = &found.first().unwrap().matchers;
    let labels: Vec<_> =
        matchers.iter().map(|matcher| (matcher.label.as_str(), matcher.literals())).collect();
    assert_eq!(labels, [("x", vec!["1"]), ("y", vec!["ok", "no"]), ("z", vec![])]);
}
