//! Somebody who comes from another messenger: signs up, looks for friends, writes to one, waits for the answer.

use std::sync::Arc;
use std::time::Duration;

use spillway_api::{Reason, account_id, v1};
use spillway_client::{CallError, Client, Identity, Verification};
use spillway_types::PhoneNumber;
use tokio::time::Instant;

use super::receive::Inbox;
use super::sending::{Letter, send};
use super::{
    CHECK_CODE, CREATE_ACCOUNT, DISCOVER, FETCH_KEYS, FIRST_SEND, RECEIVE_CODE, START_VERIFICATION, Stage,
    World, outcome,
};
use crate::stats::Outcome;
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

/// From nothing to an account: connection, verification, code, account. Timed as one from `planned`, and by step.
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
    let stats = world.stats();
    let step = |operation| stats.start(operation, Instant::now());

    let code = world.phones.expect(&person.number);
    let verification = knock(world, &client, &number).await?;

    let timer = step(RECEIVE_CODE);
    let Some(code) = code.within(world.habits.code_patience).await else {
        timer.finish(Outcome::Failed("no_code"));
        return Err(Outcome::Failed("no_code"));
    };
    timer.finish(Outcome::Ok);

    let timer = step(CHECK_CODE);
    let verification = ended(timer, client.check_code(&verification, &code).await)?;
    if !verification.is_verified() {
        return Err(Outcome::Failed("code_refused"));
    }
    let timer = step(CREATE_ACCOUNT);
    let device = world.population.device(u64::from(index));
    let enrolled = ended(timer, client.create_account(&verification, device).await)?;
    Ok((client, Arc::new(enrolled.identity)))
}

/// Asks for a code. Who is told to come back later does, when he was told, for as long as the run lasts.
async fn knock(world: &World, client: &Client, number: &PhoneNumber) -> Result<Verification, Outcome> {
    loop {
        let timer = world.stats().start(START_VERIFICATION, Instant::now());
        let error = match client.start_verification(number, v1::Transport::Sms).await {
            Ok(verification) => {
                timer.finish(Outcome::Ok);
                return Ok(verification);
            }
            Err(error) => error,
        };
        let outcome = outcome::of(&error);
        timer.finish(outcome);
        let Some(pause) = told_to_wait(&error) else { return Err(outcome) };
        tokio::select! {
            () = world.reached(Stage::Closing) => return Err(outcome),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How long, if the service had no room. Whoever asks too often, or wrongly, gives up.
fn told_to_wait(error: &CallError) -> Option<Duration> {
    match error {
        CallError::HeldBack { retry_after } => Some(*retry_after),
        CallError::Refused(refusal) if refusal.reason == Reason::Overload => refusal.retry_after,
        CallError::Refused(_) | CallError::Transport(_) => None,
    }
}

fn ended<T>(timer: crate::stats::Timer, result: Result<T, CallError>) -> Result<T, Outcome> {
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
    let found = matches.iter().find_map(|found| {
        let friend = known.iter().find(|(number, _)| *number == found.number)?;
        Some((u32::try_from(friend.1).ok()?, account_id("account_id", &found.account_id).ok()?))
    });
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
    let letter = Letter { from: index, to: friend, to_account: account };
    send(world, client, identity, letter, FIRST_SEND, Instant::now()).await
}
