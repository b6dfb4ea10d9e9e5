//! What ends a process when its owner is gone, `kill -9` of the owner included.
//!
//! A shell in a process group of its own reads from a pipe that only the owner holds. When the pipe closes without the
//! word to leave, it kills the group of the process. The owner says that word as soon as it knows that the process has
//! ended, so that a number which the kernel has given to somebody else is not killed.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = r#"read -r word; [ "$word" = leave ] || kill -s KILL -- "-$1""#;

#[derive(Debug)]
pub(crate) struct Lifeline {
    watcher: Child,
}

impl Lifeline {
    pub(crate) fn tie(pid: u32) -> io::Result<Self> {
        let watcher = Command::new("sh")
            .args(["-c", SCRIPT, "lifeline", &pid.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal goes to the owner's group and must not end the watcher before the owner.
            .process_group(0)
            .spawn()?;
        Ok(Self { watcher })
    }

    /// The process has ended, or may outlive its owner.
    pub(crate) fn leave(mut self) {
        if let Some(mut pipe) = self.watcher.stdin.take() {
            // It fails only when the watcher is gone already.
            pipe.write_all(b"leave\n").ok();
        }
        self.watcher.wait().ok();
    }
}
