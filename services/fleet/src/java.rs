//! Which Java is here: Cassandra 5.0 runs on 11 and 17, and does not start on later ones.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// From Cassandra's own check at its start; what lies between is accepted by it with a warning.
pub(crate) const SUPPORTED: RangeInclusive<u32> = 11..=17;

/// The one of `JAVA_HOME`, or else the one on the path.
pub(crate) fn program() -> PathBuf {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    home.filter(|java| java.exists()).unwrap_or_else(|| "java".into())
}

/// The feature version in what `java -version` writes: 17 of `openjdk version "17.0.15" 2025-04-15`, 8 of `"1.8.0_402"`.
pub(crate) fn version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    let mut numbers = quoted.split(|c: char| !c.is_ascii_digit());
    let first = numbers.next()?.parse().ok()?;
    if first == 1 { numbers.next()?.parse().ok() } else { Some(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_ages_are_read() {
        assert_eq!(version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(version("java version \"1.8.0_402\""), Some(8));
        assert_eq!(version("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(version("openjdk version \"25-ea\" 2025-09-16"), Some(25));
        assert_eq!(version("command not found"), None);
    }
}
