//! The client's example: two people in two processes of their own talk, and one of them comes back.

use std::path::Path;
use std::process::Stdio;

use spillway_types::PhoneNumber;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

use super::desk::population;
use super::support::{Node, PATIENCE};

/// Somebody at a terminal.
struct Terminal {
    process: Child,
    typed: ChildStdin,
    shown: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    fn open(node: &Node, from: &PhoneNumber, to: &PhoneNumber, keep: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_spillway-chat"))
            .args([from.as_e164(), to.as_e164(), "--gateway", &node.server.public])
            .args(["--sandbox", node.server.codes.as_ref().unwrap(), "--keep"])
            .arg(keep)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let typed = process.stdin.take().unwrap();
        let shown = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, typed, shown }
    }

    async fn types(&mut self, line: &str) {
        self.typed.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Reads on until a line begins so.
    async fn shows(&mut self, beginning: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut before = Vec::new();
        loop {
            let line = timeout_at(until, self.shown.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("no `{beginning}` after {before:?}"));
            let line =
                line.unwrap().unwrap_or_else(|| panic!("ended without `{beginning}` after {before:?}"));
            if line.starts_with(beginning) {
                return line;
            }
            before.push(line);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_talk_and_who_comes_back_is_who_he_was() {
    let node = Node::start("chat", &[("GATEWAY__ROOM__REQUIRED", "true")]).await;
    let folder = tempfile::tempdir().unwrap();
    let [anna, bert] = [0, 1].map(|index| {
        let number = population().person(index).number;
        node.keep_secret(&number);
        PhoneNumber::parse(&number).unwrap()
    });
    let (of_anna, of_bert) = (folder.path().join("anna"), folder.path().join("bert"));

    let mut first = Terminal::open(&node, &anna, &bert, &of_anna);
    let account = first.shows("Welcome. ").await;
    first.shows(&format!("{} has no account yet", bert.as_e164())).await;
    let mut second = Terminal::open(&node, &bert, &anna, &of_bert);
    second.shows("You talk to").await;
    first.shows("You talk to").await;
    first.types("hello").await;
    first.shows("  sent").await;
    assert_eq!(second.shows("> ").await, "> hello");
    second.types("and you").await;
    assert_eq!(first.shows("> ").await, "> and you");

    first.process.kill().await.unwrap();
    second.types("are you there").await;
    second.shows("  sent").await;
    for kept in [&of_anna, &of_bert] {
        let kept = std::fs::read_to_string(kept).unwrap();
        node.keep_secret(kept.lines().nth(2).unwrap());
    }
    let mut again = Terminal::open(&node, &anna, &bert, &of_anna);
    let back = again.shows("Welcome back. ").await;
    assert_eq!(account.rsplit_once(' ').unwrap().1, back.rsplit_once(' ').unwrap().1);
    // What she had read, and was killed before she could say so, may come before it once more.
    again.shows("> are you there").await;
    again.types("here").await;
    assert_eq!(second.shows("> ").await, "> here");
}
