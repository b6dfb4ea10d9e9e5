use async_trait::async_trait;

use super::access::Access;
use super::codec::{Decoder, Encoder};
use super::metrics::Operation;
use super::transaction::Transaction;
use crate::leases::{FencingToken, HolderId, Lease};
use crate::{Cas, Leases, StoreError};

const VERSION: u8 = 1;
/// Version, holder, token, renewal.
const LEASE_BYTES: usize = 33;

#[derive(Debug)]
pub(super) struct EmbeddedLeases(pub(super) Access);

#[async_trait]
impl Leases for EmbeddedLeases {
    async fn get(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        let tables = self.0.tables()?;
        let stored = tables.leases.get(name.as_bytes())?;
        stored.map(|lease| decode(tables.leases.what, &lease)).transpose()
    }

    async fn put(&self, name: &str, lease: Lease, expected: Option<Lease>) -> Result<Cas, StoreError> {
        let name = name.to_owned();
        let bytes = name.len() + LEASE_BYTES;
        let put = move |transaction: &mut Transaction<'_>| {
            let table = &transaction.tables.leases;
            let stored = transaction.get(table, name.as_bytes())?;
            let stored = stored.map(|lease| decode(table.what, &lease)).transpose()?;
            if stored != expected {
                return Ok(Cas::Conflict);
            }
            transaction.insert(table, name.as_bytes(), encode(lease));
            Ok(Cas::Applied)
        };
        self.0.write(Operation::LeasePut, bytes, put).await
    }
}

fn encode(lease: Lease) -> Vec<u8> {
    Encoder::with_capacity(VERSION, LEASE_BYTES)
        .array(&lease.holder.0)
        .u64(lease.token.0)
        .u64(lease.renewal)
        .finish()
}

fn decode(what: &'static str, value: &[u8]) -> Result<Lease, StoreError> {
    let mut value = Decoder::new(what, value);
    value.version(VERSION)?;
    let lease =
        Lease { holder: HolderId(value.array()?), token: FencingToken(value.u64()?), renewal: value.u64()? };
    value.end()?;
    Ok(lease)
}
