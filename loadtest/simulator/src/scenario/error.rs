//! What is wrong with a scenario file, where, and what was probably meant.

/// Less alike than this, and a suggestion would be a guess.
const LIKENESS_MIN: f64 = 0.6;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    #[error("{origin}, line {line}: there is no {what} `{name}` here{}", advice(.suggestion.as_deref(), .valid))]
    Unknown {
        origin: String,
        line: usize,
        /// Key or value.
        what: &'static str,
        name: String,
        suggestion: Option<String>,
        valid: Vec<String>,
    },
    #[error("{origin}, line {line}: {message}")]
    Syntax { origin: String, line: usize, message: String },
    #[error("{origin}: `{key}` {message}")]
    Value { origin: String, key: String, message: String },
    #[error("no scenario is called `{name}`{}", advice(.suggestion.as_deref(), .valid))]
    NoSuchScenario { name: String, suggestion: Option<String>, valid: Vec<String> },
    #[error("no suite is called `{name}`{}", advice(.suggestion.as_deref(), .valid))]
    NoSuchSuite { name: String, suggestion: Option<String>, valid: Vec<String> },
}

impl ScenarioError {
    pub(super) fn from_toml(error: &toml::de::Error, text: &str, origin: &str) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let origin = origin.to_owned();
        let message = error.message();
        for (start, what) in [("unknown field ", "key"), ("unknown variant ", "value")] {
            let Some(rest) = message.strip_prefix(start) else { continue };
            // The odd pieces stand between backticks; the first is the unknown name.
            let mut names = rest.split('`').skip(1).step_by(2).map(str::to_owned);
            let name = names.next().unwrap_or_default();
            let valid: Vec<_> = names.collect();
            let suggestion = likest(&name, &valid);
            return Self::Unknown { origin, line, what, name, suggestion, valid };
        }
        Self::Syntax { origin, line, message: message.to_owned() }
    }
}

/// The name that was probably meant.
pub(crate) fn likest(name: &str, valid: &[String]) -> Option<String> {
    valid
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.clone())
}

fn advice(suggestion: Option<&str>, valid: &[String]) -> String {
    match (suggestion, valid) {
        (Some(suggestion), _) => format!("; did you mean `{suggestion}`?"),
        (None, []) => String::new(),
        (None, valid) => format!("; there are {}", valid.join(", ")),
    }
}
