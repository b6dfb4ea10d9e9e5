//! `SignUp`: the waiting room, quotas by number and network, then registration.
//!
//! Tries at a code are counted twice: by registration with each session, where a restart does not forget them, and
//! here over all sessions of a number, which the session's secret names by a tag.

use bytes::Bytes;
use spillway_admission::{Key, Limit};
use spillway_api::internal::v1::{Pass, StartVerificationRequest};
use spillway_api::v1::place::State;
use spillway_api::{FieldError, v1, verification_secret};
use spillway_types::{NumberTag, PhoneNumber};

use crate::Parts;
use crate::arrival::Arrival;
use crate::forward::{ForwardError, answered};
use crate::metrics::RoomAnswer;
use crate::room::{RoomError, Used};
use crate::wire::wire_duration;

impl Parts {
    pub(crate) async fn start_verification(
        &self,
        arrival: &Arrival,
        request: v1::StartVerificationRequest,
    ) -> Result<v1::VerificationSession, ForwardError> {
        let number = PhoneNumber::parse(&request.number)
            .map_err(|error| ForwardError::Field(FieldError::new("number", error)))?;
        let used = self.room.admit(request.admission.as_ref(), &number).map_err(ForwardError::Room)?;
        self.charge_network(arrival)?;
        self.draw(Limit::VerificationStart, &Key::Number(&number), 1)?;
        let request = StartVerificationRequest {
            number: request.number,
            transport: request.transport,
            pass: used.map(pass),
            network: self
                .room
                .network(arrival)
                .map_or_else(Bytes::new, |network| network.as_bytes().to_vec().into()),
        };
        answered(self.registration.clone().start_verification(request).await)
    }

    pub(crate) async fn enter(
        &self,
        arrival: &Arrival,
        request: v1::EnterRequest,
    ) -> Result<v1::Place, ForwardError> {
        let place = self.room.enter(arrival, request).await;
        self.metrics.room.count(RoomAnswer::of(&place));
        place.map_err(ForwardError::Room)
    }

    pub(crate) fn poll(&self, request: &v1::PollRequest) -> Result<v1::Place, ForwardError> {
        let place = self.room.poll(request);
        self.metrics.room.count(RoomAnswer::of(&place));
        place.map_err(ForwardError::Room)
    }

    pub(crate) async fn claim(&self, request: &v1::ClaimRequest) -> Result<v1::Admitted, ForwardError> {
        let admitted = self.room.claim(request).await;
        let answer = match &admitted {
            Ok(_) => RoomAnswer::Admitted,
            Err(RoomError::TurnedAway) => RoomAnswer::TurnedAway,
            Err(_) => RoomAnswer::Refused,
        };
        self.metrics.room.count(answer);
        admitted.map_err(ForwardError::Room)
    }

    /// A resend may cost a text message like a start does. Its number is registration's to limit.
    pub(crate) async fn resend_code(
        &self,
        arrival: &Arrival,
        request: v1::ResendCodeRequest,
    ) -> Result<v1::VerificationSession, ForwardError> {
        self.charge_network(arrival)?;
        answered(self.registration.clone().resend_code(request).await)
    }

    pub(crate) async fn check_code(
        &self,
        request: v1::CheckCodeRequest,
    ) -> Result<v1::VerificationSession, ForwardError> {
        let session = verification_secret("session_id", &request.session_id).map_err(ForwardError::Field)?;
        self.draw(Limit::CodeCheck, &Key::NumberTag(NumberTag::of_session(&session)), 1)?;
        answered(self.registration.clone().check_code(request).await)
    }

    pub(crate) async fn create_account(
        &self,
        request: v1::CreateAccountRequest,
    ) -> Result<v1::CreateAccountResponse, ForwardError> {
        let enrolled = answered(self.registration.clone().create_account(request).await)?;
        let (address, token) = self.first_token(&enrolled)?;
        Ok(v1::CreateAccountResponse {
            account_id: address.account.as_bytes().to_vec().into(),
            device_id: address.device.into(),
            credential: enrolled.credential,
            token: token.text,
            token_expires_in: Some(wire_duration(token.expires_in)),
            reregistered: enrolled.reregistered,
        })
    }

    fn charge_network(&self, arrival: &Arrival) -> Result<(), ForwardError> {
        let Some(network) = arrival.network else { return Ok(()) };
        self.draw(Limit::VerificationStartNetwork, &Key::Network(network), 1)
    }
}

fn pass(used: Used) -> Pass {
    Pass {
        room: used.place.room.0.into(),
        number: used.place.seq,
        shown_for: Some(wire_duration(used.shown_for)),
    }
}

impl RoomAnswer {
    fn of(place: &Result<v1::Place, RoomError>) -> Self {
        match place.as_ref().ok().and_then(|place| place.state.as_ref()) {
            Some(State::Puzzle(_)) => Self::Puzzle,
            Some(State::Waiting(_)) => Self::Waiting,
            Some(State::Called(_)) => Self::Called,
            Some(State::Over(_)) => Self::Over,
            None => Self::Refused,
        }
    }
}
