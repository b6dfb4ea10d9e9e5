use std::time::Duration;

use futures::future::join_all;
use prost::Message;
use spillway_api::Reason;
use spillway_api::internal::v1 as internal;
use spillway_bus::{Bus, Event, Subject};
use spillway_store::accounts::NumberClaim;
use spillway_types::{AccountId, Clock as _, MailboxId, PhoneNumber, Timestamp};

use crate::scripted::Scripted;
use crate::world::{NUMBER, PATIENCE, World, config, new_account, next_call, prekeys, reason, until};

/// Since when its mailbox can have had mail.
fn born(enrolled: &internal::Enrolled) -> Option<Timestamp> {
    MailboxId::try_from(&enrolled.mailbox_id[..]).unwrap().minted_at()
}

#[tokio::test]
async fn creating_twice_gives_the_same_account_and_credential() {
    let world = World::new();
    let began = world.clock.now();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let session = node.start(NUMBER).await;
    let code = next_call(&mut calls).await.code;
    assert_eq!(reason(&node.create(&session).await.unwrap_err()), Reason::NotVerified);
    node.check(&session, &code).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    let first = node.create(&session).await.unwrap();
    assert!(!first.reregistered);
    assert_eq!(born(&first), Some(began), "the session's time, which each repetition knows");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(node.create(&session).await.unwrap(), first);
    let both = join_all((0..8).map(|_| node.create(&session))).await;
    assert!(both.into_iter().all(|answer| answer.unwrap() == first));

    let device = node.authenticate(&first.credential).await.unwrap();
    assert_eq!((device.device, device.mailbox_id), (first.device.clone(), first.mailbox_id.clone()));
    assert_eq!(world.found_by(NUMBER).await.as_deref(), Some(&first.device.unwrap().account_id[..]));
}

#[tokio::test]
async fn every_wrong_credential_is_refused_alike() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let good = node.sign_up(NUMBER, &mut calls).await.credential;
    let (account, rest) = good.split_once('.').unwrap();
    let last = if good.ends_with('A') { "E" } else { "A" };
    let wrong = [
        String::new(),
        format!("{}.{rest}", AccountId::random()),
        format!("{account}.{}", rest.replacen('1', "2", 1)),
        format!("{}{last}", good.strip_suffix(good.chars().last().unwrap()).unwrap()),
    ];
    let mut refusals = Vec::new();
    for credential in wrong {
        let status = node.authenticate(&credential).await.unwrap_err();
        refusals.push((status.code(), status.message().to_owned(), status.details().to_vec()));
    }
    assert!(refusals.windows(2).all(|pair| pair[0] == pair[1]), "{refusals:?}");
    assert_eq!(refusals[0].0, tonic::Code::Unauthenticated);
}

/// A claim without an account: another worker died between the two.
#[tokio::test]
async fn a_half_done_creation_is_completed_under_its_id() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let number = world.pepper.mac(&PhoneNumber::parse(NUMBER).unwrap());
    let account = AccountId::random();
    let _: NumberClaim = world.store.accounts.claim(NumberClaim { number, account }).await.unwrap();
    let enrolled = node.sign_up(NUMBER, &mut calls).await;
    assert_eq!(enrolled.device.as_ref().unwrap().account_id, account.as_bytes()[..]);
    assert!(!enrolled.reregistered);
    node.authenticate(&enrolled.credential).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_sign_ups_of_one_number_make_one_account() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    // Two workers, which share nothing but the store. The second leaves the codes to the first.
    let mut quiet = config();
    quiet.dispatch.reap_interval = Duration::from_secs(3_600);
    let nodes = [world.node(config(), provider.clone()), world.node(quiet, provider)];
    let mut sessions = Vec::new();
    for _ in 0..200 {
        sessions.push(nodes[0].prove(NUMBER, &mut calls).await);
    }
    let creations = sessions.iter().enumerate().map(|(n, session)| nodes[n % 2].create(session));
    let enrolled: Vec<_> = join_all(creations).await.into_iter().map(Result::unwrap).collect();
    let account = enrolled[0].device.as_ref().unwrap().account_id.clone();
    assert!(enrolled.iter().all(|one| one.device.as_ref().unwrap().account_id == account));
    assert_eq!(
        enrolled.iter().filter(|one| !one.reregistered).count(),
        1,
        "one made it, the others took it over"
    );
    let logins = join_all(enrolled.iter().map(|one| nodes[0].authenticate(&one.credential))).await;
    assert_eq!(logins.iter().filter(|login| login.is_ok()).count(), 1, "one device is left");
    assert_eq!(nodes[1].devices(&enrolled[0]).await, [1]);
    assert_eq!(world.found_by(NUMBER).await.as_deref(), Some(&account[..]));
}

