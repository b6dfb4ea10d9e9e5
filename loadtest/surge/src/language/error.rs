//! Errors that point.

use std::fmt;

/// What is wrong with a text, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    text: String,
    /// In bytes, at the beginning of a character or at the end of the text.
    at: usize,
    /// In bytes; 0 at the end of the text.
    length: usize,
    what: String,
}

impl SyntaxError {
    pub(super) fn new(text: &str, at: usize, length: usize, what: impl Into<String>) -> Self {
        Self { text: text.to_owned(), at, length, what: what.into() }
    }

    /// Where it is, in characters from 1.
    pub fn column(&self) -> usize {
        self.text.get(..self.at).map_or(0, |before| before.chars().count()) + 1
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marked = self.text.get(self.at..self.at + self.length).map_or(0, |part| part.chars().count());
        writeln!(f, "{}", self.what)?;
        writeln!(f, "  {}", self.text.replace(['\n', '\t'], " "))?;
        write!(f, "  {}{}", " ".repeat(self.column() - 1), "^".repeat(marked.max(1)))
    }
}

impl std::error::Error for SyntaxError {}

/// The one of `known` that was probably meant.
pub(crate) fn meant<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&written, name), name))
        // A third of the letters: `spik`, `refuges` and `rollingrestart` are recognised, `foo` is nothing.
        .filter(|(distance, name)| distance * 3 <= name.len().max(3))
        .min()
        .map(|(_, name)| name)
}
