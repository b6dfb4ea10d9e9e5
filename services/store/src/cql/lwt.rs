//! Conditional writes ("lightweight transactions"), and what became of those that were not answered.
//!
//! A conditional write whose answer is an error may have been applied, or may be applied yet. A read at serial
//! consistency ends that for all that reached a replica: it completes what a quorum had accepted and outbids the rest.
//! So after an error the row is read, and the write is repeated only if the row is still what it expected. Its
//! condition then holds at most once, however many of the repetitions arrive.

use std::time::Duration;

use scylla::response::query_result::QueryResult;
use scylla::value::{CqlValue, Row};
use tokio::time::Instant;
use uuid::Uuid;

use super::failure;
use crate::{Cas, StoreError};

/// No repetition begins later than this after the first try: callers wait, and their own bounds are near.
pub(super) const PATIENCE: Duration = Duration::from_secs(6);
/// Sends of one write.
const SENDS_MAX: usize = 4;

/// A conditional write that lost every time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the row is being changed by too many at once")]
pub(super) struct Contended;

/// The database's word on a conditional write.
#[derive(Debug)]
pub(super) enum Answer {
    Applied,
    Refused(Standing),
}

/// The row that refused a write, as far as the database shows it: all of it to an `IF NOT EXISTS`, the columns of the
/// condition otherwise.
#[derive(Debug)]
pub(super) struct Standing(Vec<(String, Option<CqlValue>)>);

/// What a serial read says about a write that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The row is what was written.
    Mine,
    /// The row is what the write expected.
    Untouched,
    /// The row is something else, which the write cannot have come before.
    Other,
    /// The row has been changed since, and the write may or may not be among the changes.
    Later,
}

/// Repeats a conditional write until its outcome is known. `send` must be the same write each time.
///
/// # Errors
///
/// The last one, when the outcome could not be found out.
pub(super) async fn settle<S, L>(
    send: impl Fn() -> S + Send,
    look: impl Fn() -> L + Send,
) -> Result<Cas, StoreError>
where
    S: Future<Output = Result<Answer, StoreError>> + Send,
    L: Future<Output = Result<Found, StoreError>> + Send,
{
    let give_up_at = Instant::now() + PATIENCE;
    let mut unknown = match send().await {
        Ok(Answer::Applied) => return Ok(Cas::Applied),
        Ok(Answer::Refused(_)) => return Ok(Cas::Conflict),
        Err(error) => error,
    };
    for _ in 1..SENDS_MAX {
        if !may_be_repeated(&unknown) || Instant::now() >= give_up_at {
            break;
        }
        match look().await {
            Ok(Found::Mine) => return Ok(Cas::Applied),
            Ok(Found::Other) => return Ok(Cas::Conflict),
            Ok(Found::Later) => break,
            Ok(Found::Untouched) => match send().await {
                Ok(Answer::Applied) => return Ok(Cas::Applied),
                // By an earlier one of these sends, or by somebody else: the next look tells.
                Ok(Answer::Refused(_)) => {}
                Err(error) => unknown = error,
            },
            Err(error) => unknown = error,
        }
    }
    Err(unknown)
}

/// Sends a conditional write until it is answered, for those that may be applied twice without harm.
///
/// # Errors
///
/// The last one, when there was no answer.
pub(super) async fn repeat<S>(send: impl Fn() -> S + Send) -> Result<Answer, StoreError>
where
    S: Future<Output = Result<Answer, StoreError>> + Send,
{
    let give_up_at = Instant::now() + PATIENCE;
    let mut sends = 1;
    loop {
        match send().await {
            Err(error) if sends < SENDS_MAX && may_be_repeated(&error) && Instant::now() < give_up_at => {
                sends += 1
            }
            outcome => return outcome,
        }
    }
}

/// For rows with a version that only rises, and the id of the write that made it.
pub(super) fn compare(standing: Option<(i64, Uuid)>, mine: (i64, Uuid), expected: Option<i64>) -> Found {
    let version = standing.map(|(version, _)| version);
    if standing == Some(mine) {
        Found::Mine
    } else if version == expected {
        Found::Untouched
    } else if version > Some(mine.0) {
        Found::Later
    } else {
        Found::Other
    }
}

/// Whether it is of use to try again: not when nothing was sent because too much is under way, nor when what came
/// back made no sense.
pub(super) fn may_be_repeated(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable(source) => !source.is::<failure::Busy>(),
        _ => false,
    }
}

