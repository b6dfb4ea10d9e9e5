//! A step that may hang: ended with all that it started when its time is over.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

const POLL: Duration = Duration::from_millis(100);

/// As [`crate::cargo::step`], for `limit` at most.
pub(crate) fn step(name: &str, command: &mut Command, limit: Duration) -> Result<()> {
    eprintln!("\n=== {name}");
    let mut child = command.spawn().with_context(|| format!("{name}: cannot start"))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("{name} failed ({status})");
            }
            return Ok(());
        }
        if Instant::now() >= deadline {
            end_with_descendants(child.id());
            child.wait()?;
            bail!(
                "{name} did not end within {} minutes: the last lines above say what was running",
                limit.as_secs() / 60
            );
        }
        thread::sleep(POLL);
    }
}

/// Parents first, so that none of them starts a child in place of one that was ended. The terminal's own group is kept,
/// so that Ctrl-C reaches all of them as ever.
fn end_with_descendants(pid: u32) {
    let children = children(pid);
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself in this moment.
        kill_process(pid, Signal::KILL).ok();
    }
    children.into_iter().for_each(end_with_descendants);
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_ended_with_its_children() {
        let folder = std::env::temp_dir().join(format!("spillway-bounded-{}", std::process::id()));
        let script = format!("sleep 600 & echo $! > {0}; wait", folder.display());
        let error =
            step("a step", Command::new("sh").args(["-c", &script]), Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
        let child = fs::read_to_string(&folder).unwrap();
        fs::remove_file(&folder).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        // Gone, or waiting to be collected by the machine's first process.
        let runs = || {
            fs::read_to_string(format!("/proc/{}/stat", child.trim()))
                .is_ok_and(|stat| !stat.contains(") Z "))
        };
        while runs() {
            assert!(Instant::now() < deadline, "the child goes on");
            thread::sleep(POLL);
        }
    }

    #[test]
    fn outcomes_are_those_of_the_command() {
        step("a step", &mut Command::new("true"), Duration::from_secs(10)).unwrap();
        let error = step("a step", &mut Command::new("false"), Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("failed"), "{error}");
    }
}
