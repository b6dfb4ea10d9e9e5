//! Who waits for a seat: a bounded queue from which the more important push out the less important.
//!
//! It protects the high tiers before any loop has reacted: at ten times the capacity a queue as long as the limit
//! fills within milliseconds.
//!
//! One queue for each tier. Between tiers: strict priority, but each tier that waits gets its floor of what is served
//! (deficit round robin), and of the places: who is pushed out for one of another tier leaves his own more than its floor, and
//! who would not have his tier's floor finds a place at the cost of those beyond theirs. Otherwise a flood of the more important would leave
//! nobody waiting who could be given the floor. Within a tier: fair between users ([`lanes`]), in order within a flow. Whoever leaves takes
//! their entry out at once, so a cancelled call holds neither a place nor a seat.

pub(crate) mod lanes;
mod slots;

use std::time::Duration;

use crate::class::cohort::User;
use crate::class::{Level, TIERS, Tier};
use crate::limiter::Kind;
use lanes::Lanes;
use slots::{LEVEL, List, Slots};

/// A call that waits.
#[derive(Debug)]
pub(crate) struct Entry<W> {
    pub(crate) level: Level,
    pub(crate) user: User,
    /// Calls with the same flow keep their order.
    pub(crate) flow: u64,
    pub(crate) seats: u32,
    pub(crate) kind: Kind,
    pub(crate) arrived: Duration,
    /// From then on it must not be served.
    pub(crate) expires: Duration,
    /// Whether `expires` comes from the deadline, and not from the tier's queue age.
    pub(crate) doomed: bool,
    pub(crate) deadline: Duration,
    pub(crate) waiter: W,
}

/// An entry's place. A place that was taken again has another generation, so that who left late removes nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
pub(crate) struct Queue<W> {
    slots: Slots<Entry<W>>,
    lanes: [Lanes; Tier::COUNT],
    levels: Box<[List; Level::COUNT]>,
    /// A bit for each level in which somebody waits.
    occupied: [u64; Level::COUNT / 64],
    seats: u64,
    /// Of them, those of each tier.
    tier_seats: [u64; Tier::COUNT],
    /// Seats of the floor that a waiting tier has not been given yet.
    owed: [f64; Tier::COUNT],
    waiting_since: [Option<Duration>; Tier::COUNT],
}

/// What [`Queue::pop`] finds.
#[derive(Debug)]
pub(crate) enum Next<W> {
    Serve(Entry<W>),
    Expired(Entry<W>),
    /// The next one needs more seats than there are. Nobody overtakes it, else it would wait for ever.
    Blocked,
    Empty,
}

/// A tier can be owed at most this much, so that one which waited long does not block all others after.
const OWED_MAX: f64 = 64.0;

