use std::time::Duration;

use spillway_api::v1::ClaimRequest;
use spillway_api::{Reason, Refusal, v1};
use spillway_rpc::ServiceError;
use spillway_types::{PhoneNumber, Timestamp};
use spillway_waiting_room::{
    ClaimError, PASS_LIFETIME, Pass, PassError, PassId, TicketError, Turn, WorkError, claim,
};
use tonic::Status;

use super::enter::device_key;
use super::poll::open;
use super::{ROOM, Room};
use crate::attestation::{Evidence, STATEMENT_BYTES_MAX, Verdict};
use crate::wire::wire_duration;

/// Why the room does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoomError {
    #[error("a device key has 32 bytes")]
    DeviceKey,
    #[error("a signature has 64 bytes")]
    Signature,
    #[error("nobody is asked for so many bits")]
    Difficulty,
    #[error(transparent)]
    Work(#[from] WorkError),
    #[error(transparent)]
    Ticket(#[from] TicketError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error("it is not this ticket's turn")]
    NotYourTurn,
    #[error("a statement of attestation has at most {STATEMENT_BYTES_MAX} bytes")]
    Statement,
    /// Not told apart from [`Self::NotYourTurn`] outside.
    #[error("the device is not genuine")]
    TurnedAway,
    #[error("it is not known whether the device is genuine")]
    NotJudged,
    #[error("an admission is needed")]
    NoAdmission,
    #[error("control does not answer")]
    Control(#[source] Status),
}

impl ServiceError for RoomError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotYourTurn | Self::TurnedAway => {
                Refusal::new(Reason::WaitingRoom, "poll: it is not this ticket's turn")
            }
            Self::NotJudged => Refusal::new(Reason::Unavailable, "devices cannot be checked at present")
                .retry_after(Some(JUDGED_SOON)),
            Self::NoAdmission => Refusal::new(Reason::WaitingRoom, "enter the waiting room first"),
            Self::Pass(PassError::Expired(_)) => {
                Refusal::new(Reason::WaitingRoom, "the pass is over; claim the ticket again, or enter anew")
            }
            Self::Control(_) => Refusal::new(Reason::Unavailable, "no places are given out at present"),
            error => Refusal::new(Reason::InvalidArgument, error.to_string()),
        }
    }
}

/// What a sign-up uses up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) place: PassId,
    /// For how long yet the same place may be shown again.
    pub(crate) shown_for: Duration,
}

/// Within the two minutes of a turn this is several tries.
const JUDGED_SOON: Duration = Duration::from_secs(5);

impl Room {
    pub(crate) async fn claim(&self, request: &v1::ClaimRequest) -> Result<v1::Admitted, RoomError> {
        let (now, clock) = (self.now(), self.0.clock.now());
        let keys = self.0.keys.at(clock);
        let (ticket, sealed) = open(&request.ticket, &keys, clock)?;
        let device = device_key(&request.device_key)?;
        let Turn::Called { publication, .. } = self.state().turn(&ticket, now, clock) else {
            return Err(RoomError::NotYourTurn);
        };
        let signature = signature(&request.signature)?;
        let pass = claim(&keys, &sealed, &ticket, &request.challenge, &device, &signature, clock)?;
        self.judge(request, &pass, clock).await?;
        let mut state = self.state();
        // A set that is full only miscounts.
        if state.claimed.use_up(&pass, clock).is_ok() {
            *state.claims.entry(publication).or_default() += 1;
        }
        drop(state);
        Ok(v1::Admitted {
            pass: pass.seal(&keys).as_bytes().to_vec().into(),
            expires_in: Some(wire_duration(PASS_LIFETIME)),
        })
    }

    async fn judge(&self, request: &v1::ClaimRequest, pass: &Pass, now: Timestamp) -> Result<(), RoomError> {
        let Some(judge) = &self.0.judge else { return Ok(()) };
        let ClaimRequest { attestation: statement, challenge, device_key, .. } = request;
        if statement.len() > STATEMENT_BYTES_MAX {
            return Err(RoomError::Statement);
        }
        if self.state().turned_away.holds(pass.id) {
            return Err(RoomError::TurnedAway);
        }
        match judge.judge(Evidence { statement, challenge, device_key }).await? {
            Verdict::Genuine => Ok(()),
            Verdict::Counterfeit => {
                // He is asked about again if it cannot be remembered.
                self.state().turned_away.use_up(pass, now).ok();
                Err(RoomError::TurnedAway)
            }
        }
    }

    /// Whether a sign-up of this number may begin, and what it uses up. Without an admission it may when none is required.
    pub(crate) fn admit(
        &self,
        admission: Option<&v1::Admission>,
        number: &PhoneNumber,
    ) -> Result<Option<Used>, RoomError> {
        let Some(admission) = admission else {
            return if self.is_required() { Err(RoomError::NoAdmission) } else { Ok(None) };
        };
        let clock = self.0.clock.now();
        let keys = self.0.keys.at(clock);
        let (device, signature) = (device_key(&admission.device_key)?, signature(&admission.signature)?);
        let purpose = number.as_e164().as_bytes();
        let pass = Pass::open(&admission.pass, &keys, ROOM, &device, purpose, &signature, clock)?;
        Ok(Some(Used { place: pass.id, shown_for: pass.place_shown_until().since(clock) }))
    }
}

fn signature(bytes: &[u8]) -> Result<[u8; 64], RoomError> {
    bytes.try_into().map_err(|_| RoomError::Signature)
}