/// Databases differ in the columns of the answer, so they are found by name. A batch may be answered with a row for
/// each statement, all with the same verdict.
pub(super) fn answer(what: &'static str, result: QueryResult) -> Result<Answer, StoreError> {
    let rows = result.into_rows_result().map_err(|error| failure::corrupt(what, error))?;
    let names: Vec<_> = rows.column_specs().iter().map(|column| column.name().to_owned()).collect();
    let row: Row = rows.first_row().map_err(|error| failure::corrupt(what, error))?;
    let columns: Vec<_> = names.into_iter().zip(row.columns).collect();
    let verdict = columns.iter().find(|(name, _)| name == "[applied]");
    match verdict.and_then(|(_, value)| value.as_ref()).and_then(CqlValue::as_boolean) {
        Some(true) => Ok(Answer::Applied),
        Some(false) => Ok(Answer::Refused(Standing(columns))),
        None => Err(failure::corrupt(
            what,
            "the answer to a conditional write does not say whether it was applied",
        )),
    }
}

impl Standing {
    pub(super) fn uuid(&self, column: &str) -> Option<Uuid> {
        let (_, value) = self.0.iter().find(|(name, _)| name == column)?;
        value.as_ref()?.as_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no answer")]
    struct NoAnswer;

    fn no_answer<T>() -> Result<T, StoreError> {
        Err(failure::unavailable(NoAnswer))
    }

    fn refused() -> Result<Answer, StoreError> {
        Ok(Answer::Refused(Standing(Vec::new())))
    }

    /// Plays the answers in turn; anything more is a failure of the test.
    async fn play(
        sends: Vec<Result<Answer, StoreError>>,
        looks: Vec<Result<Found, StoreError>>,
    ) -> (Result<Cas, StoreError>, usize) {
        let (sends, looks) = (Mutex::new(sends.into_iter()), Mutex::new(looks.into_iter()));
        let next_send = || sends.lock().unwrap().next().expect("sent once more than it should be");
        let next_look = || looks.lock().unwrap().next().expect("looked once more than it should");
        let outcome = settle(|| std::future::ready(next_send()), || std::future::ready(next_look())).await;
        let left = sends.lock().unwrap().len() + looks.lock().unwrap().len();
        (outcome, left)
    }

    #[tokio::test]
    async fn an_answer_is_taken_as_it_is() {
        let (outcome, _) = play(vec![Ok(Answer::Applied)], vec![]).await;
        assert!(matches!(outcome, Ok(Cas::Applied)));
        let (outcome, _) = play(vec![refused()], vec![]).await;
        assert!(matches!(outcome, Ok(Cas::Conflict)));
    }

    #[tokio::test]
    async fn without_an_answer_the_row_decides() {
        let (outcome, _) = play(vec![no_answer()], vec![Ok(Found::Mine)]).await;
        assert!(matches!(outcome, Ok(Cas::Applied)));
        let (outcome, _) = play(vec![no_answer()], vec![Ok(Found::Other)]).await;
        assert!(matches!(outcome, Ok(Cas::Conflict)));
        let (outcome, _) = play(vec![no_answer()], vec![Ok(Found::Later)]).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))));
    }

    #[tokio::test]
    async fn a_refusal_of_a_repetition_may_be_the_work_of_an_earlier_send() {
        let looks = vec![Ok(Found::Untouched), Ok(Found::Mine)];
        let (outcome, left) = play(vec![no_answer(), refused()], looks).await;
        assert!(matches!((outcome, left), (Ok(Cas::Applied), 0)));
    }

    #[tokio::test]
    async fn repetitions_are_bounded() {
        let sends = (0..SENDS_MAX).map(|_| no_answer()).collect();
        let looks = (1..SENDS_MAX).map(|_| Ok(Found::Untouched)).collect();
        let (outcome, left) = play(sends, looks).await;
        assert!(matches!((outcome, left), (Err(StoreError::Unavailable(_)), 0)));
    }

    #[test]
    fn a_row_tells_whose_write_it_is() {
        let (mine, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let compared = |standing| compare(standing, (5, mine), Some(4));
        assert_eq!(compared(Some((5, mine))), Found::Mine);
        assert_eq!(compared(Some((5, other))), Found::Other);
        assert_eq!(compared(Some((4, other))), Found::Untouched);
        assert_eq!(compared(Some((3, other))), Found::Other);
        assert_eq!(compared(Some((6, other))), Found::Later);
        // It has been deleted, before or after; either way the caller has to look again.
        assert_eq!(compared(None), Found::Other);
        assert_eq!(compare(None, (1, mine), None), Found::Untouched);
    }

    #[tokio::test]
    async fn what_was_not_sent_for_want_of_room_is_not_tried_again() {
        let sends = AtomicUsize::new(0);
        let outcome = settle(
            || {
                sends.fetch_add(1, Ordering::SeqCst);
                std::future::ready(Err(failure::unavailable(failure::Busy)))
            },
            || std::future::ready(Ok(Found::Untouched)),
        )
        .await;
        assert!(outcome.is_err());
        assert_eq!(sends.load(Ordering::SeqCst), 1);
    }
}
