//! After the tests: no code, credential or token that a test saw may stand in a log that a server wrote.
//!
//! Tests that start a server write its log into [`folder`] and add each secret they were given to `*.secrets` there,
//! one a line.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo;

pub(crate) fn folder() -> PathBuf {
    cargo::target().join("test-logs")
}

pub(crate) fn forget_last_run() -> Result<()> {
    match fs::remove_dir_all(folder()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context("cannot empty the log folder")
        }
        _ => fs::create_dir_all(folder()).context("cannot make the log folder"),
    }
}

pub(crate) fn check() -> Result<()> {
    let secrets = lines_of("secrets")?.into_iter().map(|(_, line)| line).collect::<HashSet<_>>();
    let logs = lines_of("log")?;
    if secrets.is_empty() || logs.is_empty() {
        bail!(
            "the tests left {} secrets and {} log lines: the search would prove nothing",
            secrets.len(),
            logs.len()
        );
    }
    let found: Vec<_> = logs.iter().filter(|(_, line)| leaks(line, &secrets)).collect();
    for (file, line) in found.iter().take(10) {
        eprintln!("{}: {line}", file.display());
    }
    if !found.is_empty() {
        bail!("{} log lines hold a code, credential or token", found.len());
    }
    eprintln!("\n=== secrets: none of {} in {} log lines", secrets.len(), logs.len());
    Ok(())
}

/// Words are compared whole, so that a six-digit code is not found inside a longer number.
fn leaks(line: &str, secrets: &HashSet<String>) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    without_time(line)
        .split(|c| !word(c))
        .flat_map(|run| std::iter::once(run).chain(run.split(['.', '-', '_', '+'])))
        .any(|candidate| secrets.contains(candidate))
}

/// Without the line's own timestamp, whose microseconds are six digits too.
fn without_time(line: &str) -> &str {
    let ours = line.strip_prefix(r#"{"timestamp":""#).unwrap_or(line).split_once('Z');
    // nats-server: `[7996] 2026/11/29 09:53:28.641331 [INF] text`.
    let of_nats = line.split_once("] ").and_then(|(_, text)| text.split_once(" ["));
    [ours, of_nats].into_iter().flatten().find(|(time, _)| is_time(time)).map_or(line, |(_, rest)| rest)
}

fn is_time(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || "-/:T. ".contains(c))
}

fn lines_of(extension: &str) -> Result<Vec<(PathBuf, String)>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder()).context("cannot read the log folder")? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            lines.extend(read(&path)?.lines().map(|line| (path.clone(), line.to_owned())));
        }
    }
    Ok(lines)
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_as_a_word_and_not_inside_a_number() {
        let secrets = HashSet::from(["123456".to_owned(), "abc.1.Zm9v-_x".to_owned()]);
        assert!(leaks("2021-01-15T15:00:00.000001Z INFO code=123456", &secrets));
        assert!(leaks(r#"{"credential":"abc.1.Zm9v-_x"}"#, &secrets));
        assert!(leaks("number+123456-", &secrets));
        assert!(!leaks("2021-01-15T15:00:00.123456Z INFO started", &secrets));
        assert!(!leaks(r#"{"timestamp":"2021-01-15T15:00:00.123456Z","level":"INFO"}"#, &secrets));
        assert!(!leaks("[7996] 2026/11/29 09:53:28.123456 [INF]   Max Memory: 256.00 MB", &secrets));
        assert!(leaks("[7996] 2026/11/29 09:53:28.000001 [INF] Zero code 123456", &secrets));
        assert!(!leaks("elapsed_us=91234567", &secrets));
    }
}
