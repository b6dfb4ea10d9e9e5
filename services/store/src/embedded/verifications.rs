use std::ops::RangeTo;

use async_trait::async_trait;
use fjall::Iter;
use spillway_types::{NumberMac, Timestamp};

use super::access::Access;
use super::codec::{Decoder, Encoder};
use super::metrics::Operation;
use super::tables::{Tables, entry_key};
use super::transaction::Transaction;
use crate::verifications::{ProviderTag, QueuedCode, SentCode, Transport, Verification, VerificationId};
use crate::{Cas, StoreError, Verifications};

/// 1: queued codes had no hold and no count of attempts. 2: nothing said which provider sent a code, or failed. 3: a session was
/// forgotten when it was over.
const VERSION: u8 = 4;
/// A session with its index rows, when the sealed number is short.
const SESSION_BYTES: usize = 256 + NumberMac::LEN;
/// Sessions forgotten in one write, so that others do not wait long for their group.
const EXPIRED_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct EmbeddedVerifications(pub(super) Access);

#[async_trait]
impl Verifications for EmbeddedVerifications {
    async fn get(&self, id: VerificationId) -> Result<Option<Verification>, StoreError> {
        let tables = self.0.tables()?;
        let stored = tables.verifications.get(&id.0)?;
        stored.map(|session| decode(tables.verifications.what, id, &session)).transpose()
    }

    async fn put(&self, verification: &Verification, expected: Option<u64>) -> Result<Cas, StoreError> {
        debug_assert!(expected.is_none_or(|expected| verification.version == expected + 1));
        let verification = verification.clone();
        let put = move |transaction: &mut Transaction<'_>| put(transaction, &verification, expected);
        self.0.write(Operation::VerificationPut, SESSION_BYTES, put).await
    }

    async fn queued(&self, limit: usize) -> Result<Vec<VerificationId>, StoreError> {
        let queued = move |tables: &Tables| ids(tables.verification_queue.inner().iter(), limit);
        self.0.scan(queued).await
    }

    async fn expire(&self, now: Timestamp) -> Result<usize, StoreError> {
        let mut expired = 0;
        loop {
            let expire = move |transaction: &mut Transaction<'_>| expire(transaction, now);
            let chunk = self.0.write(Operation::VerificationExpire, SESSION_BYTES, expire).await?;
            expired += chunk;
            if chunk < EXPIRED_MAX {
                return Ok(expired);
            }
        }
    }
}

fn put(
    transaction: &mut Transaction<'_>,
    session: &Verification,
    expected: Option<u64>,
) -> Result<Cas, StoreError> {
    let tables = transaction.tables;
    let stored = get(transaction, session.id)?;
    if stored.as_ref().map(|stored| stored.version) != expected {
        return Ok(Cas::Conflict);
    }
    let stored_queued = stored.as_ref().and_then(|stored| stored.queued);
    if let Some(queued) = stored_queued {
        transaction.remove(&tables.verification_queue, index_row(queued.since, session.id));
    }
    if let Some(queued) = session.queued {
        transaction.insert(&tables.verification_queue, index_row(queued.since, session.id), []);
    }
    if let Some(stored) = stored {
        transaction.remove(&tables.verification_expiry, index_row(stored.kept_until(), session.id));
    }
    transaction.insert(&tables.verification_expiry, index_row(session.kept_until(), session.id), []);
    transaction.insert(&tables.verifications, session.id.0, encode(session));
    Ok(Cas::Applied)
}

fn expire(transaction: &mut Transaction<'_>, now: Timestamp) -> Result<usize, StoreError> {
    let tables = transaction.tables;
    let before_now: RangeTo<[u8; 8]> = ..now.as_micros().to_be_bytes();
    let expired = ids(transaction.range(&tables.verification_expiry, before_now), EXPIRED_MAX)?;
    let sessions = expired.iter().map(|id| get(transaction, *id)).collect::<Result<Vec<_>, _>>()?;

    for session in sessions.iter().flatten() {
        transaction.remove(&tables.verification_expiry, index_row(session.kept_until(), session.id));
        if let Some(queued) = session.queued {
            transaction.remove(&tables.verification_queue, index_row(queued.since, session.id));
        }
        transaction.remove(&tables.verifications, session.id.0);
    }
    Ok(expired.len())
}

