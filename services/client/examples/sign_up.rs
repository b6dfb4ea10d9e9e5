//! Signs up as a phone does, through the waiting room, and shows what a phone could show.
//!
//! ```text
//! cargo run -p spillway-client --example sign_up -- +4915112345678 --sandbox http://127.0.0.1:7702 --keep place
//! ```
//!
//! Stop it while it waits and start it again with the same `--keep`: the place is still there.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::Parser;
use spillway_api::v1;
use spillway_api::v1::sandbox_codes_client::SandboxCodesClient;
use spillway_client::{
    Admission, Client, ClientConfig, DeviceSecret, NewDevice, Place, Standing, Verification, Wait,
};
use spillway_types::{PhoneNumber, random_bytes};
use tokio::time::sleep;
use tonic::Code;
use tonic::transport::Endpoint;

#[derive(Debug, Parser)]
#[command(about = "Signs up through the waiting room")]
struct Options {
    /// In E.164, such as +4915112345678
    number: String,
    /// One gateway, or several with commas between them
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7700")]
    gateway: String,
    /// Where the sandbox provider shows its codes; without it the code is asked for here
    #[arg(long, value_name = "URL")]
    sandbox: Option<String>,
    /// Keeps the place in the room, so that it is found again
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
}

/// What a device keeps: its secret, and the ticket once it has one.
struct Kept {
    file: Option<PathBuf>,
    secret: [u8; SECRET_BYTES],
    ticket: Option<Bytes>,
}

const SECRET_BYTES: usize = 32;
/// The sandbox delivers after its delay, and in a surge after its queue.
const CODE_MAX: Duration = Duration::from_secs(120);
/// A shorter wait is not worth a word.
const NOTICED: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let number = PhoneNumber::parse(&options.number)
        .with_context(|| format!("`{}` is not a phone number that can be called", options.number))?;
    let client = Client::connect(&options.gateway, ClientConfig::default()).await?;
    let mut kept = Kept::open(options.keep.as_deref())?;

    let admission = wait(&client, &mut kept).await?;
    say("It is your turn.");
    let verification = client.start_admitted_verification(&number, v1::Transport::Sms, &admission).await?;
    match verification.delivery_estimate().filter(|estimate| *estimate >= NOTICED) {
        Some(estimate) => say(&format!("A code is under way; most arrive within {}.", rough(estimate))),
        None => say("A code is under way."),
    }
    let verification = prove(&client, &options, &number, verification).await?;
    let enrolled = client.create_account(&verification, device()).await?;
    kept.forget()?;
    say(&format!("Welcome. Your account is {}.", enrolled.identity.account()));
    Ok(())
}

/// Where a phone has keys of its cryptography, of which the service only checks the sizes.
fn device() -> NewDevice {
    let key = || random_bytes::<32>().to_vec().into();
    let signed = |key_id| v1::SignedPreKey {
        key_id,
        public_key: key(),
        signature: random_bytes::<64>().to_vec().into(),
    };
    NewDevice {
        identity_key: key(),
        registration_id: u32::from(u16::from_be_bytes(random_bytes())).max(1),
        prekeys: v1::PreKeys { signed: Some(signed(1)), last_resort: Some(signed(2)), one_time: Vec::new() },
        discoverable: true,
        ..NewDevice::default()
    }
}

/// As [`Client::wait_for_admission`], with the place kept at each step.
async fn wait(client: &Client, kept: &mut Kept) -> Result<Admission> {
    let secret = DeviceSecret::from_bytes(&kept.secret);
    let mut place = kept.ticket.clone().map(Place::from_ticket);
    if place.is_some() {
        say("You have a place already.");
    }
    loop {
        let standing = match &mut place {
            Some(place) => client.poll(&secret, place).await?,
            None => {
                let (taken, standing) = client.enter(&secret).await?;
                place = Some(taken);
                standing
            }
        };
        kept.keep(place.as_ref())?;
        match standing {
            Standing::Admitted(admission) => return Ok(admission),
            Standing::Over => {
                say("Your turn has passed; you get a new place.");
                place = None;
            }
            Standing::Waiting(wait) => {
                say(&sentence(&wait));
                count_down(wait.poll_after).await;
            }
        }
    }
}

