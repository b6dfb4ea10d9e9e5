use proptest::collection::vec;
use proptest::prelude::*;
use spillway_types::{AccountId, DeviceId, Guid, KeyedHash, MailboxId, MessageId, NumberMac};

use super::*;
use crate::accounts::{Account, Device, NumberClaim, Version};
use crate::keys::{KeyUpload, OneTimePreKey, SignedPreKey};
use crate::mailboxes::StoredMessage;
use crate::verifications::{ProviderTag, QueuedCode, SentCode, Transport, Verification, VerificationId};

fn blob() -> impl Strategy<Value = bytes::Bytes> {
    vec(any::<u8>(), 0..80).prop_map(bytes::Bytes::from)
}

fn account_id() -> impl Strategy<Value = AccountId> {
    any::<[u8; 16]>().prop_map(AccountId::from_bytes)
}

fn mailbox() -> impl Strategy<Value = MailboxId> {
    any::<[u8; 16]>().prop_map(MailboxId::from_bytes)
}

fn number() -> impl Strategy<Value = NumberMac> {
    any::<[u8; 32]>().prop_map(|hash| {
        let mut bytes = [1; NumberMac::LEN];
        bytes[1..].copy_from_slice(&hash);
        NumberMac::from_bytes(bytes)
    })
}

fn hash() -> impl Strategy<Value = KeyedHash> {
    any::<[u8; 32]>().prop_map(KeyedHash::from_bytes)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_micros)
}

fn account() -> impl Strategy<Value = Record> {
    let device = (1..=127u32, mailbox(), hash(), any::<u32>(), blob(), time()).prop_map(
        |(id, mailbox, credential, registration_id, name, linked_at)| Device {
            id: DeviceId::try_from(id).unwrap(),
            mailbox,
            credential,
            registration_id,
            name,
            linked_at,
        },
    );
    (account_id(), any::<u64>(), number(), blob(), any::<bool>(), time(), vec(device, 0..4)).prop_map(
        |(id, version, number, identity_key, discoverable, created_at, devices)| {
            let version = Version(version);
            Record::Account(Account { id, version, number, identity_key, discoverable, created_at, devices })
        },
    )
}

fn keys() -> impl Strategy<Value = Record> {
    let signed = || {
        let key = (any::<u32>(), blob(), blob());
        key.prop_map(|(key_id, public_key, signature)| SignedPreKey { key_id, public_key, signature })
    };
    let one_time =
        (any::<u32>(), blob()).prop_map(|(key_id, public_key)| OneTimePreKey { key_id, public_key });
    (mailbox(), prop::option::of(signed()), prop::option::of(signed()), vec(one_time, 0..4)).prop_map(
        |(device, signed, last_resort, one_time)| Record::Keys {
            device,
            keys: KeyUpload { signed, last_resort, one_time },
        },
    )
}

fn verification() -> impl Strategy<Value = Record> {
    let transport = prop_oneof![Just(Transport::Sms), Just(Transport::Voice)];
    let queued =
        (transport, time(), time(), any::<u8>()).prop_map(|(transport, since, held_until, attempts)| {
            QueuedCode { transport, since, held_until, attempts }
        });
    let provider = || any::<u32>().prop_map(ProviderTag);
    let sent = (hash(), time(), time(), prop::option::of(provider())).prop_map(
        |(mac, handed_over_at, expires_at, provider)| SentCode { mac, handed_over_at, expires_at, provider },
    );
    let who = (any::<[u8; 32]>(), any::<u64>(), number(), blob(), prop::option::of(account_id()));
    let counts = (any::<u8>(), any::<u8>(), any::<u8>(), any::<bool>());
    let codes = (prop::option::of(queued), prop::option::of(sent), vec(provider(), 0..4));
    (who, counts, codes, [time(), time(), time(), time(), time(), time()]).prop_map(
        |(who, counts, codes, times)| {
            let ((id, version, number, sealed_number, account), (queued, sent, failed)) = (who, codes);
            let (sms_requested, voice_requested, checks, verified) = counts;
            let [next_sms_at, next_voice_at, next_check_at, created_at, expires_at, taken_until] = times;
            Record::Verification(Verification {
                id: VerificationId(id),
                version,
                number,
                sealed_number,
                queued,
                sent,
                failed,
                sms_requested,
                voice_requested,
                checks,
                next_sms_at,
                next_voice_at,
                next_check_at,
                verified,
                account,
                created_at,
                expires_at,
                taken_until,
            })
        },
    )
}

fn message() -> impl Strategy<Value = Record> {
    (mailbox(), any::<[u8; 16]>(), any::<[u8; 16]>(), blob()).prop_map(|(mailbox, id, guid, envelope)| {
        let (id, guid) = (MessageId::from_bytes(id), Guid::from_bytes(guid));
        Record::Message { mailbox, message: StoredMessage { id, guid, envelope } }
    })
}

