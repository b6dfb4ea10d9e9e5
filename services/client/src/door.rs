//! Through the waiting room: a place, the wait, an admission.
//!
//! Two things are worth keeping over a restart of the device: [`DeviceSecret`], made once, and the ticket in [`Place`].
//! With them the place is found again at any gateway.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use spillway_admission::Tier;
use spillway_api::v1::place::State;
use spillway_api::{Reason, v1};
use spillway_types::PhoneNumber;
use spillway_waiting_room::{
    CLAIM_WINDOW, Difficulty, Puzzle, SealedPass, SealedTicket, claim_message, pass_message,
};
use tokio::time::Instant;
use tonic::Status;

use crate::call::CallError;
use crate::connect::Client;

/// The private key whose holder has the place. Never prints itself.
#[derive(Clone)]
pub struct DeviceSecret(SigningKey);

/// A place in the room.
#[derive(Clone, Debug)]
pub struct Place {
    ticket: Bytes,
    told: Option<(Duration, Instant)>,
    /// A turn has been missed, as far as this device has seen.
    missed: bool,
}

/// How a place stands.
#[derive(Clone, Debug)]
pub enum Standing {
    Waiting(Wait),
    /// The turn has come and was claimed.
    Admitted(Admission),
    /// The turn was missed for good, or the ticket is too old: enter again.
    Over,
}

/// What there is to show to somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// About how many are ahead; nothing is known of it without a range.
    pub ahead: u64,
    /// Four of five waits end between these. Absent for the first seconds of a server's life.
    pub range: Option<(Duration, Duration)>,
    /// Asking sooner gains nothing.
    pub poll_after: Duration,
    pub reason: v1::WaitReason,
}

/// Lets the sign-up of one number begin, within ten minutes.
#[derive(Clone)]
pub struct Admission {
    pass: Bytes,
    secret: Box<DeviceSecret>,
    turn_came: Option<Instant>,
}

/// Hashes between two breaths: a millisecond or two, so that whoever shares the thread is not held up.
const HASHES: u64 = 4_096;
/// When an answer says nothing of it.
const POLL_AFTER: Duration = Duration::from_secs(10);

impl DeviceSecret {
    /// `bytes`: 32 random ones.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    fn public(&self) -> Bytes {
        self.0.verifying_key().to_bytes().to_vec().into()
    }

    fn sign(&self, message: &[u8]) -> Bytes {
        self.0.sign(message).to_bytes().to_vec().into()
    }
}

impl Place {
    /// As it was kept.
    pub const fn from_ticket(ticket: Bytes) -> Self {
        Self { ticket, told: None, missed: false }
    }

    /// To be kept. It changes when a turn was missed.
    pub fn ticket(&self) -> &Bytes {
        &self.ticket
    }
}

impl Client {
    /// Takes a place, and does the work that it costs.
    ///
    /// # Errors
    ///
    /// As of any call. `UNAVAILABLE` while no places are given out, which passes within seconds.
    pub async fn enter(&self, secret: &DeviceSecret) -> Result<(Place, Standing), CallError> {
        let mut work = None;
        // A puzzle may be out of date by the time it is solved; not twice in a row.
        for _ in 0..3 {
            let request = v1::EnterRequest { device_key: secret.public(), work };
            let answer = self.enter_call(request).await?;
            match answer.state {
                Some(State::Puzzle(puzzle)) => work = Some(solve(&puzzle).await?),
                state => {
                    let mut place = Place::from_ticket(answer.ticket);
                    let standing = self.stand(secret, &mut place, state).await?;
                    return Ok((place, standing));
                }
            }
        }
        Err(not_understood("a puzzle for each solution"))
    }

    /// How a place stands now; when its turn has come it is claimed.
    ///
    /// # Errors
    ///
    /// As of any call. The place is kept, and asking again is always safe.
    pub async fn poll(&self, secret: &DeviceSecret, place: &mut Place) -> Result<Standing, CallError> {
        let told = place.told;
        let request = v1::PollRequest {
            ticket: place.ticket.clone(),
            told_at_most: told.and_then(|(at_most, _)| at_most.try_into().ok()),
            told_ago: told.and_then(|(_, at)| at.elapsed().try_into().ok()),
        };
        let calls = self.sign_up();
        let answer = self
            .call(Tier::FinishSignUp, None, request, |request| {
                let mut calls = calls.clone();
                async move { calls.poll(request).await }
            })
            .await?;
        if place.ticket != answer.ticket {
            place.missed = true;
            place.ticket = answer.ticket;
        }
        self.stand(secret, place, answer.state).await
    }

    /// Enters, unless there is a place already, and waits for as long as it takes. `show` is told each time there is news.
    ///
    /// # Errors
    ///
    /// The first call that fails for good. `place` can be used again.
    pub async fn wait_for_admission(
        &self,
        secret: &DeviceSecret,
        place: &mut Option<Place>,
        mut show: impl FnMut(&Wait),
    ) -> Result<Admission, CallError> {
        loop {
            let standing = match place {
                Some(place) => self.poll(secret, place).await?,
                None => {
                    let (taken, standing) = self.enter(secret).await?;
                    *place = Some(taken);
                    standing
                }
            };
            match standing {
                Standing::Admitted(admission) => return Ok(admission),
                Standing::Over => *place = None,
                Standing::Waiting(wait) => {
                    show(&wait);
                    tokio::time::sleep(wait.poll_after).await;
                }
            }
        }
    }

