//! Two people talk, each in a terminal of their own.
//!
//! ```text
//! cargo run -p spillway-client --example chat -- +4915112345678 +4915112345679 --sandbox http://127.0.0.1:7702 --keep anna
//! cargo run -p spillway-client --example chat -- +4915112345679 +4915112345678 --sandbox http://127.0.0.1:7702 --keep bert
//! ```
//!
//! The first number is one's own. Who has no account yet gets one, through the waiting room if there is one; it is kept in the
//! file, so whoever starts again is who he was, and reads what was written to him meanwhile. What a phone would encrypt is sent as it
//! is typed. An empty line, or the end of the input, changes nothing; Ctrl-C ends it.

mod phone;

use std::fs::{self, File};
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Parser;
use phone::Newcomer;
use phone::words::say;
use spillway_api::{Reason, account_id, v1};
use spillway_client::{
    CallError, Client, ClientConfig, Dedup, Delivery, Identity, Outgoing, Session, SessionEvent,
};
use spillway_types::{AccountId, DeviceAddress, DeviceId, Guid, PhoneNumber};
use tokio::sync::mpsc;
use tokio::time::sleep;

#[derive(Debug, Parser)]
#[command(about = "Talks to one other person")]
struct Options {
    /// One's own number in E.164, such as +4915112345678
    number: String,
    /// The number of the other
    to: String,
    /// One gateway, or several with commas between them
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7700")]
    gateway: String,
    /// Where the sandbox provider shows its codes; without it the code is asked for here
    #[arg(long, value_name = "URL")]
    sandbox: Option<String>,
    /// Keeps who one is; whoever has the file is that person
    #[arg(long, value_name = "FILE")]
    keep: PathBuf,
}

/// The other may still be on the way.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// Between tries to be online again, doubled up to the second.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Tries of one line: the other's devices may change in between.
const SENDS_MAX: u32 = 3;
/// Messages that are recognised when they come again.
const SEEN_MAX: usize = 4_096;
const LINES_QUEUED_MAX: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let [number, to] = [&options.number, &options.to].map(|text| {
        PhoneNumber::parse(text).with_context(|| format!("`{text}` is not a phone number that can be called"))
    });
    let (number, to) = (number?, to?);
    let client = Client::connect(&options.gateway, ClientConfig::default()).await?;
    let me = Arc::new(who_am_i(&options, &client, &number).await?);
    let other = Other::find(&client, &me, &to).await?;
    say(&format!("You talk to {}.", to.as_e164()));
    talk(&client, &me, other).await
}

/// From the file, or a new account.
async fn who_am_i(options: &Options, client: &Client, number: &PhoneNumber) -> Result<Identity> {
    if options.keep.exists() {
        let identity = recall(&options.keep)?;
        say(&format!("Welcome back. Your account is {}.", identity.account()));
        return Ok(identity);
    }
    let sandbox = options.sandbox.as_deref();
    let keep = Some(options.keep.with_extension("place"));
    let identity = Newcomer { client, number, sandbox, keep }.sign_up().await?;
    remember(&options.keep, &identity)?;
    Ok(identity)
}

/// Account, device and credential, a line each.
fn remember(path: &Path, identity: &Identity) -> Result<()> {
    let DeviceAddress { account, device } = identity.address;
    let text = format!("{account}\n{device}\n{}\n", identity.credential());
    let mut options = File::options();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot keep the account in {}", path.display()))?;
    Ok(file.write_all(text.as_bytes())?)
}

fn recall(path: &Path) -> Result<Identity> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parsed = || {
        let mut lines = text.lines();
        let account: AccountId = lines.next()?.parse().ok()?;
        let device = DeviceId::try_from(lines.next()?.parse::<u32>().ok()?).ok()?;
        Some(Identity::new(DeviceAddress { account, device }, lines.next()?.to_owned()))
    };
    parsed().with_context(|| format!("{} holds no account; name another file", path.display()))
}

/// Whom one talks to.
struct Other {
    account: AccountId,
    /// Device and registration ids, as last fetched.
    devices: Vec<(u32, u32)>,
}

