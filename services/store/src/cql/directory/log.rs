//! Table `directory_put`: the numbers that were put, by the minute.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::prepared::PreparedStatement;
use spillway_types::{Clock, NumberMac, Timestamp};

use super::number;
use crate::cql::cluster::{Cluster, Profile};
use crate::cql::rows;
use crate::directory::PutLog;
use crate::{OpenError, StoreError};

const ROW: &str = "log of the directory";
/// How long rows live. A reader needs the last minutes; this lets one catch up that had no database for an hour.
pub(crate) const LOGGED_FOR: Duration = Duration::from_secs(2 * 3_600);
/// The database counts the life of a row from its own clock.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Partitions of a minute: a thousand sign-ups a second are 15,000 rows of 50 bytes in each.
const SHARDS: i8 = 4;
const MINUTE_MICROS: i64 = 60_000_000;

#[derive(Debug)]
pub(super) struct Log {
    cluster: Arc<Cluster>,
    clock: Arc<dyn Clock>,
    insert: PreparedStatement,
    select: PreparedStatement,
}

impl Log {
    pub(super) async fn prepare(cluster: &Arc<Cluster>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let table = format!("{}.directory_put", cluster.keyspaces.identity);
        let insert = format!("INSERT INTO {table} (shard, minute, at, number) VALUES (?, ?, ?, ?)");
        let select =
            format!("SELECT number FROM {table} WHERE shard = ? AND minute = ? AND at >= ? AND at < ?");
        Ok(Self {
            cluster: Arc::clone(cluster),
            clock,
            insert: cluster.prepare(Profile::Write, &insert, true).await?,
            select: cluster.prepare(Profile::Read, &select, true).await?,
        })
    }

    pub(super) async fn write(&self, number: NumberMac) -> Result<(), StoreError> {
        let at = self.clock.now().as_micros().cast_signed();
        // The first byte is the version of the pepper.
        let shard = (number.as_bytes()[1] % SHARDS.unsigned_abs()).cast_signed();
        let values = (shard, at / MINUTE_MICROS, at, number.as_bytes().as_slice());
        self.cluster.execute(&self.insert, values).await.map(drop)
    }

    pub(super) async fn read(&self, from: Timestamp, until: Timestamp) -> Result<PutLog, StoreError> {
        if until <= from {
            return Ok(PutLog::Numbers(Vec::new()));
        }
        if self.clock.now().since(from) > LOGGED_FOR - CLOCK_SKEW {
            return Ok(PutLog::Forgotten);
        }
        let (from, until) = (from.as_micros().cast_signed(), until.as_micros().cast_signed());
        let mut numbers = Vec::new();
        for minute in minutes(from, until) {
            let shards = (0..SHARDS).map(|shard| self.shard(shard, minute, from, until));
            numbers.extend(try_join_all(shards).await?.into_iter().flatten());
        }
        Ok(PutLog::Numbers(numbers))
    }

    async fn shard(
        &self,
        shard: i8,
        minute: i64,
        from: i64,
        until: i64,
    ) -> Result<Vec<NumberMac>, StoreError> {
        let mut numbers = Vec::new();
        let mut state = PagingState::start();
        loop {
            let values = (shard, minute, from, until);
            let (page, after) = self.cluster.execute_page(&self.select, values, state).await?;
            for (bytes,) in rows::all::<(Vec<u8>,)>(ROW, page)? {
                numbers.push(number(&bytes)?);
            }
            match after {
                PagingStateResponse::HasMorePages { state: next } => state = next,
                PagingStateResponse::NoMorePages => return Ok(numbers),
            }
        }
    }
}

/// The minutes that a span of microseconds touches.
fn minutes(from: i64, until: i64) -> std::ops::RangeInclusive<i64> {
    from / MINUTE_MICROS..=(until - 1) / MINUTE_MICROS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_touches_the_minutes_that_it_has_a_microsecond_of() {
        assert_eq!(minutes(0, 1), 0..=0);
        assert_eq!(minutes(0, MINUTE_MICROS), 0..=0);
        assert_eq!(minutes(MINUTE_MICROS - 1, MINUTE_MICROS + 1), 0..=1);
        assert_eq!(minutes(5 * MINUTE_MICROS, 7 * MINUTE_MICROS + 1), 5..=7);
    }
}
