use async_trait::async_trait;
use spillway_types::{AccountId, NumberMac};

use super::access::Access;
use super::codec::{Decoder, Encoder};
use super::metrics::Operation;
use super::tables::Tables;
use super::transaction::Transaction;
use crate::{Directory, StoreError};

const VERSION: u8 = 1;
const ENTRY_BYTES: usize = NumberMac::LEN + 17;
/// As many keys are looked up on the caller's thread; more are a scan.
const INLINE_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct EmbeddedDirectory(pub(super) Access);

#[async_trait]
impl Directory for EmbeddedDirectory {
    async fn put(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError> {
        let put = move |transaction: &mut Transaction<'_>| {
            let table = &transaction.tables.directory;
            transaction.insert(table, number.as_bytes(), encode(account));
            Ok(())
        };
        self.0.write(Operation::DirectoryPut, ENTRY_BYTES, put).await
    }

    async fn remove(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError> {
        let remove = move |transaction: &mut Transaction<'_>| {
            let table = &transaction.tables.directory;
            let Some(entry) = transaction.get(table, number.as_bytes())? else {
                return Ok(());
            };
            if decode(table.what, &entry)? == account {
                transaction.remove(table, number.as_bytes());
            }
            Ok(())
        };
        self.0.write(Operation::DirectoryRemove, ENTRY_BYTES, remove).await
    }

    async fn lookup(&self, numbers: &[NumberMac]) -> Result<Vec<Option<AccountId>>, StoreError> {
        if numbers.len() <= INLINE_MAX {
            return lookup(&*self.0.tables()?, numbers);
        }
        let numbers = numbers.to_vec();
        self.0.scan(move |tables| lookup(tables, &numbers)).await
    }
}

fn lookup(tables: &Tables, numbers: &[NumberMac]) -> Result<Vec<Option<AccountId>>, StoreError> {
    let table = &tables.directory;
    let find = |number: &NumberMac| match table.get(number.as_bytes())? {
        Some(entry) => decode(table.what, &entry).map(Some),
        None => Ok(None),
    };
    numbers.iter().map(find).collect()
}

fn encode(account: AccountId) -> Vec<u8> {
    Encoder::new(VERSION).array(account.as_bytes()).finish()
}

pub(super) fn decode(what: &'static str, value: &[u8]) -> Result<AccountId, StoreError> {
    let mut value = Decoder::new(what, value);
    value.version(VERSION)?;
    let account = value.account()?;
    value.end()?;
    Ok(account)
}
