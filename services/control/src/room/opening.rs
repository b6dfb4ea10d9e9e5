//! A scheduled opening: whoever comes before it takes part in a lottery, so that the fastest network wins nothing.
//!
//! Numbers are lent as always. When the time has come the pool is closed at the last of them; when the gateways have given out what was
//! lent of it, and the pool is in the store, it is drawn. It is stored first because its size decides who has which place: whoever holds
//! the lease next must not draw another one.

use std::time::Duration;

use spillway_types::Timestamp;
use spillway_waiting_room::{BLOCK_VALID_FOR, Blocks, Operator, Pool, Steering};

/// The holder's part in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening {
    /// As it is in the store.
    stored: Option<Pool>,
    closed: Option<Closed>,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    at: Duration,
    last: u64,
}

/// From closing a pool until all numbers of it have been given out or will never be: a block's time, and that of the call that brought it.
const GIVEN_OUT_AFTER: Duration = BLOCK_VALID_FOR.saturating_add(Duration::from_secs(1));

impl Opening {
    /// `stored`: what was found.
    pub(crate) const fn new(stored: Option<Pool>) -> Self {
        Self { stored, closed: None }
    }

    /// Takes the next step, if it is time for one. `opens_at`: as it is planned now.
    pub(crate) fn step(
        &mut self,
        opens_at: Option<Timestamp>,
        steering: &mut Steering,
        blocks: &Blocks,
        now: Duration,
        clock: Timestamp,
    ) {
        // Not again when nobody had come yet and an operator has opened it.
        let is_opened = steering.operator() == Operator::Open;
        if steering.pool().is_none() && !is_opened && opens_at.is_some_and(|at| clock < at) {
            steering.await_draw(blocks.lent_up_to() + 1);
        }
        let Some(first) = steering.awaits() else { return };
        // What is not planned any more is due.
        let due = opens_at.is_none_or(|at| clock >= at) || is_opened;
        if !due && self.closed.is_none() {
            return;
        }
        let Closed { at, last } = *self.closed.get_or_insert(Closed { at: now, last: blocks.lent_up_to() });
        let pool = pool(first, last);
        if now.saturating_sub(at) >= GIVEN_OUT_AFTER && (pool.count == 0 || self.stored == Some(pool)) {
            steering.draw(last);
            self.closed = None;
        }
    }

    /// What is to be stored, if it is not yet.
    pub(crate) fn to_store(&self, steering: &Steering) -> Option<Pool> {
        let closed = self.closed.zip(steering.awaits()).map(|(closed, first)| pool(first, closed.last));
        closed.or(steering.pool()).filter(|pool| self.stored != Some(*pool))
    }

    pub(crate) const fn stored(&mut self, pool: Pool) {
        self.stored = Some(pool);
    }
}

fn pool(first: u64, last: u64) -> Pool {
    Pool { first, count: (last + 1).saturating_sub(first) }
}

#[cfg(test)]
mod tests {
    use spillway_waiting_room::{Frontier, Limits, Mark, SteeringConfig, Tick};

    use super::*;

    struct Holder {
        opening: Opening,
        steering: Steering,
        blocks: Blocks,
        second: u64,
    }

    const OPENS_AT: Timestamp = Timestamp::from_millis(100_000);

    impl Holder {
        /// Comes at `second`, and finds these.
        fn at(second: u64, epoch: u64, mark: u64, stored: Option<Pool>, heard: &Frontier) -> Self {
            let mut blocks = Blocks::new(epoch, mark, Duration::from_secs(second));
            blocks.stored(Mark { epoch, highest: mark + 100_000 });
            let last = Frontier { pool: stored.or(heard.pool), ..*heard };
            let mut steering = Steering::resume(SteeringConfig::default(), epoch, &last);
            let mut opening = Opening::new(stored);
            let (now, clock) = (Duration::from_secs(second), Timestamp::from_millis(second * 1_000));
            opening.step(Some(OPENS_AT), &mut steering, &blocks, now, clock);
            Self { opening, steering, blocks, second }
        }

