use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message as _;
use spillway_api::internal::v1 as internal;
use spillway_api::{Reason, v1};
use spillway_bus::{Bus, Event, Subject};
use spillway_store::accounts::NumberClaim;
use spillway_store::directory::{PutLog, WalkPage, WalkPosition};
use spillway_store::{Cas, Directory, Store, StoreError};
use spillway_types::{AccountId, NumberMac, PhoneNumber, Timestamp};
use tonic::Status;

use crate::scripted::Scripted;
use crate::world::{NUMBER, Node, OTHER_NUMBER, PATIENCE, World, config, next_call, reason};

fn account(enrolled: &internal::Enrolled) -> Vec<u8> {
    enrolled.device.as_ref().unwrap().account_id.to_vec()
}

fn mac(world: &World, number: &str) -> NumberMac {
    world.pepper.mac(&PhoneNumber::parse(number).unwrap())
}

async fn change(
    node: &Node,
    enrolled: &internal::Enrolled,
    session: &v1::VerificationSession,
) -> Result<(), Status> {
    let request = internal::ChangeNumberRequest {
        caller: enrolled.device.clone(),
        session_id: session.session_id.clone(),
    };
    node.client.clone().change_number(request).await.map(drop)
}

#[tokio::test]
async fn an_account_moves_to_a_new_number_and_frees_the_old_one() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let enrolled = node.sign_up(NUMBER, &mut calls).await;
    let session = node.start(OTHER_NUMBER).await;
    assert_eq!(reason(&change(&node, &enrolled, &session).await.unwrap_err()), Reason::NotVerified);
    let code = crate::world::next_call(&mut calls).await.code;
    node.check(&session, &code).await.unwrap();
    for _ in 0..2 {
        change(&node, &enrolled, &session).await.unwrap();
        assert_eq!(world.found_by(OTHER_NUMBER).await, Some(account(&enrolled)));
        assert_eq!(world.found_by(NUMBER).await, None);
    }
    node.authenticate(&enrolled.credential).await.unwrap();
    let used = node.create(&session).await.unwrap_err();
    assert_eq!(reason(&used), Reason::VerificationNotFound, "the session has done its work");
    let newcomer = node.sign_up(NUMBER, &mut calls).await;
    assert!(!newcomer.reregistered);
    assert_ne!(account(&newcomer), account(&enrolled));
}

#[tokio::test]
async fn a_number_of_another_account_is_taken() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let enrolled = node.sign_up(NUMBER, &mut calls).await;
    let owner = node.sign_up(OTHER_NUMBER, &mut calls).await;
    let session = node.prove(OTHER_NUMBER, &mut calls).await;
    assert_eq!(reason(&change(&node, &enrolled, &session).await.unwrap_err()), Reason::NumberTaken);
    assert_eq!(world.found_by(OTHER_NUMBER).await, Some(account(&owner)));
    assert_eq!(world.found_by(NUMBER).await, Some(account(&enrolled)));
}

/// A change of number stopped before it gave the old number up. Whoever proves that number must not get the account.
#[tokio::test]
async fn a_claim_left_behind_gives_no_account_away() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let enrolled = node.sign_up(NUMBER, &mut calls).await;
    let id = AccountId::try_from(&account(&enrolled)[..]).unwrap();
    let left = NumberClaim { number: mac(&world, OTHER_NUMBER), account: id };
    assert_eq!(world.store.accounts.claim(left).await.unwrap(), left);

    let newcomer = node.sign_up(OTHER_NUMBER, &mut calls).await;
    assert_ne!(account(&newcomer), account(&enrolled));
    assert!(!newcomer.reregistered);
    node.authenticate(&enrolled.credential).await.unwrap();
    assert_eq!(world.found_by(OTHER_NUMBER).await, Some(account(&newcomer)));

    let left = NumberClaim { number: mac(&world, "+4930123458"), account: id };
    assert_eq!(world.store.accounts.claim(left).await.unwrap(), left);
    let session = node.prove("+4930123458", &mut calls).await;
    change(&node, &newcomer, &session).await.unwrap();
    assert_eq!(world.found_by("+4930123458").await, Some(account(&newcomer)));
}

#[tokio::test]
async fn discoverability_is_what_was_said_last() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let enrolled = node.sign_up(NUMBER, &mut calls).await;
    for discoverable in [false, false, true, true] {
        let request = internal::SetDiscoverableRequest { caller: enrolled.device.clone(), discoverable };
        node.client.clone().set_discoverable(request).await.unwrap();
        assert_eq!(world.found_by(NUMBER).await, discoverable.then(|| account(&enrolled)));
    }
}

/// A directory before whose first write another worker hides the account, from beginning to end.
#[derive(Debug)]
struct Overtaken {
    inner: Store,
    armed: AtomicBool,
}

