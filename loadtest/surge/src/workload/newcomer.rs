//! Somebody who comes from another messenger: signs up, looks for friends, writes to one, waits for the answer.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use spillway_api::{Reason, account_id, v1};
use spillway_client::{Admission, CallError, Client, Identity, Verification};
use spillway_types::PhoneNumber;
use tokio::time::{Instant, sleep, sleep_until};

use super::manner::{Manner, mistyped};
use super::receive::Inbox;
use super::sending::{Letter, send};
use super::{
    CHECK_CODE, CREATE_ACCOUNT, Counted, DISCOVER, FETCH_KEYS, FINISH_SIGN_UP, FIRST_SEND, RECEIVE_CODE,
    RESEND_CODE, START_VERIFICATION, Stage, WRONG_CODE, World, door, outcome, told_to_wait,
};
use crate::codes::ExpectedCode;
use crate::stats::{Outcome, Timer};
use crate::summary::SIGN_UP;

/// One newcomer's journey.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    pub index: u32,
    /// When the journey should begin.
    pub planned: Instant,
    /// How long to stay after the answer.
    pub linger: Duration,
}

impl Newcomer {
    /// The whole journey. True when every step succeeded.
    pub async fn travel(self, world: Arc<World>) -> bool {
        let Some((client, identity)) = sign_up(&world, self.index, self.planned).await else { return false };
        let mut inbox = Inbox::new(client.clone(), identity.clone());
        if inbox.open(&world).await.is_none() {
            return false;
        }
        let Some(friend) = find_friend(&world, &client, &identity, self.index).await else { return false };
        if !say_hello(&world, &client, &identity, self.index, friend).await {
            return false;
        }
        // The friend answers. An answer that was acknowledged and does not come is the ledger's business, so the
        // newcomer stays for it, at most to the end of the run.
        tokio::select! {
            () = world.over() => return false,
            _ = inbox.next(&world) => {}
        }
        tokio::select! {
            () = world.over() => {}
            () = tokio::time::sleep(self.linger) => {}
            _ = inbox.next(&world) => {}
        }
        true
    }
}

/// From nothing to an account: connection, the wait for a turn where there is one, verification, code, account. Timed as one from `planned`,
/// and by step.
pub async fn sign_up(world: &World, index: u32, planned: Instant) -> Option<(Client, Arc<Identity>)> {
    let timer = world.stats().start(SIGN_UP, planned);
    match steps(world, index).await {
        Ok(done) => {
            timer.finish(Outcome::Ok);
            Some(done)
        }
        Err(outcome) => {
            timer.finish(outcome);
            None
        }
    }
}

async fn steps(world: &World, index: u32) -> Result<(Client, Arc<Identity>), Outcome> {
    let person = world.population.person(u64::from(index));
    let number = PhoneNumber::parse(&person.number).map_err(|_| Outcome::Failed("not_a_number"))?;
    let client = world.connect().await.map_err(|_| Outcome::Failed("connect"))?;
    let admission = match world.room_required.load(Relaxed) {
        true => Some(door::admission(world, &client, index).await?),
        false => None,
    };
    let _finishing = Counted::begin(&world.finishing);
    let timer = world.stats().start(FINISH_SIGN_UP, Instant::now());
    match finish(world, &client, index, &number, admission).await {
        Ok(identity) => {
            timer.finish(Outcome::Ok);
            Ok((client, Arc::new(identity)))
        }
        Err(outcome) => {
            timer.finish(outcome);
            Err(outcome)
        }
    }
}

async fn finish(
    world: &World,
    client: &Client,
    index: u32,
    number: &PhoneNumber,
    admission: Option<Admission>,
) -> Result<Identity, Outcome> {
    let stats = world.stats();
    let step = |operation| stats.start(operation, Instant::now());
    let code = world.phones.expect(number.as_e164());
    let verification = knock(world, client, index, number, admission).await?;

    let timer = step(RECEIVE_CODE);
    let manner = Manner::of(world, index);
    let received = receive(world, client, number, verification, code, &manner).await;
    let Some((mut verification, code)) = received else {
        timer.finish(Outcome::Failed("no_code"));
        return Err(Outcome::Failed("no_code"));
    };
    timer.finish(Outcome::Ok);

    sleep(manner.type_after).await;
    for _ in 0..manner.mistakes {
        let timer = step(WRONG_CODE);
        verification = ended(timer, client.check_code(&verification, &mistyped(&code)).await)?;
        sleep(verification.next_check().unwrap_or_default()).await;
    }
    let timer = step(CHECK_CODE);
    let verification = ended(timer, client.check_code(&verification, &code).await)?;
    if !verification.is_verified() {
        return Err(Outcome::Failed("code_refused"));
    }
    let timer = step(CREATE_ACCOUNT);
    let device = world.population.device(u64::from(index));
    let enrolled = ended(timer, client.create_account(&verification, device).await)?;
    Ok(enrolled.identity)
}

