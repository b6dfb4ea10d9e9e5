//! Guesses codes.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use spillway_api::v1;
use spillway_client::{
    Admission, CallError, Client, ClientConfig, DeviceSecret, RetryPolicy, Standing, Verification,
};
use spillway_types::PhoneNumber;
use tokio::time::{Instant, sleep};

use super::{About, Cohort};
use crate::stats::{Operation, Outcome};
use crate::workload::{World, outcome};

pub(super) const ABOUT: About = About {
    name: "wrong-otp",
    operation: Operation("wrong_otp_check"),
    verb: "check",
    summary: "begins sign-ups of others' numbers, and guesses the codes",
    does: "Begins the sign-up of a number that is not its own, through the waiting room where there is one, and types wrong codes without a \
           pause until it is refused; then the next number. What was wanted is a number, what was asked for again is a guess. Its codes are sent \
           and cost money.",
    who: "Account thieves, who guess; and people whose code does not come, who type anything.",
    source: "after one failed code 37 % try again, after two 8 % (truecheck.co, a vendor's claim)",
    ceiling: "20 guesses and beginnings a second of the whole cohort",
};

/// Guesses and beginnings, of the whole cohort.
pub(super) const PER_S_MAX: f64 = 20.0;
/// Nobody signs up with these.
const NUMBERS_FROM: u64 = 300_000_000;
/// Numbers of one member.
const NUMBERS: u64 = 1_000;
/// Guesses at one number, if the service does not stop it before.
const GUESSES_MAX: u32 = 20;
/// After a beginning that was refused.
const PAUSE: Duration = Duration::from_secs(1);

/// Goes on until the load is over.
pub(super) async fn act(world: &World, index: u32) {
    let retry = RetryPolicy { attempts_max: 1, ..RetryPolicy::default() };
    let config = ClientConfig { retry, meter: None, ..world.client.clone() };
    let Ok(client) = Client::lazy(&world.address, config) else { return };
    for round in (0..NUMBERS).cycle() {
        let number = NUMBERS_FROM + u64::from(index) * NUMBERS + round;
        let Some(begun) = world.unless_closing(begin(world, &client, number)).await else { return };
        match begun {
            Ok(verification) => guess(world, &client, verification).await,
            Err(outcome) => {
                let now = Instant::now();
                world.stats().record(ABOUT.operation, now, now, now, outcome);
                sleep(PAUSE).await;
            }
        }
        if world.is_closing() {
            return;
        }
    }
}

/// The sign-up of somebody else's number.
async fn begin(world: &World, client: &Client, index: u64) -> Result<Verification, Outcome> {
    let cohort = Cohort::WrongOtp;
    let person = world.population.person(index);
    let number = PhoneNumber::parse(&person.number).map_err(|_| Outcome::Failed("not_a_number"))?;
    let failed = |error: CallError| outcome::of(&error);
    let admission = match world.room_required.load(Relaxed) {
        true => Some(admitted(world, client, index).await.map_err(failed)?),
        false => None,
    };
    world.crowd.turn(cohort).await;
    world.crowd.tally(cohort).attempt(0);
    let sms = v1::Transport::Sms;
    match &admission {
        Some(admission) => client.start_admitted_verification(&number, sms, admission).await,
        None => client.start_verification(&number, sms).await,
    }
    .map_err(failed)
}

/// All guesses at one number.
async fn guess(world: &World, client: &Client, mut verification: Verification) {
    let cohort = Cohort::WrongOtp;
    for guess in 0..GUESSES_MAX {
        world.crowd.turn(cohort).await;
        world.crowd.tally(cohort).attempt(guess + 1);
        let timer = world.stats().start(ABOUT.operation, Instant::now());
        let code = format!("{guess:06}");
        match world.unless_closing(client.check_code(&verification, &code)).await {
            // One in a million.
            Some(Ok(checked)) if checked.is_verified() => return timer.finish(Outcome::Failed("guessed")),
            Some(Ok(checked)) => {
                timer.finish(Outcome::Ok);
                if checked.checks_left() == 0 {
                    return;
                }
                verification = checked;
            }
            Some(Err(error)) => return timer.finish(outcome::of(&error)),
            None => return timer.finish(Outcome::StillWaiting),
        }
    }
}

/// Waits for a turn in the waiting room; the room's own figures are of newcomers.
async fn admitted(world: &World, client: &Client, index: u64) -> Result<Admission, CallError> {
    let secret = DeviceSecret::from_bytes(&world.population.device_secret(index));
    loop {
        let (mut place, mut standing) = client.enter(&secret).await?;
        loop {
            match standing {
                Standing::Admitted(admission) => return Ok(admission),
                Standing::Waiting(wait) => sleep(wait.poll_after).await,
                Standing::Over => break,
            }
            standing = client.poll(&secret, &mut place).await?;
        }
    }
}
