//! Collects acks, so that the mailbox deletes many messages at a time.

use std::time::Duration;

use spillway_types::MessageId;
use tokio::time::Instant;

/// What the mailbox takes in one call.
const CALL_IDS_MAX: usize = 256;
/// When so many wait, the session reads no more from its client until a call has ended.
const PENDING_MAX: usize = 512;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct AckBatch {
    pending: Vec<MessageId>,
    delay: Duration,
    batch: usize,
    /// Since when the oldest of them waits.
    since: Option<Instant>,
    /// Not before this, after a call that failed.
    retry_at: Option<Instant>,
    retry_after: Duration,
}

impl AckBatch {
    pub(crate) fn new(delay: Duration, batch: usize) -> Self {
        Self { pending: Vec::new(), delay, batch, since: None, retry_at: None, retry_after: FIRST_RETRY }
    }

    pub(crate) fn push(&mut self, id: MessageId, now: Instant) {
        self.pending.push(id);
        self.since.get_or_insert(now);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        let due = if self.pending.len() >= self.batch { since } else { since + self.delay };
        Some(self.retry_at.map_or(due, |retry_at| retry_at.max(due)))
    }

    /// The ids of the next call, if it is time for one. The caller has one call under way at most.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Vec<MessageId>> {
        self.due().filter(|due| *due <= now)?;
        self.take_now(now)
    }

    /// The same without regard to the time.
    pub(crate) fn take_now(&mut self, now: Instant) -> Option<Vec<MessageId>> {
        if self.pending.is_empty() {
            return None;
        }
        let rest = self.pending.split_off(self.pending.len().min(CALL_IDS_MAX));
        let ids = std::mem::replace(&mut self.pending, rest);
        self.since = (!self.pending.is_empty()).then_some(now);
        Some(ids)
    }

    pub(crate) fn succeeded(&mut self) {
        self.retry_at = None;
        self.retry_after = FIRST_RETRY;
    }

    /// The ids go again, before those that came meanwhile.
    pub(crate) fn failed(&mut self, mut ids: Vec<MessageId>, now: Instant) {
        ids.append(&mut self.pending);
        self.pending = ids;
        self.since = Some(now);
        self.retry_at = Some(now + self.retry_after);
        self.retry_after = (self.retry_after * 2).min(LAST_RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(100);

    fn ids(range: std::ops::Range<u16>) -> Vec<MessageId> {
        range
            .map(|n| {
                MessageId::from_bytes([(n >> 8) as u8, n as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            })
            .collect()
    }

    fn batch_of(range: std::ops::Range<u16>, now: Instant) -> AckBatch {
        let mut batch = AckBatch::new(DELAY, 64);
        ids(range).into_iter().for_each(|id| batch.push(id, now));
        batch
    }

    #[tokio::test(start_paused = true)]
    async fn few_acks_wait_and_many_do_not() {
        let now = Instant::now();
        let mut few = batch_of(0..63, now);
        assert_eq!(few.due(), Some(now + DELAY));
        assert_eq!(few.take(now), None);
        assert_eq!(few.take(now + DELAY), Some(ids(0..63)));
        assert_eq!(few.due(), None);
        assert_eq!(batch_of(0..64, now).take(now), Some(ids(0..64)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_takes_the_oldest_and_the_rest_follows() {
        let now = Instant::now();
        let mut batch = batch_of(0..300, now);
        assert_eq!(batch.take(now), Some(ids(0..256)));
        assert_eq!(batch.take(now), None);
        assert_eq!(batch.take(now + DELAY), Some(ids(256..300)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_call_is_repeated_later_and_later() {
        let now = Instant::now();
        let mut batch = batch_of(0..64, now);
        let failed = batch.take(now).unwrap();
        batch.push(ids(64..65)[0], now);
        batch.failed(failed, now);
        assert_eq!(batch.due(), Some(now + FIRST_RETRY));
        let again = batch.take(now + FIRST_RETRY).unwrap();
        assert_eq!(again, ids(0..65));
        batch.failed(again, now);
        assert_eq!(batch.due(), Some(now + FIRST_RETRY * 2));
        batch.succeeded();
        assert_eq!(batch.due(), Some(now));
    }

    #[tokio::test(start_paused = true)]
    async fn reading_stops_when_too_many_wait() {
        let now = Instant::now();
        assert!(!batch_of(0..511, now).is_full());
        assert!(batch_of(0..512, now).is_full());
    }
}
