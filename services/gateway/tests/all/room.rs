//! The waiting room at a gateway, with a control that is scripted and the reference client's half of the door.

use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use prost::Message as _;
use spillway_api::internal::v1::{ControlState, RoomBound, RoomMode, RoomPool, RoomState};
use spillway_api::v1::place::State;
use spillway_api::{Reason, Refusal, v1};
use spillway_bus::{Bus as _, Subject};
use spillway_gateway::{Config, RoomConfig};
use spillway_types::Clock as _;
use spillway_waiting_room::{Difficulty, Puzzle, SealedPass, SealedTicket, claim_message, pass_message};
use tonic::Response;

use super::support::{Node, assert_refused, refusal};

const NUMBER: &str = "+4930123456";

fn required() -> Node {
    let room = RoomConfig { required: true, ..RoomConfig::default() };
    Node::with(Config { room, ..Config::default() }, Default::default())
}

pub(crate) struct Phone(SigningKey);

impl Phone {
    pub(crate) fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    fn key(&self) -> Vec<u8> {
        self.0.verifying_key().to_bytes().to_vec()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).to_bytes().to_vec()
    }

    async fn ask(&self, node: &Node, work: Option<v1::Work>) -> Result<v1::Place, Refusal> {
        let request = v1::EnterRequest { device_key: self.key().into(), work };
        node.sign_up().enter(request).await.map(Response::into_inner).map_err(refusal)
    }

    pub(crate) async fn enter(&self, node: &Node) -> Result<v1::Place, Refusal> {
        let Some(State::Puzzle(puzzle)) = self.ask(node, None).await?.state else { panic!("no puzzle") };
        self.ask(node, Some(solve(&puzzle))).await
    }

    async fn claim(&self, node: &Node, place: &v1::Place) -> Result<v1::Admitted, Refusal> {
        self.claim_with(node, place, b"").await
    }

    pub(crate) async fn claim_with(
        &self,
        node: &Node,
        place: &v1::Place,
        attestation: &[u8],
    ) -> Result<v1::Admitted, Refusal> {
        let Some(State::Called(called)) = &place.state else { panic!("not called: {place:?}") };
        let ticket = SealedTicket::from_bytes(place.ticket.as_ref().try_into().unwrap());
        let signature = self.sign(&claim_message(&ticket, &called.challenge));
        let request = v1::ClaimRequest {
            ticket: place.ticket.clone(),
            challenge: called.challenge.clone(),
            device_key: self.key().into(),
            signature: signature.into(),
            attestation: attestation.to_vec().into(),
        };
        node.sign_up().claim(request).await.map(Response::into_inner).map_err(refusal)
    }

    fn admission(&self, admitted: &v1::Admitted, number: &str) -> v1::Admission {
        let pass = SealedPass::from_bytes(admitted.pass.as_ref().try_into().unwrap());
        v1::Admission {
            pass: admitted.pass.clone(),
            device_key: self.key().into(),
            signature: self.sign(&pass_message(&pass, number.as_bytes())).into(),
        }
    }
}

fn solve(puzzle: &v1::Puzzle) -> v1::Work {
    let challenge = puzzle.challenge.as_ref().try_into().unwrap();
    let difficulty = Difficulty::new(u8::try_from(puzzle.bits).unwrap());
    let counter = Puzzle { challenge, difficulty }.solve(0, u64::MAX).unwrap();
    v1::Work { bits: puzzle.bits, counter }
}

async fn start(node: &Node, number: &str, admission: Option<v1::Admission>) -> Result<(), Refusal> {
    let request = v1::StartVerificationRequest { number: number.to_owned(), admission, ..Default::default() };
    node.sign_up().start_verification(request).await.map(drop).map_err(refusal)
}

pub(crate) async fn poll(node: &Node, place: &v1::Place) -> Result<v1::Place, Refusal> {
    let request = v1::PollRequest { ticket: place.ticket.clone(), ..Default::default() };
    node.sign_up().poll(request).await.map(Response::into_inner).map_err(refusal)
}