fn record() -> impl Strategy<Value = Record> {
    let entry = || (number(), account_id());
    prop_oneof![
        account(),
        entry().prop_map(|(number, account)| Record::Claim(NumberClaim { number, account })),
        entry().prop_map(|(number, account)| Record::Directory { number, account }),
        keys(),
        (mailbox(), time()).prop_map(|(mailbox, settled)| Record::Settled { mailbox, settled }),
        verification(),
        message(),
    ]
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    vec(record(), 0..12).prop_map(|mut records| {
        records.sort_by_key(Record::section);
        records
    })
}

fn header() -> Header {
    Header {
        id: [9; 16],
        made_at: Timestamp::from_millis(1_610_722_800_000),
        fingerprint: [8; 32],
        source: "/var/lib/spillway/store".to_owned(),
    }
}

fn write(records: &[Record]) -> (Vec<u8>, Sections<Total>) {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<(Vec<Item>, Sections<Total>), FileError> {
    let mut reader = Reader::open(bytes)?;
    assert_eq!(*reader.header(), header());
    let mut items = Vec::new();
    while let Some(item) = reader.next()? {
        items.push(item);
    }
    Ok((items, reader.into_totals().unwrap()))
}

fn records_of(items: Vec<Item>) -> Vec<Record> {
    items.into_iter().map(|item| item.record).collect()
}

/// A file with a record of each section.
fn some_file() -> (Vec<u8>, Vec<Record>) {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut sample = |strategy: BoxedStrategy<Record>| strategy.new_tree(&mut runner).unwrap().current();
    let mut records = vec![
        sample(account().boxed()),
        Record::Claim(NumberClaim { number: NumberMac::from_bytes([1; 33]), account: AccountId::random() }),
        sample(keys().boxed()),
        Record::Settled { mailbox: MailboxId::random(), settled: Timestamp::from_micros(7) },
        sample(verification().boxed()),
        sample(message().boxed()),
        sample(message().boxed()),
    ];
    records.sort_by_key(Record::section);
    (write(&records).0, records)
}

proptest! {
    #[test]
    fn what_is_written_is_read(records in records()) {
        let (bytes, written) = write(&records);
        let (items, totals) = read(&bytes).unwrap();
        prop_assert_eq!(totals, written);
        prop_assert_eq!(records_of(items), records);
    }

    #[test]
    fn reading_goes_on_after_any_record(records in records()) {
        let (bytes, _) = write(&records);
        let (items, _) = read(&bytes).unwrap();
        for (index, item) in items.iter().enumerate() {
            let mut reader = Reader::open(io::Cursor::new(&bytes)).unwrap();
            reader.skip_to(item.end).unwrap();
            let mut rest = Vec::new();
            while let Some(item) = reader.next().unwrap() {
                rest.push(item.record);
            }
            prop_assert_eq!(&rest, &records[index + 1..]);
        }
    }

    #[test]
    fn totals_do_not_depend_on_the_order_of_records(records in records(), seed in any::<u64>()) {
        let mut totals = Sections::<Total>::default();
        let mut order: Vec<_> = records.iter().collect();
        order.sort_by_key(|record| record.checksum() ^ u128::from(seed));
        order.into_iter().for_each(|record| totals[record.section()].add(record.checksum()));
        prop_assert_eq!(totals, write(&records).1);
    }
}

#[test]
fn a_cut_is_told_from_damage_wherever_it_is() {
    let (bytes, _) = some_file();
    for length in 0..bytes.len() {
        match read(&bytes[..length]) {
            Err(FileError::Truncated { offset }) => assert!(offset <= length as u64),
            other => panic!("cut to {length} of {} bytes: {other:?}", bytes.len()),
        }
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let (mut bytes, records) = some_file();
    for index in 0..bytes.len() {
        let bit = 1 << (index % 8);
        bytes[index] ^= bit;
        match read(&bytes) {
            Err(FileError::Damaged { offset, .. }) => assert!(offset <= index as u64),
            Err(FileError::NotAnExport) => assert!(index < MAGIC.len()),
            Err(FileError::NewerFormat { .. }) => assert!((MAGIC.len()..PREAMBLE_BYTES).contains(&index)),
            other => panic!("flipped bit in byte {index}: {other:?}"),
        }
        bytes[index] ^= bit;
    }
    assert_eq!(records_of(read(&bytes).unwrap().0), records);
}

#[test]
fn whole_records_in_the_wrong_place_are_found() {
    let (bytes, _) = some_file();
    let ends: Vec<_> = read(&bytes).unwrap().0.iter().map(|item| item.end as usize).collect();
    for pair in ends.windows(2) {
        let (start, end) = (pair[0], pair[1]);
        let without = [&bytes[..start], &bytes[end..]].concat();
        let twice = [&bytes[..end], &bytes[start..]].concat();
        for changed in [without, twice] {
            assert!(matches!(read(&changed), Err(FileError::Damaged { .. })));
        }
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    let end = bytes.len() as u64;
    assert!(matches!(read(&longer), Err(FileError::Damaged { offset, .. }) if offset == end));
}
