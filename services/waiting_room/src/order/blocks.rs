//! Blocks of sequence numbers, lent by control and given out by gateways.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Lends blocks. One lives in each process that may hold the control lease; the one that holds it lends.
///
/// Two holders never lend the same number: a holder lends only up to a mark that was stored before, and the next one
/// starts above the mark that it finds. Who stores it does so under the lease's fencing token, so that a holder who has lost the
/// lease without noticing cannot raise it.
#[derive(Clone, Debug)]
pub struct Blocks {
    epoch: u64,
    next: u64,
    stored: u64,
    /// What was lent before this holder came, or not.
    before: Option<Before>,
}

/// What must be in the store before more is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The lease's fencing token.
    pub epoch: u64,
    /// No number above it has been lent.
    pub highest: u64,
}

/// Numbers as lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lent {
    pub epoch: u64,
    pub first: u64,
    pub count: u32,
}

/// A block at the gateway.
#[derive(Clone, Debug)]
pub struct Block {
    lent: Lent,
    taken: u32,
    until: Duration,
}

/// Nothing can be lent until a mark has been stored ([`Blocks::wanted`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no numbers are reserved")]
pub struct NotReserved;

/// Why a block gives no number. Its rest is to be abandoned and another one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoNumber {
    #[error("the block is used up")]
    UsedUp,
    #[error("the block is older than a second")]
    Over,
}

#[derive(Clone, Copy, Debug)]
struct Before {
    mark: u64,
    since: Duration,
}

/// What a gateway gets that does not say how many it wants.
pub const BLOCK: u32 = 256;
/// A mistaken gateway must not push everybody else back by more.
pub const BLOCK_MAX: u32 = 1_024;
/// How long a block may be given out.
pub const BLOCK_VALID_FOR: Duration = Duration::from_secs(1);

/// Numbers that are reserved by one write to the store: four seconds' worth of a million arrivals in a minute. Skipped when the holder
/// changes, which costs nothing ([`Blocks::skipped`]).
const RESERVED: u64 = 65_536;
/// A block is to last so long. Two who come at the same time to two gateways are apart by half of this at most times; the order of a
/// million who come in one minute then agrees with their arrival to Kendall tau 0.9995.
const BLOCK_LASTS: Duration = Duration::from_millis(50);
/// From taking over until everybody has abandoned the blocks of the holder before, and has said so.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// How many numbers a gateway should ask for, given its arrivals a second.
pub fn block_for(rate: f64) -> u32 {
    // `as` saturates, and NaN is 0.
    ((rate * BLOCK_LASTS.as_secs_f64()).ceil() as u32).clamp(1, BLOCK_MAX)
}

impl Blocks {
    /// A new holder, who found `mark` in the store; 0 if none.
    pub const fn new(epoch: u64, mark: u64, now: Duration) -> Self {
        let before = if mark > 0 { Some(Before { mark, since: now }) } else { None };
        Self { epoch, next: mark + 1, stored: mark, before }
    }

    /// What to store, if it is time. The write must fail if a later epoch has written.
    pub fn wanted(&self) -> Option<Mark> {
        let left = (self.stored + 1).saturating_sub(self.next);
        let highest = self.next - 1 + RESERVED;
        (left < RESERVED / 2).then_some(Mark { epoch: self.epoch, highest })
    }

    /// `mark` is in the store.
    pub fn stored(&mut self, mark: Mark) {
        if mark.epoch == self.epoch {
            self.stored = self.stored.max(mark.highest);
        }
    }

    /// Up to which number may be lent.
    pub const fn mark(&self) -> u64 {
        self.stored
    }

    /// The highest number that has been lent, by this holder or before.
    pub const fn lent_up_to(&self) -> u64 {
        self.next - 1
    }

    /// Lends as many as a gateway wants, within [`BLOCK_MAX`]; it gets fewer if fewer are reserved.
    ///
    /// # Errors
    ///
    /// [`NotReserved`].
    pub fn lend(&mut self, wanted: Option<u32>) -> Result<Lent, NotReserved> {
        let left = (self.stored + 1).saturating_sub(self.next);
        let count = wanted.unwrap_or(BLOCK).clamp(1, BLOCK_MAX).min(u32::try_from(left).unwrap_or(u32::MAX));
        if count == 0 {
            return Err(NotReserved);
        }
        let lent = Lent { epoch: self.epoch, first: self.next, count };
        self.next += u64::from(count);
        Ok(lent)
    }

