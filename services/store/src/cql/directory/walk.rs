//! The walk over `directory_entry`, in the order of tokens, which is the order of the database's own partitions.
//!
//! A position is a token and not the driver's paging state, so that it survives a new version of the driver or the
//! database, and a node that is gone.

use std::num::NonZeroUsize;
use std::sync::Arc;

use scylla::statement::prepared::PreparedStatement;
use spillway_types::NumberMac;

use super::number;
use crate::cql::cluster::{Cluster, Profile};
use crate::cql::{failure, rows};
use crate::directory::{WalkPage, WalkPosition};
use crate::{OpenError, StoreError};

const WHAT: &str = "walk over the directory";
/// What a node reads of the ring in a few tens of milliseconds, far below the time-out.
const ROWS_MAX: usize = 2_000;

#[derive(Debug)]
pub(super) struct Walk {
    cluster: Arc<Cluster>,
    select: PreparedStatement,
}

impl Walk {
    pub(super) async fn prepare(cluster: &Arc<Cluster>, table: &str) -> Result<Self, OpenError> {
        let select = format!("SELECT token(number), number FROM {table} WHERE token(number) > ? LIMIT ?");
        Ok(Self {
            cluster: Arc::clone(cluster),
            select: cluster.prepare(Profile::Read, &select, true).await?,
        })
    }

    pub(super) async fn page(
        &self,
        from: &WalkPosition,
        at_most: NonZeroUsize,
    ) -> Result<WalkPage, StoreError> {
        // No partition has the least token.
        let after = match from.key() {
            None => i64::MIN,
            Some(token) => {
                let token = <[u8; 8]>::try_from(token);
                i64::from_be_bytes(token.map_err(|error| failure::corrupt(WHAT, error))?)
            }
        };
        let limit = at_most.get().min(ROWS_MAX);
        let limit_cql = i32::try_from(limit).expect("ROWS_MAX is small");
        let result = self.cluster.execute(&self.select, (after, limit_cql)).await?;
        let rows: Vec<(i64, Vec<u8>)> = rows::all(WHAT, result)?;
        let rows = rows.into_iter().map(|(token, bytes)| Ok((token, number(&bytes)?)));
        Ok(cut(rows.collect::<Result<_, StoreError>>()?, limit))
    }
}

/// The limit may have cut between two numbers with the same token, so those with the last one are left to the next part.
/// Among 10^9 numbers there are two such with a probability of 3 %; as many as fill a part there never are.
fn cut(mut rows: Vec<(i64, NumberMac)>, limit: usize) -> WalkPage {
    let next = match rows.last() {
        Some(&(last, _)) if rows.len() >= limit => {
            let before = rows.iter().rposition(|&(token, _)| token != last);
            rows.truncate(before.map_or(rows.len(), |before| before + 1));
            rows.last().map(|&(token, _)| WalkPosition::after(&token.to_be_bytes()))
        }
        _ => None,
    };
    WalkPage { numbers: rows.into_iter().map(|(_, number)| number).collect(), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(tokens: &[i64]) -> Vec<(i64, NumberMac)> {
        let number = |index: usize| NumberMac::from_bytes([u8::try_from(index).unwrap(); NumberMac::LEN]);
        tokens.iter().enumerate().map(|(index, &token)| (token, number(index))).collect()
    }

    fn cut_at(tokens: &[i64], limit: usize) -> (usize, Option<i64>) {
        let page = cut(rows(tokens), limit);
        let next = page.next.map(|next| i64::from_be_bytes(next.key().unwrap().try_into().unwrap()));
        (page.numbers.len(), next)
    }

    #[test]
    fn numbers_with_the_last_token_of_a_full_part_come_with_the_next() {
        assert_eq!(cut_at(&[], 3), (0, None));
        assert_eq!(cut_at(&[-5, 7], 3), (2, None));
        assert_eq!(cut_at(&[-5, 7, 9], 3), (2, Some(7)));
        assert_eq!(cut_at(&[-5, 7, 7], 3), (1, Some(-5)));
        assert_eq!(cut_at(&[7, 7, 7], 3), (3, Some(7)));
    }
}
