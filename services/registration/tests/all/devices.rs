use std::time::Duration;

use spillway_api::internal::v1 as internal;
use spillway_api::{Reason, v1};
use spillway_types::{Clock as _, MailboxId};
use tonic::Status;

use crate::scripted::Scripted;
use crate::world::{NUMBER, Node, World, config, prekeys, reason, until};

async fn token(node: &Node, primary: &internal::Enrolled) -> Result<String, Status> {
    let request = internal::StartLinkRequest { caller: primary.device.clone() };
    node.client.clone().start_link(request).await.map(|answer| answer.into_inner().link_token)
}

async fn link(node: &Node, link_token: &str) -> Result<internal::Enrolled, Status> {
    let request = v1::LinkRequest {
        link_token: link_token.to_owned(),
        registration_id: 5,
        device_name: b"tablet".to_vec().into(),
        prekeys: Some(prekeys(1)),
    };
    node.client.clone().link(request).await.map(tonic::Response::into_inner)
}

async fn remove(node: &Node, caller: &internal::Enrolled, device_id: u32) -> Result<(), Status> {
    let request = internal::RemoveDeviceRequest { caller: caller.device.clone(), device_id };
    node.client.clone().remove_device(request).await.map(drop)
}

#[tokio::test]
async fn a_link_token_works_once_and_not_for_long() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let primary = node.sign_up(NUMBER, &mut calls).await;
    let used = token(&node, &primary).await.unwrap();
    let outdated = token(&node, &primary).await.unwrap();
    let race = futures::future::join_all((0..8).map(|_| link(&node, &used))).await;
    let linked: Vec<_> = race.iter().flatten().collect();
    assert_eq!(linked.len(), 1);
    assert_eq!(linked[0].device.as_ref().unwrap().device_id, 2);
    let mailbox = MailboxId::try_from(&linked[0].mailbox_id[..]).unwrap();
    assert_eq!(mailbox.minted_at(), Some(world.clock.now()));
    node.authenticate(&linked[0].credential).await.unwrap();
    assert_eq!(node.devices(&primary).await, [1, 2]);
    for bad in [&used, &outdated, "", "AAAA"] {
        assert_eq!(reason(&link(&node, bad).await.unwrap_err()), Reason::LinkTokenInvalid);
    }
    let late = token(&node, &primary).await.unwrap();
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(reason(&link(&node, &late).await.unwrap_err()), Reason::LinkTokenInvalid);
    assert_eq!(reason(&token(&node, linked[0]).await.unwrap_err()), Reason::NotPrimary);
}

#[tokio::test]
async fn an_account_has_six_devices_at_most() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let primary = node.sign_up(NUMBER, &mut calls).await;
    for _ in 2..=6 {
        let token = token(&node, &primary).await.unwrap();
        link(&node, &token).await.unwrap();
    }
    assert_eq!(node.devices(&primary).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(reason(&token(&node, &primary).await.unwrap_err()), Reason::TooManyDevices);
    remove(&node, &primary, 3).await.unwrap();
    let freed = token(&node, &primary).await.unwrap();
    let linked = link(&node, &freed).await.unwrap();
    assert_eq!(linked.device.unwrap().device_id, 3);
    assert_eq!(node.devices(&primary).await, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn who_may_remove_whom() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let primary = node.sign_up(NUMBER, &mut calls).await;
    let mut linked = Vec::new();
    for _ in 0..2 {
        let token = token(&node, &primary).await.unwrap();
        linked.push(link(&node, &token).await.unwrap());
    }
    assert_eq!(reason(&remove(&node, &linked[0], 3).await.unwrap_err()), Reason::NotPrimary);
    assert_eq!(reason(&remove(&node, &primary, 1).await.unwrap_err()), Reason::InvalidArgument);
    assert_eq!(reason(&remove(&node, &primary, 9).await.unwrap_err()), Reason::DeviceNotFound);
    remove(&node, &linked[0], 2).await.unwrap();
    assert_eq!(reason(&remove(&node, &linked[0], 2).await.unwrap_err()), Reason::Unauthenticated);
    assert!(node.authenticate(&linked[0].credential).await.is_err());
    until("its mail is purged", async || world.purges.contains(&linked[0].mailbox_id)).await;
    remove(&node, &primary, 3).await.unwrap();

    let list = internal::ListDevicesRequest { caller: primary.device.clone() };
    let devices = node.client.clone().list_devices(list).await.unwrap().into_inner().devices;
    let [device] = &devices[..] else { panic!("{devices:?}") };
    assert_eq!((device.device_id, &device.name[..], device.registration_id), (1, &b"name"[..], 77));
    assert_eq!(device.linked_at.unwrap().seconds as u64, world.now() / 1_000_000);
    let gone = internal::DeleteAccountRequest { caller: linked[1].device.clone() };
    let delete = node.client.clone().delete_account(gone).await.unwrap_err();
    assert_eq!(reason(&delete), Reason::NotPrimary);
}
