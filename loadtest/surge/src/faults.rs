//! Faults on a timeline: `--at '30s run "kill -9 $SURGE_SERVER_PID"'`, and how long the service needed to recover.

mod recovery;

use std::process::Stdio;
use std::time::Duration;

pub use recovery::{Recovery, recoveries};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// A command that runs longer is left alone, and its end is not known.
const COMMAND_MAX: Duration = Duration::from_secs(600);
/// Where a command finds the processes under load.
const PIDS: &str = "SURGE_SERVER_PID";
/// Of what a command says, so much is kept.
const SAID_MAX: usize = 200;

/// A command and when it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Since the start of the measured part, which begins with the calm.
    pub at: Duration,
    /// Given to `sh -c`.
    pub command: String,
    /// What a chart calls it.
    pub label: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    #[error("`{0}` is not a time such as 30s, 1500ms or 2m")]
    Time(String),
    #[error("`{0}` is not understood: write a time, `run` and a command, such as `30s run \"kill -9 1234\"`")]
    Form(String),
    #[error("there is no command")]
    Empty,
}

impl Fault {
    /// # Errors
    ///
    /// When the time is none, or there is no command.
    pub fn new(at: &str, command: &str, label: Option<String>) -> Result<Self, FaultError> {
        let at = time(at).ok_or_else(|| FaultError::Time(at.to_owned()))?;
        let command = command.trim();
        if command.is_empty() {
            return Err(FaultError::Empty);
        }
        let label = label.unwrap_or_else(|| shortened(command));
        Ok(Self { at, command: command.to_owned(), label })
    }

    /// Whether the command wants to be told of the processes under load.
    pub fn needs_pids(&self) -> bool {
        self.command.contains(PIDS)
    }

    /// Reads `30s run "kill -9 1234"`. The quotation marks may be left out.
    ///
    /// # Errors
    ///
    /// When it has another form.
    pub fn parse(text: &str) -> Result<Self, FaultError> {
        let form = || FaultError::Form(text.to_owned());
        let (at, rest) = text.trim().split_once(char::is_whitespace).ok_or_else(form)?;
        let command = rest.trim_start().strip_prefix("run").ok_or_else(form)?;
        let command = command.strip_prefix(char::is_whitespace).ok_or_else(form)?.trim();
        let quoted = |mark: char| command.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark));
        Self::new(at, quoted('"').or_else(|| quoted('\'')).unwrap_or(command), None)
    }
}

fn time(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * factor).ok()
}

fn shortened(command: &str) -> String {
    match command.char_indices().nth(28) {
        Some((at, _)) => format!("{}…", command.get(..at).unwrap_or_default()),
        None => command.to_owned(),
    }
}

/// What the commands are told of the run, as environment variables.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `SURGE_SERVER_PID`: the processes under load, as far as they are known, with spaces between them.
    pub pids: Vec<u32>,
    /// `SURGE_TARGET`
    pub target: String,
    /// `SURGE_RUN_FOLDER`
    pub folder: String,
}

/// Runs one command and says what came of it.
pub async fn run(fault: &Fault, surroundings: &Surroundings) -> String {
    let pids: Vec<_> = surroundings.pids.iter().map(u32::to_string).collect();
    let child = Command::new("sh")
        .args(["-c", &fault.command])
        .env(PIDS, pids.join(" "))
        .env("SURGE_TARGET", &surroundings.target)
        .env("SURGE_RUN_FOLDER", &surroundings.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return format!("could not be run: {error}"),
    };
    let mut said = Vec::new();
    let ended = async {
        if let Some(errors) = child.stderr.take() {
            // What it says is a courtesy; how it ends counts.
            errors.take(SAID_MAX as u64).read_to_end(&mut said).await.ok();
        }
        child.wait().await
    };
    match timeout(COMMAND_MAX, ended).await {
        Err(_) => format!("still runs after {} s", COMMAND_MAX.as_secs()),
        Ok(Err(error)) => format!("could not be waited for: {error}"),
        Ok(Ok(status)) if status.success() => "done".to_owned(),
        Ok(Ok(status)) => {
            let said = String::from_utf8_lossy(&said);
            // In one line, as everything that is said of a run.
            format!("{status}: {}", said.split_whitespace().collect::<Vec<_>>().join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let fault = Fault::parse("30s run \"kill -9 1234\"").unwrap();
        assert_eq!((fault.at, fault.command.as_str()), (Duration::from_secs(30), "kill -9 1234"));
        assert_eq!(Fault::parse("1500ms run kill -9 1").unwrap().at, Duration::from_millis(1_500));
        assert_eq!(Fault::parse("2m run 'echo \"a b\"'").unwrap().command, "echo \"a b\"");
        for wrong in
            ["", "30s", "30s kill 1", "30 run x", "soon run x", "30s run", "30s running x", "-1s run x"]
        {
            assert!(Fault::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_command_knows_what_is_under_load_and_says_how_it_ended() {
        let surroundings =
            Surroundings { pids: vec![12, 34], target: "http://t".to_owned(), folder: "f".to_owned() };
        let of = async |command: &str| run(&Fault::new("0s", command, None).unwrap(), &surroundings).await;
        assert_eq!(
            of("test \"$SURGE_SERVER_PID $SURGE_TARGET $SURGE_RUN_FOLDER\" = '12 34 http://t f'").await,
            "done"
        );
        let failed = of("echo no such >&2; echo process >&2; exit 3").await;
        assert!(failed.contains("3") && failed.ends_with("no such process"), "{failed}");
    }
}