#[tokio::test]
async fn a_number_that_registers_again_keeps_its_account_and_loses_its_devices() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let first_session = node.prove(NUMBER, &mut calls).await;
    let first = node.create(&first_session).await.unwrap();
    let mut changes = world.bus.subscribe(Subject::AccountChanged).await.unwrap();

    let second_session = node.prove(NUMBER, &mut calls).await;
    let mut request = new_account(&second_session);
    request.identity_key = vec![6; 33].into();
    request.prekeys = Some(prekeys(0));
    request.discoverable = false;
    let second = node.client.clone().create_account(request).await.unwrap().into_inner();
    assert!(second.reregistered);
    assert_eq!(second.device, first.device);
    assert_ne!(second.mailbox_id, first.mailbox_id);
    let Some(Event::Hint(hint)) = tokio::time::timeout(PATIENCE, changes.next()).await.unwrap() else {
        panic!("a change is announced");
    };
    let account_id = first.device.as_ref().unwrap().account_id.clone();
    assert_eq!(internal::AccountChanged::decode(hint).unwrap().account_id, account_id);

    assert!(node.authenticate(&first.credential).await.is_err());
    node.authenticate(&second.credential).await.unwrap();
    assert_eq!(world.found_by(NUMBER).await, None, "it is hidden now");
    let fetch = internal::FetchKeysRequest { account_id, device_id: 0, spare_one_time: false };
    let keys = node.client.clone().fetch_keys(fetch).await.unwrap().into_inner();
    assert_eq!(
        (keys.identity_key.len(), keys.devices[0].one_time.clone()),
        (33, None),
        "no key of the old device"
    );

    until("old mail is purged", async || world.purges.contains(&first.mailbox_id)).await;
    let old = MailboxId::try_from(&first.mailbox_id[..]).unwrap();
    assert_eq!(world.store.keys.take(old).await.unwrap(), None);
    assert!(!world.purges.contains(&second.mailbox_id));

    let late = node.create(&first_session).await.unwrap_err();
    assert_eq!(reason(&late), Reason::VerificationNotFound, "a late repetition takes nothing back");
    node.authenticate(&second.credential).await.unwrap();
}

#[tokio::test]
async fn a_deleted_account_is_gone_and_its_number_free() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let first = node.sign_up(NUMBER, &mut calls).await;
    let delete = internal::DeleteAccountRequest { caller: first.device.clone() };
    node.client.clone().delete_account(delete.clone()).await.unwrap();
    node.client.clone().delete_account(delete).await.unwrap();
    assert!(node.authenticate(&first.credential).await.is_err());
    assert_eq!(world.found_by(NUMBER).await, None);
    until("mail is purged", async || world.purges.contains(&first.mailbox_id)).await;
    let account_id = first.device.as_ref().unwrap().account_id.clone();
    let devices = node.client.clone().get_devices(internal::GetDevicesRequest { account_id }).await;
    assert_eq!(reason(&devices.unwrap_err()), Reason::AccountNotFound);

    let second = node.sign_up(NUMBER, &mut calls).await;
    assert!(!second.reregistered);
    assert_ne!(second.device, first.device);
}
