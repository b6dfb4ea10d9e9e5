//! What a gateway tells control, and the numbers that it gets for it.

use std::ops::RangeInclusive;
use std::time::Duration;

use spillway_admission::{Tier, View};
use spillway_api::internal::v1::{
    ClaimCount, LentNumbers, NumberRange, PresenceBlock, ReportRoomRequest, ReportRoomResponse,
};
use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use spillway_waiting_room::{Bits, Block, Lent, block_for};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tonic::{Request, Status};

use super::judge::Judge;
use super::{Room, RoomError};

/// Numbers that have been lent, and what control has not confirmed.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    block: Option<Block>,
    abandoned: Vec<RangeInclusive<u64>>,
    serial: u64,
    unconfirmed: Option<ReportRoomRequest>,
    /// Numbers given out since the last second, and in the one before.
    given: u32,
    given_before: u32,
}

const EVERY: Duration = Duration::from_secs(1);
/// Any process of the role is asked, and only one of them answers; a change of holder takes some seconds, which nobody is made to wait for.
const TRIES: u32 = 8;
const TRY_PAUSE: Duration = Duration::from_millis(25);
const CALL_MAX: Duration = Duration::from_millis(500);
/// Calls of an ordinary sign-up: start, check, create.
const CALLS_OF_A_SIGN_UP: f64 = 3.0;
/// The floors of tiers 5 and 6, and what they may take of the rest: `reference/overload.md` b.10.
const FLOORS: f64 = 0.05;
const OF_THE_REST: f64 = 0.5;

impl Room {
    pub(crate) fn report_each_second(&self, tasks: &Tasks) {
        let (room, cancelled) = (self.clone(), tasks.cancelled());
        tasks.spawn("waiting room reports", async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tokio::pin!(cancelled);
            let mut failing = false;
            loop {
                tokio::select! {
                    () = &mut cancelled => break,
                    _ = ticks.tick() => {}
                }
                room.state().ask(&room.0.law);
                match room.report().await {
                    Ok(()) => failing = false,
                    Err(error) if !failing => {
                        tracing::warn!(error = %Chain(&error), "control hears nothing of the waiting room here");
                        failing = true;
                    }
                    Err(_) => {}
                }
            }
        });
    }

    async fn report(&self) -> Result<(), RoomError> {
        let mut numbers = self.0.numbers.lock().await;
        numbers.given_before = std::mem::take(&mut numbers.given);
        let now = self.now();
        if numbers.block.as_ref().is_some_and(|block| block.is_over(now)) {
            numbers.abandon();
        }
        self.exchange(&mut numbers, 0).await
    }

    /// The next number of the order.
    pub(super) async fn number(&self) -> Result<u64, RoomError> {
        let mut numbers = self.0.numbers.lock().await;
        loop {
            let now = self.now();
            if let Some(Ok(number)) = numbers.block.as_mut().map(|block| block.take(now)) {
                numbers.given += 1;
                return Ok(number);
            }
            numbers.abandon();
            let rate = numbers.given.max(numbers.given_before);
            self.exchange(&mut numbers, block_for(rate.into())).await?;
        }
    }

    async fn exchange(&self, numbers: &mut Numbers, wanted: u32) -> Result<(), RoomError> {
        // What control may or may not have heard goes first, as it was.
        if let Some(report) = numbers.unconfirmed.clone() {
            self.send(numbers, report).await?;
            if wanted == 0 || numbers.block.is_some() {
                return Ok(());
            }
        }
        let report = self.next_report(numbers, wanted);
        numbers.unconfirmed = Some(report.clone());
        self.send(numbers, report).await
    }

    async fn send(&self, numbers: &mut Numbers, report: ReportRoomRequest) -> Result<(), RoomError> {
        let mut failure = Status::deadline_exceeded("no answer");
        for attempt in 0..TRIES {
            if attempt > 0 {
                sleep(TRY_PAUSE * attempt).await;
            }
            let asked = (self.now(), Instant::now());
            let mut control = self.0.control.clone();
            match timeout(CALL_MAX, control.report_room(Request::new(report.clone()))).await {
                Ok(Ok(answer)) => {
                    numbers.unconfirmed = None;
                    let ReportRoomResponse { lent } = answer.into_inner();
                    numbers.block = lent.map(|lent| Block::new(read(lent), asked.0)).or(numbers.block.take());
                    return Ok(());
                }
                Ok(Err(status)) => failure = status,
                Err(_elapsed) => {}
            }
            if asked.1.elapsed() >= CALL_MAX {
                break;
            }
        }
        Err(RoomError::Control(failure))
    }

    fn next_report(&self, numbers: &mut Numbers, wanted: u32) -> ReportRoomRequest {
        numbers.serial += 1;
        let mut state = self.state();
        let block = |(block, bits): (u64, Bits)| PresenceBlock { block, words: bits.to_vec() };
        let count = |(publication, count)| ClaimCount { publication, count };
        let range = |range: RangeInclusive<u64>| NumberRange { first: *range.start(), last: *range.end() };
        let (refusing, spare) = self.room_for_newcomers();
        ReportRoomRequest {
            process_id: self.0.process.to_vec().into(),
            serial: numbers.serial,
            issued: state.issued,
            abandoned: numbers.abandoned.drain(..).map(range).collect(),
            claimed: std::mem::take(&mut state.claims).into_iter().map(count).collect(),
            refusing,
            spare,
            presence: std::mem::take(&mut state.ended).into_iter().map(block).collect(),
            wanted,
        }
    }

    /// Whether existing users are being refused here, or sign-ups are switched off; and how many sign-ups a second there is room for.
    fn room_for_newcomers(&self) -> (bool, Option<f64>) {
        let view = self.0.hop.admission().view();
        let open = |tier: Tier| view.thresholds[tier as usize].openness(tier);
        let existing = [Tier::Ack, Tier::Resume, Tier::Send, Tier::Lookup];
        let refusing = existing.into_iter().any(|tier| open(tier) < 1.0);
        let closed = view.steering.closes(Tier::StartSignUp);
        let held = self.0.judge.as_ref().is_some_and(Judge::holds_all);
        let spare = if held { Some(0.0) } else { spare(&view) };
        (refusing || closed, spare)
    }
}

/// Sign-ups a second. `None`: as many as like.
fn spare(view: &View) -> Option<f64> {
    let capacity = view.capacity?;
    let rest = (capacity - view.offered).max(0.0);
    Some((FLOORS * capacity + OF_THE_REST * rest) / CALLS_OF_A_SIGN_UP)
}

impl Numbers {
    fn abandon(&mut self) {
        self.abandoned.extend(self.block.take().and_then(Block::abandon));
    }
}

fn read(lent: LentNumbers) -> Lent {
    Lent { epoch: lent.token, first: lent.first, count: lent.count }
}