    async fn enter_call(&self, request: v1::EnterRequest) -> Result<v1::Place, CallError> {
        let calls = self.sign_up();
        self.call(Tier::StartSignUp, None, request, |request| {
            let mut calls = calls.clone();
            async move { calls.enter(request).await }
        })
        .await
    }

    async fn stand(
        &self,
        secret: &DeviceSecret,
        place: &mut Place,
        state: Option<State>,
    ) -> Result<Standing, CallError> {
        match state {
            Some(State::Waiting(waiting)) => {
                let wait = wait(&waiting);
                place.told = wait.range.map(|(_, at_most)| (at_most, Instant::now()));
                Ok(Standing::Waiting(wait))
            }
            Some(State::Called(called)) => {
                // Whoever asks when he was told to, hears of his turn some seconds after it has come.
                let left = called.claim_within.and_then(|left| Duration::try_from(left).ok());
                let ago = left.filter(|_| !place.missed).map(|left| CLAIM_WINDOW.saturating_sub(left));
                let turn_came = ago.and_then(|ago| Instant::now().checked_sub(ago));
                let pass = match self.claim(secret, place, &called.challenge).await {
                    Ok(pass) => pass,
                    // It was over before the claim came, or is not for this device: both look the same, and the next poll knows more.
                    Err(error)
                        if error.refusal().is_some_and(|refusal| refusal.reason == Reason::WaitingRoom) =>
                    {
                        return Ok(Standing::Waiting(wait(&v1::Waiting::default())));
                    }
                    Err(error) => return Err(error),
                };
                Ok(Standing::Admitted(Admission { pass, secret: Box::new(secret.clone()), turn_came }))
            }
            Some(State::Over(_)) => Ok(Standing::Over),
            Some(State::Puzzle(_)) | None => Err(not_understood("no standing")),
        }
    }

    async fn claim(
        &self,
        secret: &DeviceSecret,
        place: &Place,
        challenge: &Bytes,
    ) -> Result<Bytes, CallError> {
        let ticket = place.ticket.as_ref().try_into().map_err(|_| not_understood("a ticket"))?;
        let message = claim_message(&SealedTicket::from_bytes(ticket), challenge);
        let request = v1::ClaimRequest {
            ticket: place.ticket.clone(),
            challenge: challenge.clone(),
            device_key: secret.public(),
            signature: secret.sign(&message),
            attestation: match &self.config.attest {
                Some(attest) => attest.statement(challenge).await,
                None => Bytes::new(),
            },
        };
        let calls = self.sign_up();
        let admitted = self
            .call(Tier::FinishSignUp, None, request, |request| {
                let mut calls = calls.clone();
                async move { calls.claim(request).await }
            })
            .await?;
        Ok(admitted.pass)
    }
}

impl Admission {
    /// When the turn had come that was claimed; `None` if that is not known, because an earlier one was missed.
    pub const fn turn_came(&self) -> Option<Instant> {
        self.turn_came
    }

    /// Signed for one number.
    pub(crate) fn of(&self, number: &PhoneNumber) -> Result<v1::Admission, CallError> {
        let pass = self.pass.as_ref().try_into().map_err(|_| not_understood("a pass"))?;
        let message = pass_message(&SealedPass::from_bytes(pass), number.as_e164().as_bytes());
        Ok(v1::Admission {
            pass: self.pass.clone(),
            device_key: self.secret.public(),
            signature: self.secret.sign(&message),
        })
    }
}

impl fmt::Debug for DeviceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceSecret(..)")
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admission(..)")
    }
}

fn wait(waiting: &v1::Waiting) -> Wait {
    let duration = |wire: Option<prost_types::Duration>| wire.and_then(|wire| Duration::try_from(wire).ok());
    Wait {
        ahead: waiting.ahead,
        range: duration(waiting.at_least).zip(duration(waiting.at_most)),
        poll_after: duration(waiting.poll_after).unwrap_or(POLL_AFTER),
        reason: waiting.reason(),
    }
}

async fn solve(puzzle: &v1::Puzzle) -> Result<v1::Work, CallError> {
    let challenge = puzzle.challenge.as_ref().try_into().map_err(|_| not_understood("a puzzle"))?;
    let bits = u8::try_from(puzzle.bits).map_err(|_| not_understood("a puzzle"))?;
    let puzzle = Puzzle { challenge, difficulty: Difficulty::new(bits) };
    let mut from = 0;
    loop {
        if let Some(counter) = puzzle.solve(from, HASHES) {
            return Ok(v1::Work { bits: bits.into(), counter });
        }
        from += HASHES;
        tokio::task::yield_now().await;
    }
}

fn not_understood(what: &str) -> CallError {
    Status::internal(format!("the service's answer cannot be used: {what}")).into()
}