impl<W> Queue<W> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slots::new(),
            lanes: std::array::from_fn(|_| Lanes::new()),
            levels: Box::new([List::EMPTY; Level::COUNT]),
            occupied: [0; Level::COUNT / 64],
            seats: 0,
            tier_seats: [0; Tier::COUNT],
            owed: [0.0; Tier::COUNT],
            waiting_since: [None; Tier::COUNT],
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// Whether nobody waits in this tier or a more important one.
    pub(crate) fn is_empty_up_to(&self, tier: Tier) -> bool {
        self.lanes[..=tier as usize].iter().all(Lanes::is_empty)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn seats(&self) -> u64 {
        self.seats
    }

    /// How long a tier's queue has not been empty.
    pub(crate) fn standing(&self, tier: Tier, now: Duration) -> Duration {
        self.waiting_since[tier as usize].map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Whether an entry of this level and width would be taken.
    pub(crate) fn has_room(&self, level: Level, seats: u32, seats_max: u64) -> bool {
        self.seats + u64::from(seats) <= seats_max || self.victim(level, seats, seats_max).is_some()
    }

    /// Adds an entry for which there [is room](Self::has_room), and moves those whom it pushes out into `evicted`: the
    /// newest of the worst level first that may be pushed out, because it has waited least.
    pub(crate) fn push(
        &mut self,
        now: Duration,
        entry: Entry<W>,
        seats_max: u64,
        newest_first: bool,
        evicted: &mut Vec<Entry<W>>,
    ) -> Place {
        while self.seats + u64::from(entry.seats) > seats_max {
            let Some(victim) = self.victim(entry.level, entry.seats, seats_max) else { break };
            let newest = self.levels[victim.index()].tail();
            evicted.extend(self.take(newest));
        }
        let (level, user, flow, seats) = (entry.level, entry.user, entry.flow, entry.seats);
        let tier = level.tier() as usize;
        let index = self.slots.insert(entry);
        self.slots.push_back::<LEVEL>(&mut self.levels[level.index()], index);
        self.lanes[tier].push(&mut self.slots, index, user, flow, newest_first);
        self.occupied[level.index() / 64] |= 1 << (level.index() % 64);
        self.seats += u64::from(seats);
        self.tier_seats[tier] += u64::from(seats);
        self.waiting_since[tier].get_or_insert(now);
        Place { index, generation: self.slots.generation(index) }
    }

    /// Pushes out until no more than `seats_max` wait.
    pub(crate) fn trim(&mut self, seats_max: u64, evicted: &mut Vec<Entry<W>>) {
        while self.seats > seats_max {
            let beyond_floor = |level: &Level| self.is_beyond_floor(level.tier(), seats_max);
            let Some(worst) = self.worst_first().find(beyond_floor).or_else(|| self.worst_first().next())
            else {
                break;
            };
            let newest = self.levels[worst.index()].tail();
            evicted.extend(self.take(newest));
        }
    }

    /// Takes the next one out, if `fits` says that its seats are free.
    pub(crate) fn pop(&mut self, now: Duration, fits: impl Fn(u32) -> bool) -> Next<W> {
        let Some((tier, index, owed)) = self.choose() else { return Next::Empty };
        let Some(entry) = self.slots.get(index) else { return Next::Empty };
        if entry.expires <= now {
            return self.take(index).map_or(Next::Empty, Next::Expired);
        }
        let seats = entry.seats;
        if !fits(seats) {
            return Next::Blocked;
        }
        self.lanes[tier as usize].charge(&self.slots, index);
        for ((owed, lanes), spec) in self.owed.iter_mut().zip(&self.lanes).zip(&TIERS) {
            let more = (*owed + spec.floor * f64::from(seats)).min(OWED_MAX);
            *owed = if lanes.is_empty() { 0.0 } else { more };
        }
        if owed {
            self.owed[tier as usize] -= f64::from(seats);
        }
        self.take(index).map_or(Next::Empty, Next::Serve)
    }

    /// Takes an entry out that is still there.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Entry<W>> {
        if self.slots.generation(place.index) == place.generation { self.take(place.index) } else { None }
    }

    /// Takes out all whose time is over, and those who have waited longer than the age of their tier.
    pub(crate) fn sweep(&mut self, now: Duration, age: impl Fn(Tier) -> Duration) -> Vec<Entry<W>> {
        let mut expired = Vec::new();
        if self.is_empty() {
            return expired;
        }
        let ages = Tier::ALL.map(age);
        for index in 0..self.slots.capacity() {
            let Some(entry) = self.slots.get(index) else { continue };
            let waited = now.saturating_sub(entry.arrived);
            if entry.expires <= now || waited >= ages[entry.level.tier() as usize] {
                expired.extend(self.take(index));
            }
        }
        expired
    }

    /// Whose turn it is, and whether it is because of the floor.
    fn choose(&mut self) -> Option<(Tier, u32, bool)> {
        let mut first = None;
        for tier in Tier::ALL.into_iter().skip(1) {
            let Some(index) = self.lanes[tier as usize].front(&self.slots) else { continue };
            let seats = self.slots.get(index).map_or(0, |entry| entry.seats);
            if self.owed[tier as usize] >= f64::from(seats).max(1.0) {
                return Some((tier, index, true));
            }
            first = first.or(Some((tier, index, false)));
        }
        first
    }

    /// The level from which somebody makes room for an entry of this level and width in a queue that is full.
    fn victim(&self, level: Level, seats: u32, seats_max: u64) -> Option<Level> {
        let tier = level.tier();
        let with_it = self.tier_seats[tier as usize] + u64::from(seats);
        let has_a_right = with_it as f64 <= tier.spec().floor * seats_max as f64;
        self.worst_first().find(|&waiting| {
            if waiting.tier() == tier {
                level < waiting
            } else {
                (level < waiting || has_a_right) && self.is_beyond_floor(waiting.tier(), seats_max)
            }
        })
    }

    /// Whether more of a tier waits than its floor of the places.
    fn is_beyond_floor(&self, tier: Tier, seats_max: u64) -> bool {
        self.tier_seats[tier as usize] as f64 > tier.spec().floor * seats_max as f64
    }

    /// Levels in which somebody waits, the least important first.
    fn worst_first(&self) -> impl Iterator<Item = Level> {
        self.occupied.iter().enumerate().rev().flat_map(|(word, &bits)| {
            let bits = std::iter::successors(Some(bits), |bits| Some(bits & !(1 << highest(*bits)?)));
            let levels = bits.map_while(highest).map(move |bit| (word * 64) as u16 + bit as u16);
            levels.filter_map(|level| Level::try_from(level).ok())
        })
    }

    fn take(&mut self, index: u32) -> Option<Entry<W>> {
        let (level, seats) = self.slots.get(index).map(|entry| (entry.level, entry.seats))?;
        let tier = level.tier() as usize;
        self.lanes[tier].remove(&mut self.slots, index);
        let list = &mut self.levels[level.index()];
        self.slots.unlink::<LEVEL>(list, index);
        if list.is_empty() {
            self.occupied[level.index() / 64] &= !(1 << (level.index() % 64));
        }
        self.seats -= u64::from(seats);
        self.tier_seats[tier] -= u64::from(seats);
        if self.lanes[tier].is_empty() {
            self.waiting_since[tier] = None;
            self.owed[tier] = 0.0;
        }
        self.slots.remove(index)
    }
}

/// The highest bit that is set.
fn highest(bits: u64) -> Option<u32> {
    bits.checked_ilog2()
}

#[cfg(test)]
#[path = "queue/tests.rs"]
mod tests;