/// Asks for a code. Who is told to come back later does, when he was told, for as long as the run lasts; who is sent to the waiting room goes there.
pub(super) async fn knock(
    world: &World,
    client: &Client,
    index: u32,
    number: &PhoneNumber,
    mut admission: Option<Admission>,
) -> Result<Verification, Outcome> {
    loop {
        let timer = world.stats().start(START_VERIFICATION, Instant::now());
        let asked = match &admission {
            Some(admission) => {
                client.start_admitted_verification(number, v1::Transport::Sms, admission).await
            }
            None => client.start_verification(number, v1::Transport::Sms).await,
        };
        let error = match asked {
            Ok(verification) => {
                timer.finish(Outcome::Ok);
                return Ok(verification);
            }
            Err(error) => error,
        };
        let outcome = outcome::of(&error);
        timer.finish(outcome);
        if admission.is_none() && error.refusal().is_some_and(|r| r.reason == Reason::WaitingRoom) {
            world.room_required.store(true, Relaxed);
            admission = Some(door::admission(world, client, index).await?);
            continue;
        }
        let Some(pause) = told_to_wait(&error) else { return Err(outcome) };
        // Whoever has waited for his turn does not give it away while anybody may begin to send.
        let leaves_at = if admission.is_some() { Stage::Quiet } else { Stage::Closing };
        tokio::select! {
            () = world.reached(leaves_at) => return Err(outcome),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Waits for the code until it is on the phone. Who asks again while it is on its way types the second one.
async fn receive(
    world: &World,
    client: &Client,
    number: &PhoneNumber,
    verification: Verification,
    code: ExpectedCode,
    manner: &Manner,
) -> Option<(Verification, String)> {
    let (verification, code) = from_provider(world, client, verification, code).await?;
    let on_its_way = Instant::now();
    let asks = verification.next_sms().filter(|next| manner.asks_again && *next < manner.code_delay);
    if let Some(next) = asks {
        sleep(next).await;
        let second = world.phones.expect(number.as_e164());
        let timer = world.stats().start(RESEND_CODE, Instant::now());
        if let Some(again) =
            outcome::finish(timer, client.resend_code(&verification, v1::Transport::Sms).await)
            && let Some(code) = second.within(world.habits.code_patience).await
        {
            sleep(manner.second_delay).await;
            return Some((again, code));
        }
    }
    sleep_until(on_its_way + manner.code_delay).await;
    Some((verification, code))
}

/// Waits until the provider has sent the code, and asks for another whenever that is allowed, as people do.
async fn from_provider(
    world: &World,
    client: &Client,
    mut verification: Verification,
    mut code: ExpectedCode,
) -> Option<(Verification, String)> {
    let until = Instant::now() + world.habits.code_patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let next = verification.next_sms().map(|next| next.max(world.habits.resend_after));
        let next = next.filter(|next| *next < left);
        if let Some(code) = code.wait(next.unwrap_or(left)).await {
            return Some((verification, code));
        }
        next?;
        let timer = world.stats().start(RESEND_CODE, Instant::now());
        match client.resend_code(&verification, v1::Transport::Sms).await {
            Ok(again) => {
                timer.finish(Outcome::Ok);
                verification = again;
            }
            Err(error) => {
                timer.finish(outcome::of(&error));
                // The first one may still come.
                let left = until.saturating_duration_since(Instant::now());
                return code.wait(left).await.map(|code| (verification, code));
            }
        }
    }
}

fn ended<T>(timer: Timer, result: Result<T, CallError>) -> Result<T, Outcome> {
    let outcome = result.as_ref().map_or_else(outcome::of, |_| Outcome::Ok);
    timer.finish(outcome);
    result.map_err(|_| outcome)
}

/// Somebody from the address book who has an account: which person, and which account.
async fn find_friend(
    world: &World,
    client: &Client,
    identity: &Identity,
    index: u32,
) -> Option<(u32, spillway_types::AccountId)> {
    let habits = &world.habits;
    let existing = u64::from(world.existing);
    let (book, known) = world.population.address_book(
        u64::from(index),
        habits.contacts,
        habits.contacts_registered,
        existing,
    );
    let timer = world.stats().start(DISCOVER, Instant::now());
    let matches = outcome::finish(timer, client.discover(identity, book).await)?;
    let mut found = matches.iter().filter_map(|found| {
        let friend = known.iter().find(|(number, _)| *number == found.number)?;
        Some((u32::try_from(friend.1).ok()?, account_id("account_id", &found.account_id).ok()?))
    });
    // Somebody who answers, if there is one.
    let first = found.next();
    let found = first.into_iter().chain(found).find(|(friend, _)| world.crowd.is_polite(*friend)).or(first);
    if found.is_none() {
        tracing::warn!(index, matches = matches.len(), "nobody in the address book was found");
    }
    found
}

async fn say_hello(
    world: &World,
    client: &Client,
    identity: &Identity,
    index: u32,
    (friend, account): (u32, spillway_types::AccountId),
) -> bool {
    let timer = world.stats().start(FETCH_KEYS, Instant::now());
    if outcome::finish(timer, client.fetch_keys(identity, account).await).is_none() {
        return false;
    }
    let letter = Letter { from: index, to: friend, to_account: account, bytes: None };
    send(world, client, identity, letter, FIRST_SEND, Instant::now()).await
}
