use async_trait::async_trait;
use spillway_types::{AccountId, DeviceId, NumberMac};

use super::access::Access;
use super::codec::{Decoder, Encoder};
use super::metrics::Operation;
use super::transaction::Transaction;
use crate::accounts::{Account, Device, NumberClaim, Version};
use crate::{Accounts, Cas, StoreError};

const VERSION: u8 = 1;
/// Ids, number, credential and lengths of an account with one device.
const ACCOUNT_BYTES: usize = 256;
const CLAIM_BYTES: usize = NumberMac::LEN + 17;

#[derive(Debug)]
pub(super) struct EmbeddedAccounts(pub(super) Access);

#[async_trait]
impl Accounts for EmbeddedAccounts {
    async fn get(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        let tables = self.0.tables()?;
        let stored = tables.accounts.get(id.as_bytes())?;
        stored.map(|account| decode(tables.accounts.what, id, &account)).transpose()
    }

    async fn put(&self, account: &Account, expected: Option<Version>) -> Result<Cas, StoreError> {
        debug_assert!(expected.is_none_or(|expected| account.version == expected.next()));
        let id = account.id;
        let value = encode(account);
        let put = move |transaction: &mut Transaction<'_>| {
            if version(transaction, id)? != expected {
                return Ok(Cas::Conflict);
            }
            let table = &transaction.tables.accounts;
            transaction.insert(table, id.as_bytes(), value);
            Ok(Cas::Applied)
        };
        self.0.write(Operation::AccountPut, ACCOUNT_BYTES, put).await
    }

    async fn delete(&self, id: AccountId, expected: Version) -> Result<Cas, StoreError> {
        let delete = move |transaction: &mut Transaction<'_>| {
            if version(transaction, id)? != Some(expected) {
                return Ok(Cas::Conflict);
            }
            let table = &transaction.tables.accounts;
            transaction.remove(table, id.as_bytes());
            Ok(Cas::Applied)
        };
        self.0.write(Operation::AccountDelete, ACCOUNT_BYTES, delete).await
    }

    async fn claim(&self, claim: NumberClaim) -> Result<NumberClaim, StoreError> {
        let take = move |transaction: &mut Transaction<'_>| {
            let table = &transaction.tables.claims;
            match transaction.get(table, claim.number.as_bytes())? {
                Some(standing) => decode_claim(table.what, claim.number, &standing),
                None => {
                    transaction.insert(table, claim.number.as_bytes(), encode_claim(claim));
                    Ok(claim)
                }
            }
        };
        self.0.write(Operation::NumberClaim, CLAIM_BYTES, take).await
    }

    async fn claimed(&self, number: &NumberMac) -> Result<Option<NumberClaim>, StoreError> {
        let tables = self.0.tables()?;
        let stored = tables.claims.get(number.as_bytes())?;
        stored.map(|claim| decode_claim(tables.claims.what, *number, &claim)).transpose()
    }

    async fn release(&self, claim: NumberClaim) -> Result<(), StoreError> {
        let release = move |transaction: &mut Transaction<'_>| {
            let table = &transaction.tables.claims;
            let Some(standing) = transaction.get(table, claim.number.as_bytes())? else {
                return Ok(());
            };
            if decode_claim(table.what, claim.number, &standing)? == claim {
                transaction.remove(table, claim.number.as_bytes());
            }
            Ok(())
        };
        self.0.write(Operation::NumberRelease, CLAIM_BYTES, release).await
    }
}

fn version(transaction: &Transaction<'_>, id: AccountId) -> Result<Option<Version>, StoreError> {
    let table = &transaction.tables.accounts;
    let stored = transaction.get(table, id.as_bytes())?;
    stored.map(|account| decode(table.what, id, &account).map(|account| account.version)).transpose()
}

pub(crate) fn encode(account: &Account) -> Vec<u8> {
    let devices = u32::try_from(account.devices.len()).expect("an account has a handful of devices");
    let header = Encoder::new(VERSION)
        .u64(account.version.0)
        .array(account.number.as_bytes())
        .bytes(&account.identity_key)
        .u8(account.discoverable.into())
        .time(account.created_at)
        .u32(devices);
    let device = |encoder: Encoder, device: &Device| {
        encoder
            .u8(device.id.get())
            .array(device.mailbox.as_bytes())
            .array(device.credential.as_bytes())
            .u32(device.registration_id)
            .bytes(&device.name)
            .time(device.linked_at)
    };
    account.devices.iter().fold(header, device).finish()
}

pub(crate) fn decode(what: &'static str, id: AccountId, value: &[u8]) -> Result<Account, StoreError> {
    let mut value = Decoder::new(what, value);
    value.version(VERSION)?;
    let version = Version(value.u64()?);
    let number = value.number()?;
    let identity_key = value.bytes()?;
    let discoverable = value.bool()?;
    let created_at = value.time()?;
    let devices = (0..value.u32()?).map(|_| decode_device(&mut value)).collect::<Result<_, _>>()?;
    value.end()?;
    Ok(Account { id, version, number, identity_key, discoverable, created_at, devices })
}

fn decode_device(value: &mut Decoder<'_>) -> Result<Device, StoreError> {
    Ok(Device {
        id: DeviceId::try_from(u32::from(value.u8()?)).map_err(|error| value.corrupt(error.to_string()))?,
        mailbox: value.mailbox()?,
        credential: value.hash()?,
        registration_id: value.u32()?,
        name: value.bytes()?,
        linked_at: value.time()?,
    })
}

fn encode_claim(claim: NumberClaim) -> Vec<u8> {
    Encoder::new(VERSION).array(claim.account.as_bytes()).finish()
}

pub(super) fn decode_claim(
    what: &'static str,
    number: NumberMac,
    value: &[u8],
) -> Result<NumberClaim, StoreError> {
    let mut value = Decoder::new(what, value);
    value.version(VERSION)?;
    let account = value.account()?;
    value.end()?;
    Ok(NumberClaim { number, account })
}