fn get(transaction: &Transaction<'_>, id: VerificationId) -> Result<Option<Verification>, StoreError> {
    let table = &transaction.tables.verifications;
    let stored = transaction.get(table, &id.0)?;
    stored.map(|session| decode(table.what, id, &session)).transpose()
}

/// A row of an index by time.
fn index_row(time: Timestamp, id: VerificationId) -> [u8; 40] {
    let mut row = [0; 40];
    row[..8].copy_from_slice(&time.as_micros().to_be_bytes());
    row[8..].copy_from_slice(&id.0);
    row
}

/// The ids in the first rows of an index by time.
fn ids(rows: Iter, limit: usize) -> Result<Vec<VerificationId>, StoreError> {
    let id = |row| {
        let row = entry_key(row)?;
        let mut row = Decoder::new("verification index", &row);
        row.time()?;
        row.array().map(VerificationId)
    };
    rows.take(limit).map(id).collect()
}

pub(crate) fn encode(session: &Verification) -> Vec<u8> {
    Encoder::with_capacity(VERSION, SESSION_BYTES)
        .u64(session.version)
        .array(session.number.as_bytes())
        .bytes(&session.sealed_number)
        .option(session.queued, |encoder, queued| {
            encoder
                .u8(encode_transport(queued.transport))
                .time(queued.since)
                .time(queued.held_until)
                .u8(queued.attempts)
        })
        .option(session.sent.as_ref(), |encoder, sent| {
            encoder
                .array(sent.mac.as_bytes())
                .time(sent.handed_over_at)
                .time(sent.expires_at)
                .option(sent.provider, |encoder, provider| encoder.array(&provider.0.to_be_bytes()))
        })
        .u8(session.sms_requested)
        .u8(session.voice_requested)
        .u8(session.checks)
        .time(session.next_sms_at)
        .time(session.next_voice_at)
        .time(session.next_check_at)
        .u8(session.verified.into())
        .option(session.account, |encoder, account| encoder.array(account.as_bytes()))
        .time(session.created_at)
        .time(session.expires_at)
        .bytes(&failed(&session.failed))
        .time(session.taken_until)
        .finish()
}

pub(crate) fn decode(
    what: &'static str,
    id: VerificationId,
    value: &[u8],
) -> Result<Verification, StoreError> {
    let mut value = Decoder::new(what, value);
    let version = value.version_up_to(VERSION)?;
    let session = Verification {
        id,
        version: value.u64()?,
        number: value.number()?,
        sealed_number: value.bytes()?,
        queued: value.option(|value| decode_queued(value, version))?,
        sent: value.option(|value| {
            Ok(SentCode {
                mac: value.hash()?,
                handed_over_at: value.time()?,
                expires_at: value.time()?,
                provider: if version < 3 { None } else { value.option(decode_provider)? },
            })
        })?,
        sms_requested: value.u8()?,
        voice_requested: value.u8()?,
        checks: value.u8()?,
        next_sms_at: value.time()?,
        next_voice_at: value.time()?,
        next_check_at: value.time()?,
        verified: value.bool()?,
        account: value.option(Decoder::account)?,
        created_at: value.time()?,
        expires_at: value.time()?,
        failed: if version < 3 { Vec::new() } else { decode_failed(&value.bytes()?, &value)? },
        taken_until: if version < 4 { Timestamp::ZERO } else { value.time()? },
    };
    value.end()?;
    Ok(session)
}

fn decode_queued(value: &mut Decoder<'_>, version: u8) -> Result<QueuedCode, StoreError> {
    let queued = QueuedCode::new(decode_transport(value)?, value.time()?);
    if version < 2 {
        return Ok(queued);
    }
    Ok(QueuedCode { held_until: value.time()?, attempts: value.u8()?, ..queued })
}

fn failed(providers: &[ProviderTag]) -> Vec<u8> {
    providers.iter().flat_map(|provider| provider.0.to_be_bytes()).collect()
}

