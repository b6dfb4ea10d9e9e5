//! A place in the waiting room that outlives the program.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use spillway_client::{Admission, Client, DeviceSecret, Place, Standing};
use spillway_types::random_bytes;

use super::words::{count_down, say, sentence};

const SECRET_BYTES: usize = 32;
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What a device keeps: its secret, and the ticket once it has one.
pub(super) struct Kept {
    file: Option<PathBuf>,
    secret: [u8; SECRET_BYTES],
    ticket: Option<Bytes>,
}

impl Kept {
    pub(super) fn open(file: Option<PathBuf>) -> Result<Self> {
        let existing = file.as_ref().filter(|path| path.exists());
        let Some(path) = existing else { return Ok(Self { file, secret: random_bytes(), ticket: None }) };
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (secret, ticket) = bytes
            .split_first_chunk()
            .with_context(|| format!("{} holds no place; name another file, or remove it", path.display()))?;
        let ticket = (!ticket.is_empty()).then(|| Bytes::copy_from_slice(ticket));
        Ok(Self { secret: *secret, ticket, file })
    }

    /// As [`Client::wait_for_admission`], with the place kept at each step.
    pub(super) async fn wait(&mut self, client: &Client) -> Result<Admission> {
        let secret = DeviceSecret::from_bytes(&self.secret);
        let mut place = self.ticket.clone().map(Place::from_ticket);
        if place.is_some() {
            say("You have a place already.");
        }
        loop {
            let answer = match &mut place {
                Some(place) => client.poll(&secret, place).await,
                None => client.enter(&secret).await.map(|(taken, standing)| {
                    place = Some(taken);
                    standing
                }),
            };
            let standing = match answer {
                Ok(standing) => standing,
                // A place is not lost by that, and asking again is always safe.
                Err(error) if error.is_retryable() => {
                    say(&format!("No answer ({error})."));
                    count_down(AGAIN_AFTER).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.keep(place.as_ref())?;
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

    pub(super) fn forget(&self) -> Result<()> {
        match &self.file {
            Some(path) => fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display())),
            None => Ok(()),
        }
    }
}