impl Other {
    async fn find(client: &Client, me: &Identity, number: &PhoneNumber) -> Result<Self> {
        let mut said = false;
        loop {
            let found = client.discover(me, vec![number.as_e164().to_owned()]).await?;
            if let Some(found) = found.first() {
                let account = account_id("account_id", &found.account_id)?;
                let mut other = Self { account, devices: Vec::new() };
                other.fetch_devices(client, me).await?;
                return Ok(other);
            }
            if !said {
                say(&format!("{} has no account yet.", number.as_e164()));
                said = true;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn fetch_devices(&mut self, client: &Client, me: &Identity) -> Result<(), CallError> {
        let keys = client.fetch_keys(me, self.account).await?;
        self.devices = keys.devices.iter().map(|keys| (keys.device_id, keys.registration_id)).collect();
        Ok(())
    }

    /// Returns when the service has the line on disk.
    async fn send(&mut self, client: &Client, me: &Identity, line: &str) -> Result<()> {
        let guid = Guid::random();
        for _ in 0..SENDS_MAX {
            let envelope = |(device_id, registration_id)| v1::DeviceEnvelope {
                device_id,
                registration_id,
                content: Bytes::copy_from_slice(line.as_bytes()),
            };
            let envelopes = self.devices.iter().copied().map(envelope).collect();
            let message = Outgoing { to: self.account, guid, envelopes, ephemeral: false, urgent: true };
            match client.send(me, message).await {
                Ok(sent) if sent.full_devices.is_empty() => return Ok(()),
                Ok(_) => bail!("the other's mailbox is full"),
                Err(error) if error.refusal().is_some_and(|r| r.reason == Reason::StaleDevices) => {
                    self.fetch_devices(client, me).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        bail!("the other's devices keep changing")
    }
}

async fn talk(client: &Client, me: &Arc<Identity>, mut other: Other) -> Result<()> {
    let mut lines = typed();
    let mut seen = Dedup::new(SEEN_MAX);
    let mut pause = RECONNECT.0;
    loop {
        match client.open_session(me).await {
            Ok(session) => {
                pause = RECONNECT.0;
                online(client, me, &mut other, session, &mut lines, &mut seen).await;
            }
            Err(CallError::Refused(refusal)) if refusal.reason == Reason::Unauthenticated => {
                bail!("the account is no longer good: {refusal}");
            }
            Err(error) => say(&format!("Not online ({error}); trying again.")),
        }
        sleep(pause).await;
        pause = (pause * 2).min(RECONNECT.1);
    }
}

/// Until the session ends, for whatever reason.
async fn online(
    client: &Client,
    me: &Arc<Identity>,
    other: &mut Other,
    mut session: Session,
    lines: &mut mpsc::Receiver<String>,
    seen: &mut Dedup,
) {
    loop {
        tokio::select! {
            event = session.next() => match event {
                Ok(Some(SessionEvent::Delivery(delivery))) => read(&session, delivery, seen).await,
                Ok(Some(SessionEvent::QueueEmpty)) => {}
                Ok(Some(SessionEvent::Migrate(after))) => return sleep(after).await,
                Ok(Some(SessionEvent::Closing(v1::closing::Reason::Replaced))) => {
                    return say("The same account is in use elsewhere.");
                }
                Ok(Some(SessionEvent::Closing(_)) | None) => return,
                Err(error) => return say(&format!("Connection lost ({error}).")),
            },
            Some(line) = lines.recv() => match other.send(client, me, &line).await {
                Ok(()) => say("  sent"),
                Err(error) => say(&format!("  not sent: {error:#}")),
            },
        }
    }
}

/// Shows a message, and only then says that it need not be kept any longer.
async fn read(session: &Session, delivery: Delivery, seen: &mut Dedup) {
    if seen.is_new(delivery.guid) {
        say(&format!("> {}", String::from_utf8_lossy(&delivery.envelope.content)));
    }
    if let Some(id) = delivery.id {
        // False: the session is over, and the message comes again and is recognised.
        session.handle().ack([id]).await;
    }
}

/// What is typed, line by line, from a thread of its own: reading a terminal cannot be given up.
fn typed() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES_QUEUED_MAX);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok).filter(|line| !line.is_empty()) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