/// Control calls up to `frontier`, one place a second from there.
pub(crate) async fn publish(node: &Node, number: u64, frontier: u64) {
    publish_state(node, room_at(number, frontier)).await;
}

/// The same, at this speed because of this bound.
async fn publish_bound(node: &Node, number: u64, frontier: u64, rate: f64, bound: RoomBound) {
    let room = RoomState { speed: rate, rate, bound: bound.into(), ..room_at(number, frontier) };
    publish_state(node, room).await;
}

fn room_at(number: u64, frontier: u64) -> RoomState {
    RoomState {
        number,
        frontier,
        speed: 1.0,
        rate: 1.0,
        bound: RoomBound::Gateways.into(),
        show_up: 1.0,
        floor: 0.1,
        mode: RoomMode::Paced.into(),
        issued: 1_000,
        marks: vec![0; 4],
        pace: 1.0,
        slow: 0.8,
        fast: 1.2,
        low: 1.0,
        high: 1.0,
        stretch: 1.0,
        polls_per_gateway: 100.0,
        knot_places: vec![frontier, 1_000],
        knot_counts: vec![0.0, (1_000 - frontier) as f64],
        ..RoomState::default()
    }
}

async fn publish_state(node: &Node, room: RoomState) {
    // Until the gateway listens.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let state = ControlState { token: 1, room: Some(room), ..ControlState::default() };
    node.bus.publish(Subject::Control, state.encode_to_vec().into()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_place_becomes_an_admission_and_that_lets_one_number_in() {
    let node = required();
    assert_refused(start(&node, NUMBER, None).await, Reason::WaitingRoom);
    publish(&node, 1, 5).await;
    let phone = Phone::new(1);
    let place = phone.enter(&node).await.unwrap();
    let admitted = phone.claim(&node, &place).await.unwrap();
    start(&node, NUMBER, Some(phone.admission(&admitted, NUMBER))).await.unwrap();
    let passes: Vec<_> = node.registration.state().passes.clone();
    assert_eq!(passes.len(), 1);
    let pass = passes[0].as_ref().unwrap();
    assert_eq!(pass.number, 1, "the first of all numbers");
    // An hour in which the ticket is claimed, the ten minutes of a pass, and what clocks differ by.
    let shown_for = pass.shown_for.as_ref().unwrap();
    assert_eq!((shown_for.seconds, shown_for.nanos), (3_600 + 600 + 5, 0));

    let other = start(&node, "+4930123457", Some(phone.admission(&admitted, NUMBER))).await;
    assert_refused(other, Reason::InvalidArgument);
    let stolen = Phone::new(2).admission(&admitted, NUMBER);
    assert_refused(start(&node, NUMBER, Some(stolen)).await, Reason::InvalidArgument);
    let mut forged = phone.admission(&admitted, NUMBER);
    forged.pass = forged.pass.iter().map(|byte| byte ^ 1).collect();
    assert_refused(start(&node, NUMBER, Some(forged)).await, Reason::InvalidArgument);
    assert_eq!(node.registration.state().starts, 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_how_long_and_is_called_in_order() {
    let node = required();
    publish(&node, 1, 2).await;
    let mut places = Vec::new();
    for seed in 1..=30 {
        places.push(Phone::new(seed).enter(&node).await.unwrap());
    }
    assert!(matches!(places[1].state, Some(State::Called(_))), "{:?}", places[1]);
    let Some(State::Waiting(waiting)) = &places[29].state else { panic!("{:?}", places[29]) };
    assert!((20..=28).contains(&waiting.ahead), "{waiting:?}");
    let seconds = |wire: &Option<prost_types::Duration>| wire.as_ref().unwrap().seconds;
    assert!(seconds(&waiting.at_least) <= 28 && 28 <= seconds(&waiting.at_most) + 10, "{waiting:?}");
    assert!((8..=12).contains(&seconds(&waiting.poll_after)), "{waiting:?}");
    let refused = Phone::new(30).claim_early(&node, &places[29]).await;
    assert_refused(refused, Reason::WaitingRoom);

    tokio::time::advance(Duration::from_secs(20)).await;
    let mut called = 0;
    for place in &places {
        let is_called = matches!(poll(&node, place).await.unwrap().state, Some(State::Called(_)));
        assert!(called == 0 || is_called == (called < 30 && is_called), "in order");
        called += usize::from(is_called);
    }
    assert!((20..=24).contains(&called), "{called} are called after 20 s");
}

impl Phone {
    async fn claim_early(&self, node: &Node, place: &v1::Place) -> Result<v1::Admitted, Refusal> {
        let request = v1::ClaimRequest {
            ticket: place.ticket.clone(),
            challenge: vec![0; 25].into(),
            device_key: self.key().into(),
            signature: vec![0; 64].into(),
            ..v1::ClaimRequest::default()
        };
        node.sign_up().claim(request).await.map(Response::into_inner).map_err(refusal)
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_survives_the_gateway_that_gave_it() {
    let (before, after) = (required(), required());
    publish(&before, 1, 0).await;
    let (phone, thief) = (Phone::new(1), Phone::new(2));
    let place = phone.enter(&before).await.unwrap();
    drop(before);
    // Nothing has been heard yet: the place is good, and the wait is not known.
    let waiting = poll(&after, &place).await.unwrap();
    let Some(State::Waiting(unknown)) = &waiting.state else { panic!("{waiting:?}") };
    assert_eq!((unknown.reason(), &unknown.at_most), (v1::WaitReason::ControlGone, &None));
    publish(&after, 9, 100).await;
    let called = poll(&after, &place).await.unwrap();
    assert_refused(thief.claim(&after, &called).await, Reason::InvalidArgument);
    phone.claim(&after, &called).await.unwrap();
    phone.claim(&after, &called).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let counted: u64 = after
        .control
        .state()
        .reports
        .iter()
        .flat_map(|report| &report.claimed)
        .map(|claim| claim.count)
        .sum();
    assert_eq!(counted, 1, "whoever claims twice counts once");
}

#[tokio::test(start_paused = true)]
async fn places_are_drawn_when_a_scheduled_opening_comes() {
    let node = required();
    let opens_in = Duration::from_secs(600);
    let opens_at = node.clock.now().saturating_add(opens_in);
    let closed = RoomState {
        mode: RoomMode::NotOpen.into(),
        pool: Some(RoomPool { first: 1, count: 0 }),
        opens_at_us: opens_at.as_micros(),
        ..room_at(1, 0)
    };
    publish_state(&node, closed).await;
    let mut places = Vec::new();
    for seed in 1..=40 {
        places.push(Phone::new(seed).enter(&node).await.unwrap());
    }
    let Some(State::Waiting(waiting)) = &places[0].state else { panic!("{:?}", places[0]) };
    assert_eq!(waiting.reason(), v1::WaitReason::NotOpen);
    assert_eq!(waiting.at_least.as_ref().unwrap().seconds, 600);
    assert!(waiting.at_most.as_ref().unwrap().seconds > 600);

    // Another gateway, which has seen none of them.
    let other = required();
    let mut called = Vec::new();
    for node in [&node, &other] {
        publish_state(node, RoomState { pool: Some(RoomPool { first: 1, count: 40 }), ..room_at(2, 10) })
            .await;
        let mut here = Vec::new();
        for (at, place) in places.iter().enumerate() {
            if matches!(poll(node, place).await.unwrap().state, Some(State::Called(_))) {
                here.push(at);
            }
        }
        called.push(here);
    }
    assert_eq!(called[0].len(), 10, "{called:?}");
    assert_eq!(called[0], called[1], "the draw is the same everywhere");
    assert_ne!(called[0], (0..10).collect::<Vec<_>>(), "and has nothing to do with who came first");
    let first = called[0][0];
    let place = poll(&node, &places[first]).await.unwrap();
    Phone::new(u8::try_from(first + 1).unwrap()).claim(&node, &place).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn tickets_that_are_none_are_refused() {
    let node = required();
    publish(&node, 1, 0).await;
    let place = Phone::new(1).enter(&node).await.unwrap();
    for at in 0..place.ticket.len() {
        let mut ticket = place.ticket.to_vec();
        ticket[at] ^= 1;
        let forged = v1::Place { ticket: ticket.into(), state: None };
        assert_refused(poll(&node, &forged).await, Reason::InvalidArgument);
    }
    let short = v1::Place { ticket: place.ticket.slice(1..), state: None };
    assert_refused(poll(&node, &short).await, Reason::InvalidArgument);
    node.clock.advance(Duration::from_secs(24 * 3_600));
    let late = poll(&node, &place).await;
    let over = matches!(&late, Ok(v1::Place { state: Some(State::Over(_)), .. }));
    assert!(over, "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_place_costs_work_of_this_device() {
    let node = required();
    publish(&node, 1, 0).await;
    let (phone, other) = (Phone::new(1), Phone::new(2));
    let Some(State::Puzzle(puzzle)) = phone.ask(&node, None).await.unwrap().state else {
        panic!("no puzzle")
    };
    let work = solve(&puzzle);
    let wrong = v1::Work { counter: work.counter + 1, ..work };
    assert_refused(phone.ask(&node, Some(wrong)).await, Reason::InvalidArgument);
    assert_refused(phone.ask(&node, Some(v1::Work { bits: 1, ..work })).await, Reason::InvalidArgument);
    assert_refused(phone.ask(&node, Some(v1::Work { bits: 64, ..work })).await, Reason::InvalidArgument);
    assert_refused(other.ask(&node, Some(work)).await, Reason::InvalidArgument);
    assert!(phone.ask(&node, Some(work)).await.is_ok());
    assert_eq!(node.control.state().reports.iter().filter(|report| report.wanted > 0).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn numbers_come_from_whoever_holds_the_lease() {
    let node = required();
    publish(&node, 1, 0).await;
    node.control.state().not_the_holder = 3;
    Phone::new(1).enter(&node).await.unwrap();
    assert_eq!(node.control.state().refused, 3);
    node.control.state().not_the_holder = usize::MAX;
    // The numbers of a block are good for a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let refused = assert_refused(Phone::new(2).enter(&node).await, Reason::Unavailable);
    assert!(refused.message.contains("no places"), "{refused:?}");
    node.control.state().not_the_holder = 0;
    Phone::new(2).enter(&node).await.unwrap();
    let state = node.control.state();
    let mut serials: Vec<_> = state.reports.iter().map(|report| report.serial).collect();
    serials.dedup();
    assert!(serials.is_sorted() && serials.len() > 2, "{serials:?}");
}

/// Nobody is let in because no code can be sent, or paid for: whoever waits is told so, and everybody by the status.
#[tokio::test(start_paused = true)]
async fn who_waits_for_codes_or_money_is_told_so() {
    let node = required();
    publish(&node, 1, 0).await;
    let place = Phone::new(1).enter(&node).await.unwrap();
    let reasons = [
        (2, RoomBound::Budget, v1::WaitReason::Budget, "budget"),
        (3, RoomBound::Provider, v1::WaitReason::Codes, "provider"),
    ];
    for (number, bound, reason, name) in reasons {
        publish_bound(&node, number, 0, 0.0, bound).await;
        let waiting = poll(&node, &place).await.unwrap();
        let Some(State::Waiting(waiting)) = &waiting.state else { panic!("{waiting:?}") };
        assert_eq!(waiting.reason(), reason, "{waiting:?}");
        let status = node.status().get(v1::GetStatusRequest {}).await.unwrap().into_inner();
        let sign_ups = status.sign_ups.unwrap();
        assert_eq!((sign_ups.per_second, &*sign_ups.bounded_by, sign_ups.is_held), (Some(0.0), name, false));
    }
    publish_bound(&node, 4, 0, 5.0, RoomBound::Budget).await;
    let waiting = poll(&node, &place).await.unwrap();
    assert!(
        !matches!(waiting.state, Some(State::Waiting(waiting)) if waiting.reason() == v1::WaitReason::Budget)
    );
}
