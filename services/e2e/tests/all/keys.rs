//! Prekeys, from the people who publish them to the people who want to write.

use std::collections::HashSet;

use spillway_api::v1;

use super::desk::population;
use super::raw::request;
use super::support::Node;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_time_key_is_given_away_once_and_then_the_last_resort_stays() {
    let node = Node::start("keys", &[("QUOTAS__KEYS_FETCH__ENABLED", "false")]).await;
    let [alice, bob] = node.people().await;
    let published = population().device(bob.index).prekeys;
    let mut given = HashSet::new();
    for _ in 0..published.one_time.len() {
        let keys = alice.client.fetch_keys(&alice.identity, bob.account()).await.unwrap();
        let [device] = <[v1::DeviceKeys; 1]>::try_from(keys.devices).unwrap();
        assert_eq!((device.signed, &device.last_resort), (published.signed.clone(), &published.last_resort));
        assert!(given.insert(device.one_time.expect("one is left").key_id), "given away twice");
    }
    let keys = alice.client.fetch_keys(&alice.identity, bob.account()).await.unwrap();
    assert_eq!(keys.devices[0].one_time, None, "more than were published");
    assert_eq!(keys.devices[0].last_resort, published.last_resort);

    let fresh = v1::OneTimePreKey { key_id: 900, public_key: vec![9; 33].into() };
    let prekeys = v1::PreKeys { one_time: vec![fresh.clone()], ..Default::default() };
    let upload = v1::UploadKeysRequest { prekeys: Some(prekeys) };
    let uploaded = bob.client.keys().upload(request(&bob.identity, upload)).await.unwrap().into_inner();
    assert_eq!(uploaded.one_time_count, 1);
    let keys = alice.client.fetch_keys(&alice.identity, bob.account()).await.unwrap();
    assert_eq!(keys.devices[0].one_time, Some(fresh));
    assert_eq!(keys.devices[0].signed, published.signed, "what was not in the upload stays");
}
