use std::collections::HashSet;

use futures::future::join_all;
use spillway_api::internal::v1 as internal;
use spillway_api::{Reason, v1};
use spillway_types::AccountId;

use crate::scripted::Scripted;
use crate::world::{NUMBER, Node, World, config, reason};

async fn upload(
    node: &Node,
    enrolled: &internal::Enrolled,
    ids: std::ops::Range<u32>,
) -> Result<u32, tonic::Status> {
    let one_time = ids.map(|key_id| v1::OneTimePreKey { key_id, public_key: vec![3; 32].into() }).collect();
    let request = internal::UploadKeysRequest {
        caller: enrolled.device.clone(),
        prekeys: Some(v1::PreKeys { signed: None, last_resort: None, one_time }),
    };
    node.client.clone().upload_keys(request).await.map(|answer| answer.into_inner().one_time_count)
}

#[tokio::test]
async fn a_one_time_key_goes_to_one_caller_and_the_last_resort_to_the_rest() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let enrolled = node.sign_up(NUMBER, &mut calls).await;
    assert_eq!(upload(&node, &enrolled, 100..110).await.unwrap(), 12);
    let account_id = enrolled.device.clone().unwrap().account_id;
    let request = internal::FetchKeysRequest { account_id, device_id: 1, spare_one_time: false };
    let fetches = join_all((0..20).map(|_| {
        let (mut client, request) = (node.client.clone(), request.clone());
        async move { client.fetch_keys(request).await.unwrap().into_inner() }
    }));
    let bundles: Vec<_> = fetches.await.into_iter().map(|mut keys| keys.devices.remove(0)).collect();
    let given: Vec<u32> =
        bundles.iter().filter_map(|keys| keys.one_time.as_ref()).map(|key| key.key_id).collect();
    assert_eq!((given.len(), given.iter().collect::<HashSet<_>>().len()), (12, 12));
    assert!(bundles.iter().all(|keys| keys.signed.as_ref().unwrap().key_id == 1));
    assert!(bundles.iter().all(|keys| keys.last_resort.as_ref().unwrap().key_id == 2));
}

#[tokio::test]
async fn keys_are_limited_by_call_and_by_device() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let enrolled = node.sign_up(NUMBER, &mut calls).await;
    assert_eq!(reason(&upload(&node, &enrolled, 0..101).await.unwrap_err()), Reason::InvalidArgument);
    upload(&node, &enrolled, 1_000..1_100).await.unwrap();
    assert_eq!(upload(&node, &enrolled, 2_000..2_100).await.unwrap(), 200);
    let mut client = node.client.clone();
    let account_id = enrolled.device.clone().unwrap().account_id;
    let fetch =
        |account_id, device_id| internal::FetchKeysRequest { account_id, device_id, spare_one_time: false };
    let unknown = fetch(AccountId::random().as_bytes().to_vec().into(), 0);
    assert_eq!(reason(&client.fetch_keys(unknown).await.unwrap_err()), Reason::AccountNotFound);
    let no_device = fetch(account_id, 2);
    assert_eq!(reason(&client.fetch_keys(no_device).await.unwrap_err()), Reason::DeviceNotFound);
}

#[tokio::test]
async fn one_time_keys_are_spared_where_there_is_a_last_resort() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let enrolled = node.sign_up(NUMBER, &mut calls).await;
    let account_id = enrolled.device.clone().unwrap().account_id;
    let fetch = async |spare_one_time| {
        let request =
            internal::FetchKeysRequest { account_id: account_id.clone(), device_id: 0, spare_one_time };
        node.client.clone().fetch_keys(request).await.unwrap().into_inner().devices.remove(0)
    };
    let has_one_time = async |spare_one_time| fetch(spare_one_time).await.one_time.is_some();
    for _ in 0..5 {
        let keys = fetch(true).await;
        assert_eq!((keys.one_time, keys.last_resort.unwrap().key_id), (None, 2));
        assert_eq!(keys.signed.unwrap().key_id, 1);
    }
    // It signed up with two.
    assert_eq!([has_one_time(false).await, has_one_time(true).await], [true, false]);
    assert_eq!([has_one_time(false).await, has_one_time(false).await], [true, false]);
}
