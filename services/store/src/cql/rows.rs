//! Rows of an answer, and errors in the words of the store.

use scylla::deserialize::row::DeserializeRow;
use scylla::response::query_result::QueryResult;

use super::failure;
use crate::StoreError;

/// The one row of an answer, if there is one.
pub(super) fn maybe_first<R>(what: &'static str, result: QueryResult) -> Result<Option<R>, StoreError>
where
    R: for<'frame> DeserializeRow<'frame, 'frame>,
{
    let rows = result.into_rows_result().map_err(|error| failure::corrupt(what, error))?;
    rows.maybe_first_row().map_err(|error| failure::corrupt(what, error))
}

pub(super) fn all<R>(what: &'static str, result: QueryResult) -> Result<Vec<R>, StoreError>
where
    R: for<'frame> DeserializeRow<'frame, 'frame>,
{
    let rows = result.into_rows_result().map_err(|error| failure::corrupt(what, error))?;
    let rows = rows.rows().map_err(|error| failure::corrupt(what, error))?;
    rows.map(|row| row.map_err(|error| failure::corrupt(what, error))).collect()
}
