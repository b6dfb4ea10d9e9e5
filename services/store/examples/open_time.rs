//! How long the embedded store takes to open: new, empty, and with a million messages after a crash.
//!
//! `cargo run --release -p spillway-store --example open_time [messages]`

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use spillway_store::embedded::{self, EmbeddedHandle};
use spillway_store::mailboxes::{Capacity, Put, StoredMessage};
use spillway_store::{OpenError, Store};
use spillway_types::{Guid, MailboxId, MessageIdGenerator, SystemClock};
use tokio::task::JoinSet;
use tokio::time::Instant;

const CALLERS: u64 = 512;
const MAILBOXES: u64 = 20_000;
const ROOMY: Capacity = Capacity { messages: u64::MAX, bytes: u64::MAX };

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [fill, path, messages] = arguments.as_slice()
        && fill == "fill"
    {
        return fill_and_crash(Path::new(path), messages.parse()?).await;
    }
    let messages = arguments.first().map_or("1000000", String::as_str);
    let folder = tempfile::tempdir_in(".")?;
    let path = folder.path().join("store");
    open("new", &path)?.1.close().await;
    open("empty", &path)?.1.close().await;

    let mut child = Command::new(std::env::current_exe()?);
    child.arg("fill").arg(&path).arg(messages).status()?;
    open("after a crash", &path)?.1.close().await;
    open("after a close", &path)?.1.close().await;
    Ok(())
}

/// Ends as `kill -9` ends it: nothing is flushed or closed.
async fn fill_and_crash(path: &Path, messages: u64) -> Result<(), Box<dyn Error>> {
    let (store, _handle) = open("to be filled", path)?;
    let began = Instant::now();
    fill(&store, messages).await;
    println!("{messages} messages stored in {:.1?}", began.elapsed());
    std::process::abort();
}

fn open(what: &str, path: &Path) -> Result<(Store, EmbeddedHandle), OpenError> {
    let config = embedded::Config { path: path.to_owned(), ..embedded::Config::default() };
    let began = Instant::now();
    let opened = embedded::open(&config, &Registry::new(), Arc::new(SystemClock))?;
    println!("{what:<20} opened in {:?}", Duration::from_millis(began.elapsed().as_millis() as u64));
    Ok(opened)
}

async fn fill(store: &Store, messages: u64) {
    let ids = Arc::new(MessageIdGenerator::new(Arc::new(SystemClock)));
    let mailboxes: Arc<Vec<_>> = Arc::new((0..MAILBOXES).map(|_| MailboxId::random()).collect());
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (store, ids, mailboxes) = (store.clone(), Arc::clone(&ids), Arc::clone(&mailboxes));
        callers.spawn(async move {
            let envelope = Bytes::from(vec![7; 600]);
            for number in (caller..messages).step_by(CALLERS as usize) {
                let mailbox = mailboxes[(number % MAILBOXES) as usize];
                let message =
                    StoredMessage { id: ids.mint(), guid: Guid::random(), envelope: envelope.clone() };
                let put = store.mailboxes.put(mailbox, message, ROOMY).await;
                assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
            }
        });
    }
    callers.join_all().await;
}
