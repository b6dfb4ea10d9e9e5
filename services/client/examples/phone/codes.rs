//! The code that proves a number: typed by a person, or read from the sandbox.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use spillway_api::v1;
use spillway_api::v1::sandbox_codes_client::SandboxCodesClient;
use spillway_client::{Client, Verification};
use spillway_types::PhoneNumber;
use tokio::time::sleep;
use tonic::Code;
use tonic::transport::Endpoint;

use super::words::{rough, say};

/// The sandbox delivers after its delay, and in a surge after its queue.
const CODE_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) struct Codes<'a> {
    pub(super) sandbox: Option<&'a str>,
    pub(super) number: &'a PhoneNumber,
}

impl Codes<'_> {
    pub(super) async fn prove(
        &self,
        client: &Client,
        mut verification: Verification,
    ) -> Result<Verification> {
        loop {
            let code = match self.sandbox {
                Some(sandbox) => self.read_in_sandbox(sandbox).await?,
                None => ask_person()?,
            };
            verification = client.check_code(&verification, &code).await?;
            if verification.is_verified() {
                return Ok(verification);
            }
            ensure!(self.sandbox.is_none(), "the sandbox's code is wrong");
            ensure!(verification.checks_left() > 0, "that was the last try; start again");
            say(&format!("That is not the code. {} tries are left.", verification.checks_left()));
        }
    }

    async fn read_in_sandbox(&self, sandbox: &str) -> Result<String> {
        let endpoint = Endpoint::from_shared(sandbox.to_owned())?;
        let channel = endpoint.connect().await.with_context(|| format!("nobody shows codes at {sandbox}"))?;
        let mut codes = SandboxCodesClient::new(channel);
        let mut waited = Duration::ZERO;
        while waited < CODE_MAX {
            let request = v1::ReadCodeRequest { number: self.number.as_e164().to_owned() };
            match codes.read(request).await {
                Ok(code) => return Ok(code.into_inner().code),
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => return Err(status.into()),
            }
            sleep(LOOK_EVERY).await;
            waited += LOOK_EVERY;
        }
        bail!("no code arrived within {}", rough(CODE_MAX))
    }
}

fn ask_person() -> Result<String> {
    print!("Code: ");
    io::stdout().flush()?;
    let mut code = String::new();
    ensure!(io::stdin().read_line(&mut code)? > 0, "no code was typed");
    Ok(code.trim().to_owned())
}