    /// The numbers between the last one that was given out under earlier holders and the first one of this holder: nobody has
    /// them. Told once, when all blocks of before are over. `issued`: the highest number of before that gateways have told of, not one
    /// of this holder's.
    ///
    /// Should a gateway have died before it told of its last number, its holder has a number in here, and is called early instead of late.
    pub fn skipped(&mut self, now: Duration, issued: u64) -> Option<RangeInclusive<u64>> {
        let before = self.before.filter(|before| now >= before.since + SETTLED_AFTER)?;
        self.before = None;
        (issued < before.mark).then(|| issued + 1..=before.mark)
    }

    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Block {
    /// A block that was asked for at `asked`, not one that came at it: the lender's second began somewhere between.
    pub fn new(lent: Lent, asked: Duration) -> Self {
        Self { lent, taken: 0, until: asked + BLOCK_VALID_FOR }
    }

    /// Whether it gives nothing any more because its second is over.
    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.until
    }

    /// The next number.
    ///
    /// # Errors
    ///
    /// [`NoNumber`].
    pub fn take(&mut self, now: Duration) -> Result<u64, NoNumber> {
        if self.taken == self.lent.count {
            return Err(NoNumber::UsedUp);
        }
        if now >= self.until {
            return Err(NoNumber::Over);
        }
        self.taken += 1;
        Ok(self.lent.first + u64::from(self.taken) - 1)
    }

    /// The numbers that nobody will get, to be told to control, so that the frontier does not wait for them.
    pub fn abandon(self) -> Option<RangeInclusive<u64>> {
        let end = self.lent.first + u64::from(self.lent.count);
        let first = self.lent.first + u64::from(self.taken);
        (first < end).then(|| first..=end - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn reserved(mut blocks: Blocks) -> Blocks {
        if let Some(mark) = blocks.wanted() {
            blocks.stored(mark);
        }
        blocks
    }

    #[test]
    fn a_block_ends_a_second_after_it_was_asked_for_and_abandons_its_rest() {
        let mut blocks = reserved(Blocks::new(1, 0, Duration::ZERO));
        let mut block = Block::new(blocks.lend(Some(3)).unwrap(), SECOND);
        assert_eq!(block.take(SECOND), Ok(1));
        assert_eq!(block.take(SECOND * 2), Err(NoNumber::Over));
        assert_eq!(block.abandon(), Some(2..=3));
        let mut block = Block::new(blocks.lend(Some(1)).unwrap(), SECOND);
        assert_eq!((block.take(SECOND), block.take(SECOND)), (Ok(4), Err(NoNumber::UsedUp)));
        assert_eq!(block.abandon(), None);
    }

    #[test]
    fn a_new_holder_tells_once_what_was_skipped() {
        let mut blocks = reserved(Blocks::new(2, 1_000, SECOND));
        assert_eq!(blocks.lend(None).unwrap().first, 1_001);
        assert_eq!(blocks.skipped(SECOND * 2, 300), None);
        assert_eq!(blocks.skipped(SECOND * 4, 300), Some(301..=1_000));
        assert_eq!(blocks.skipped(SECOND * 5, 300), None);
    }

    proptest! {
        /// Whatever is stored or fails to be, and whoever holds the lease next, with the one before still lending.
        #[test]
        fn no_number_is_lent_twice(
            steps in prop::collection::vec((0u8..4, 0u32..3_000, any::<bool>()), 1..300),
        ) {
            // The store: a mark, and the epoch that may write.
            let (mut mark, mut epoch) = (0, 1);
            let mut holders = vec![Blocks::new(1, 0, Duration::ZERO)];
            let mut lent: Vec<Lent> = Vec::new();
            for (what, wanted, old) in steps {
                let newest = holders.len() - 1;
                let holder = if old { newest.saturating_sub(1) } else { newest };
                match what {
                    0 if holders.len() < 20 => {
                        epoch += 1;
                        holders.push(Blocks::new(epoch, mark, Duration::ZERO));
                    }
                    1 => {
                        if let Some(wanted) = holders[holder].wanted() && wanted.epoch == epoch {
                            mark = wanted.highest;
                            holders[holder].stored(wanted);
                        }
                    }
                    _ => lent.extend(holders[holder].lend(Some(wanted))),
                }
            }
            lent.sort_by_key(|block| block.first);
            for pair in lent.windows(2) {
                prop_assert!(pair[0].first + u64::from(pair[0].count) <= pair[1].first, "{pair:?}");
            }
        }
    }
}