fn decode_failed(providers: &[u8], value: &Decoder<'_>) -> Result<Vec<ProviderTag>, StoreError> {
    let (tags, rest) = providers.as_chunks();
    if !rest.is_empty() {
        return Err(value.corrupt(format!("{} bytes of provider tags", providers.len())));
    }
    Ok(tags.iter().map(|tag| ProviderTag(u32::from_be_bytes(*tag))).collect())
}

fn decode_provider(value: &mut Decoder<'_>) -> Result<ProviderTag, StoreError> {
    Ok(ProviderTag(u32::from_be_bytes(value.array()?)))
}

const fn encode_transport(transport: Transport) -> u8 {
    match transport {
        Transport::Sms => 1,
        Transport::Voice => 2,
    }
}

fn decode_transport(value: &mut Decoder<'_>) -> Result<Transport, StoreError> {
    match value.u8()? {
        1 => Ok(Transport::Sms),
        2 => Ok(Transport::Voice),
        other => Err(value.corrupt(format!("unknown transport {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use spillway_types::KeyedHash;

    use super::*;

    const ID: VerificationId = VerificationId([7; 32]);

    fn session() -> Verification {
        let at = Timestamp::from_micros;
        Verification {
            id: ID,
            version: 3,
            number: NumberMac::from_bytes([1; NumberMac::LEN]),
            sealed_number: vec![2; 40].into(),
            queued: Some(QueuedCode {
                held_until: at(9),
                attempts: 2,
                ..QueuedCode::new(Transport::Voice, at(5))
            }),
            sent: Some(SentCode {
                mac: KeyedHash::from_bytes([3; 32]),
                handed_over_at: at(1),
                expires_at: at(2),
                provider: Some(ProviderTag(0xABCD_EF01)),
            }),
            failed: vec![ProviderTag(0x0102_0304), ProviderTag(0x0506_0708)],
            sms_requested: 1,
            voice_requested: 1,
            checks: 0,
            next_sms_at: at(3),
            next_voice_at: at(4),
            next_check_at: at(5),
            verified: false,
            account: None,
            created_at: at(1),
            expires_at: at(6),
            taken_until: at(0xA0B0),
        }
    }

    /// What an older version wrote: the newest form without `parts`.
    fn older(version: u8, session: &Verification, parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = encode(session);
        for part in parts {
            let at = bytes.windows(part.len()).rposition(|bytes| bytes == *part).unwrap();
            bytes.drain(at..at + part.len());
        }
        bytes[0] = version;
        bytes
    }

    /// Stores that were written before queued codes could be held, and before sessions knew providers, are still read.
    #[test]
    fn sessions_of_older_versions_are_read() {
        let new = encode(&session());
        assert_eq!(decode("session", ID, &new).unwrap(), session());

        let taken = 0xA0B0u64.to_be_bytes().as_slice().to_vec();
        let known = Verification { taken_until: Timestamp::ZERO, ..session() };
        assert_eq!(decode("session", ID, &older(3, &session(), &[&taken])).unwrap(), known);

        let failed = encode(&Verification { failed: Vec::new(), ..session() });
        let failed = &new[failed.len() - taken.len() - 4..new.len() - taken.len()];
        let provider: &[u8] = &[1, 0xAB, 0xCD, 0xEF, 0x01];
        let old = older(2, &session(), &[&taken, failed, provider]);
        let sent = session().sent.map(|sent| SentCode { provider: None, ..sent });
        let known = Verification { failed: Vec::new(), sent, ..known };
        assert_eq!(decode("session", ID, &old).unwrap(), known);

        let hold = [9u64.to_be_bytes().as_slice(), &[2]].concat();
        let old = older(1, &session(), &[&taken, failed, provider, &hold]);
        let queued = Some(QueuedCode::new(Transport::Voice, Timestamp::from_micros(5)));
        assert_eq!(decode("session", ID, &old).unwrap(), Verification { queued, ..known });

        let mut newer = new;
        newer[0] = VERSION + 1;
        assert!(matches!(decode("session", ID, &newer), Err(StoreError::Corrupt { .. })));
    }
}