#[async_trait::async_trait]
impl Directory for Overtaken {
    async fn put(&self, number: NumberMac, id: AccountId) -> Result<(), StoreError> {
        if self.armed.swap(false, Ordering::SeqCst) {
            let mut account = self.inner.accounts.get(id).await?.unwrap();
            let expected = account.version;
            account.version = expected.next();
            account.discoverable = false;
            assert_eq!(self.inner.accounts.put(&account, Some(expected)).await?, Cas::Applied);
            self.inner.directory.remove(number, id).await?;
        }
        self.inner.directory.put(number, id).await
    }

    async fn remove(&self, number: NumberMac, id: AccountId) -> Result<(), StoreError> {
        self.inner.directory.remove(number, id).await
    }

    async fn lookup(&self, numbers: &[NumberMac]) -> Result<Vec<Option<AccountId>>, StoreError> {
        self.inner.directory.lookup(numbers).await
    }

    async fn walk(&self, from: &WalkPosition, at_most: NonZeroUsize) -> Result<WalkPage, StoreError> {
        self.inner.directory.walk(from, at_most).await
    }

    async fn put_between(&self, from: Timestamp, until: Timestamp) -> Result<PutLog, StoreError> {
        self.inner.directory.put_between(from, until).await
    }
}

#[tokio::test]
async fn the_directory_follows_whoever_changed_the_account_last() {
    let mut world = World::new();
    let overtaken = Overtaken { inner: world.store.clone(), armed: AtomicBool::new(true) };
    world.store.directory = Arc::new(overtaken);
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    node.sign_up(NUMBER, &mut calls).await;
    assert_eq!(world.found_by(NUMBER).await, None, "the account was hidden after it was made");
}

#[tokio::test]
async fn whoever_can_be_found_from_now_on_is_announced_by_his_hash() {
    let world = World::new();
    let mut listed = world.bus.subscribe(Subject::NumberListed).await.unwrap();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let enrolled = node.sign_up(NUMBER, &mut calls).await;
    let mut next = async || match tokio::time::timeout(PATIENCE, listed.next()).await.unwrap() {
        Some(Event::Hint(hint)) => internal::NumberListed::decode(hint).unwrap().number,
        other => panic!("not a hint: {other:?}"),
    };
    assert_eq!(next().await, &mac(&world, NUMBER).as_bytes()[..]);
    for discoverable in [false, true] {
        let request = internal::SetDiscoverableRequest { caller: enrolled.device.clone(), discoverable };
        node.client.clone().set_discoverable(request).await.unwrap();
    }
    // Only showing oneself is announced: hiding is read from the store.
    assert_eq!(next().await, &mac(&world, NUMBER).as_bytes()[..]);
    let session = node.prove(OTHER_NUMBER, &mut calls).await;
    change(&node, &enrolled, &session).await.unwrap();
    assert_eq!(next().await, &mac(&world, OTHER_NUMBER).as_bytes()[..]);
}

/// The number of an account changes while codes for the old and for the new one are out. Each code proves the number that it was sent to, in the
/// session that asked for it, and nothing else; an account that has moved is not touched by what becomes of its old number.
#[tokio::test]
async fn a_number_changes_while_codes_are_out() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let moving = node.sign_up(NUMBER, &mut calls).await;
    // Somebody asks for a code to the old number, and the account's owner for one to the new number, with a slip of the finger first.
    let old = node.start(NUMBER).await;
    let old_code = next_call(&mut calls).await;
    let slip = node.start("+4930123458").await;
    let slip_code = next_call(&mut calls).await;
    let new = node.start(OTHER_NUMBER).await;
    let new_code = next_call(&mut calls).await;
    assert_eq!((&*old_code.number, &*new_code.number), (NUMBER, OTHER_NUMBER));
    for (session, code) in [(&new, &slip_code.code), (&new, &old_code.code), (&old, &new_code.code)] {
        assert!(!node.check(session, code).await.unwrap().verified, "a code of another session");
    }
    assert!(node.check(&new, &new_code.code).await.unwrap().verified);
    change(&node, &moving, &new).await.unwrap();

    // The code that was out still proves the old number, which is nobody's now.
    assert!(node.check(&old, &old_code.code).await.unwrap().verified);
    let newcomer = node.create(&old).await.unwrap();
    assert!(!newcomer.reregistered);
    assert_ne!(account(&newcomer), account(&moving));
    node.authenticate(&moving.credential).await.unwrap();
    assert_eq!(world.found_by(OTHER_NUMBER).await, Some(account(&moving)));
    assert_eq!(world.found_by(NUMBER).await, Some(account(&newcomer)));
    // And the slip harms nobody: its code opens an account of its own number, for whoever has it.
    assert!(node.check(&slip, &slip_code.code).await.unwrap().verified);
    assert!(!node.create(&slip).await.unwrap().reregistered);
}