        fn second(&mut self, store: &mut Option<Pool>, stores: bool) -> Frontier {
            let (now, clock) =
                (Duration::from_secs(self.second), Timestamp::from_millis(self.second * 1_000));
            self.opening.step(Some(OPENS_AT), &mut self.steering, &self.blocks, now, clock);
            if let Some(pool) = self.opening.to_store(&self.steering)
                && stores
            {
                *store = Some(pool);
                self.opening.stored(pool);
            }
            self.second += 1;
            let limits = Limits { provider: 10.0, ..Limits::NONE };
            self.steering.tick(&Tick {
                now,
                at: clock,
                limits: &limits,
                refusing: false,
                issued: self.blocks.lent_up_to(),
                abandoned: &[],
                claimed: &[],
            })
        }
    }

    #[test]
    fn nobody_is_called_before_it_opens_and_who_comes_later_is_behind_the_pool() {
        let (mut holder, mut store) = (Holder::at(0, 1, 0, None, &Frontier::NONE), None);
        for second in 0..100 {
            holder.blocks.lend(Some(10)).unwrap();
            let frontier = holder.second(&mut store, true);
            assert!(frontier.f == 0 && frontier.frozen(), "{second}: {frontier:?}");
            assert_eq!(store, Some(Pool { first: 1, count: 0 }));
        }
        let mut frontier = Frontier::NONE;
        for _ in 0..20 {
            frontier = holder.second(&mut store, true);
            holder.blocks.lend(Some(10)).unwrap();
        }
        assert_eq!(frontier.pool, Some(Pool { first: 1, count: 1_000 }));
        assert_eq!(store, frontier.pool);
        assert!((50..400).contains(&frontier.f), "{frontier:?}");
    }

    #[test]
    fn it_is_not_drawn_before_it_is_stored_and_another_holder_draws_the_same() {
        let (mut holder, mut store) = (Holder::at(90, 1, 0, None, &Frontier::NONE), None);
        for _ in 0..10 {
            holder.blocks.lend(Some(100)).unwrap();
            holder.second(&mut store, true);
        }
        for _ in 0..10 {
            assert_eq!(holder.second(&mut store, false).f, 0, "the store is away");
        }
        holder.blocks.lend(Some(100)).unwrap();
        let heard = holder.second(&mut store, true);
        assert_eq!(store, Some(Pool { first: 1, count: 1_000 }));
        assert_eq!(
            heard.pool,
            Some(Pool { first: 1, count: 0 }),
            "not drawn in the second in which it is stored"
        );
        let mut next = Holder::at(115, 2, 5_000, store, &heard);
        for _ in 0..5 {
            assert_eq!(next.second(&mut store, true).pool, Some(Pool { first: 1, count: 1_000 }));
        }
        assert!(next.second(&mut store, true).f > 0);
    }

    #[test]
    fn an_operator_opens_it_early_and_an_opening_without_anybody_is_none() {
        let (mut holder, mut store) = (Holder::at(0, 1, 0, None, &Frontier::NONE), None);
        holder.second(&mut store, true);
        holder.blocks.lend(Some(7)).unwrap();
        holder.steering.steer(Operator::Open);
        let frontiers: Vec<_> = (0..6).map(|_| holder.second(&mut store, true)).collect();
        assert_eq!(frontiers[5].pool, Some(Pool { first: 1, count: 7 }));
        assert_eq!(frontiers[5].f, 7);

        let (mut early, mut store) = (Holder::at(0, 1, 0, None, &Frontier::NONE), None);
        early.steering.steer(Operator::Open);
        let frontiers: Vec<_> = (0..10).map(|_| early.second(&mut store, true)).collect();
        assert!(frontiers[5..].iter().all(|frontier| !frontier.frozen()), "it stays open: {frontiers:?}");

        let (mut empty, mut store) = (Holder::at(98, 1, 0, None, &Frontier::NONE), None);
        let frontiers: Vec<_> = (0..8).map(|_| empty.second(&mut store, true)).collect();
        assert_eq!(frontiers[7].pool, None);
        assert!(!frontiers[7].frozen());
    }
}