fn sentence(wait: &Wait) -> String {
    let reason = match wait.reason {
        v1::WaitReason::Unspecified => "",
        v1::WaitReason::Frozen => " Nobody is let in at the moment, so that those who are in are served.",
        v1::WaitReason::Slower => " It is slower than it was.",
        v1::WaitReason::Codes => " Codes cannot be sent faster at the moment.",
        v1::WaitReason::Budget => " No more codes can be paid for at the moment.",
        v1::WaitReason::ControlGone => " This may be a little out of date.",
    };
    match wait.range {
        Some((least, most)) => {
            format!("{} ahead of you. It takes {} to {}.{reason}", wait.ahead, rough(least), rough(most))
        }
        None => "You have a place. How long it takes is not known yet.".to_owned(),
    }
}

fn rough(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3_600)),
    }
}

/// A line that changes in a terminal, and nothing elsewhere.
async fn count_down(until: Duration) {
    let mut left = until;
    while !left.is_zero() {
        if io::stdout().is_terminal() {
            print!("\r  asking again in {} s ", left.as_secs() + 1);
            // A terminal that is gone is noticed by the next line.
            io::stdout().flush().ok();
        }
        let step = left.min(Duration::from_secs(1));
        sleep(step).await;
        left -= step;
    }
    if io::stdout().is_terminal() {
        print!("\r{:40}\r", "");
    }
}

async fn prove(
    client: &Client,
    options: &Options,
    number: &PhoneNumber,
    mut verification: Verification,
) -> Result<Verification> {
    loop {
        let code = match &options.sandbox {
            Some(sandbox) => from_sandbox(sandbox, number).await?,
            None => from_person()?,
        };
        verification = client.check_code(&verification, &code).await?;
        if verification.is_verified() {
            return Ok(verification);
        }
        ensure!(options.sandbox.is_none(), "the sandbox's code is wrong");
        ensure!(verification.checks_left() > 0, "that was the last try; start again");
        say(&format!("That is not the code. {} tries are left.", verification.checks_left()));
    }
}

fn from_person() -> Result<String> {
    print!("Code: ");
    io::stdout().flush()?;
    let mut code = String::new();
    ensure!(io::stdin().read_line(&mut code)? > 0, "no code was typed");
    Ok(code.trim().to_owned())
}

async fn from_sandbox(sandbox: &str, number: &PhoneNumber) -> Result<String> {
    let endpoint = Endpoint::from_shared(sandbox.to_owned())?;
    let channel = endpoint.connect().await.with_context(|| format!("nobody shows codes at {sandbox}"))?;
    let mut codes = SandboxCodesClient::new(channel);
    let mut waited = Duration::ZERO;
    while waited < CODE_MAX {
        let request = v1::ReadCodeRequest { number: number.as_e164().to_owned() };
        match codes.read(request).await {
            Ok(code) => return Ok(code.into_inner().code),
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(status.into()),
        }
        sleep(Duration::from_millis(200)).await;
        waited += Duration::from_millis(200);
    }
    bail!("no code arrived within {}", rough(CODE_MAX))
}

impl Kept {
    fn open(file: Option<&Path>) -> Result<Self> {
        let new = || Self { file: file.map(Path::to_owned), secret: random_bytes(), ticket: None };
        let Some(path) = file.filter(|path| path.exists()) else { return Ok(new()) };
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (secret, ticket) = bytes
            .split_first_chunk()
            .with_context(|| format!("{} holds no place; name another file, or remove it", path.display()))?;
        let ticket = (!ticket.is_empty()).then(|| Bytes::copy_from_slice(ticket));
        Ok(Self { secret: *secret, ticket, ..new() })
    }

    fn keep(&mut self, place: Option<&Place>) -> Result<()> {
        self.ticket = place.map(|place| place.ticket().clone());
        let Some(path) = &self.file else { return Ok(()) };
        // Whoever has the secret has the place.
        let mut options = File::options();
        let mut file = options
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot keep the place in {}", path.display()))?;
        file.write_all(&self.secret)?;
        file.write_all(self.ticket.as_deref().unwrap_or_default())?;
        Ok(())
    }

    fn forget(&self) -> Result<()> {
        match &self.file {
            Some(path) => fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display())),
            None => Ok(()),
        }
    }
}

fn say(line: &str) {
    println!("{line}");
}
