//! What the phones of the examples have in common: the way from a number to an identity.

mod codes;
mod place;
pub(crate) mod words;

use std::path::PathBuf;

use anyhow::Result;
use spillway_api::v1;
use spillway_client::{Client, Identity, NewDevice};
use spillway_types::{PhoneNumber, random_bytes};

use codes::Codes;
use place::Kept;
use words::{NOTICED, rough, say};

/// Somebody with a phone who has no account yet.
pub(crate) struct Newcomer<'a> {
    pub(crate) client: &'a Client,
    pub(crate) number: &'a PhoneNumber,
    /// Where the sandbox provider shows its codes; without it the code is asked for here.
    pub(crate) sandbox: Option<&'a str>,
    /// Keeps the place in the waiting room, so that it is found again.
    pub(crate) keep: Option<PathBuf>,
}

impl Newcomer<'_> {
    /// Waits for the turn, proves the number, and gets an account. Says what a phone could show.
    pub(crate) async fn sign_up(self) -> Result<Identity> {
        let mut kept = Kept::open(self.keep)?;
        let admission = kept.wait(self.client).await?;
        say("It is your turn.");
        let verification =
            self.client.start_admitted_verification(self.number, v1::Transport::Sms, &admission).await?;
        match verification.delivery_estimate().filter(|estimate| *estimate >= NOTICED) {
            Some(estimate) => say(&format!("A code is under way; most arrive within {}.", rough(estimate))),
            None => say("A code is under way."),
        }
        let codes = Codes { sandbox: self.sandbox, number: self.number };
        let verification = codes.prove(self.client, verification).await?;
        let enrolled = self.client.create_account(&verification, device()).await?;
        kept.forget()?;
        say(&format!("Welcome. Your account is {}.", enrolled.identity.account()));
        Ok(enrolled.identity)
    }
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
