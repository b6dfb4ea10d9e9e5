//! Who still waits: one bit for each place that was heard of lately, so that nobody counts twice, however often he asks and at whichever gateway.
//!
//! A gateway notes entries and polls, and sends its bits to control each generation (128 bytes for 1,024 places); control puts those of
//! all gateways together and publishes what it makes of them, a [`Crowd`].

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::frontier::Frontier;

/// Distinct places heard of, by blocks of 1,024, in this generation and the one before.
///
/// A generation must be as long as the longest time between two polls of one device (control counts them: [`crate::Outlook::generation`]), or who is there counts as gone. Who leaves is
/// noticed between one and two generations later.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    now: BTreeMap<u64, Bits>,
    before: BTreeMap<u64, Bits>,
    /// The highest number given out when the last generation began, and the one before it.
    began_at: (u64, u64),
}

/// Of one block: the bits of places `1,024 block` and following.
pub type Bits = [u64; 16];

/// How many places ahead of a place count, in places of the frontier's own kind: a block in which half as many are left as where
/// the frontier is counts half. Published with the frontier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Crowd {
    /// Places, and how many count up to them. Both rise; at most [`KNOTS`].
    knots: Vec<(u64, f64)>,
}

/// Places in a block.
pub const BLOCK_PLACES: u64 = 1_024;
/// What a crowd is published as: a kilobyte, for a room of any size.
pub const KNOTS: usize = 64;

/// Blocks in a generation: 130 MB, and a room of a thousand million.
const BLOCKS_MAX: usize = 1_000_000;
/// Blocks at the frontier that the others are compared with.
const FRONT: usize = 4;
/// A block counts no less and no more than this, compared with the front: bits may be lost, or forged by polls with copied
/// tickets.
const RATIO: (f64, f64) = (0.2, 2.0);

impl Presence {
    /// Somebody with this place has entered or polled.
    pub fn heard(&mut self, place: u64) {
        let block = place / BLOCK_PLACES;
        if self.now.len() >= BLOCKS_MAX && !self.now.contains_key(&block) {
            return;
        }
        let bits = self.now.entry(block).or_default();
        bits[(place % BLOCK_PLACES / 64) as usize] |= 1 << (place % 64);
    }

    /// Begins the next generation, when `issued` is the highest number given out; answers this one's bits, to be sent on. Places up to `closed` are
    /// forgotten.
    pub fn turn(&mut self, closed: u64, issued: u64) -> impl Iterator<Item = (u64, &Bits)> {
        self.began_at = (issued, self.began_at.0);
        self.before = std::mem::take(&mut self.now).split_off(&(closed / BLOCK_PLACES));
        self.before.iter().map(|(block, bits)| (*block, bits))
    }

    /// Takes up a gateway's bits for this generation.
    pub fn merge(&mut self, block: u64, bits: &Bits) {
        if self.now.len() >= BLOCKS_MAX && !self.now.contains_key(&block) {
            return;
        }
        self.now.entry(block).or_default().iter_mut().zip(bits).for_each(|(mine, theirs)| *mine |= theirs);
    }

    /// Places of a block that were heard of in this generation, or in the one before if those were more.
    pub fn count(&self, block: u64) -> u32 {
        let count =
            |bits: Option<&Bits>| bits.map_or(0, |bits| bits.iter().map(|word| word.count_ones()).sum());
        count(self.now.get(&block)).max(count(self.before.get(&block)))
    }

    /// Up to which place everybody has been there for a whole generation. Who came later has not been counted yet, and is not missing for that.
    const fn known_up_to(&self) -> u64 {
        self.began_at.1
    }
}

impl Crowd {
    /// As published: places, and how many count up to them. Both rise, or estimates are wrong.
    pub fn from_knots(knots: Vec<(u64, f64)>) -> Self {
        Self { knots }
    }

    pub fn knots(&self) -> &[(u64, f64)] {
        &self.knots
    }

    /// `held`: places after the first and up to the second argument that somebody has. `nobody`: places that nobody has, whatever `held` says. They
    /// are told also if no number above them has been given out yet, or whoever gets the first one would count them.
    pub(crate) fn new(
        frontier: &Frontier,
        presence: &Presence,
        nobody: Option<&RangeInclusive<u64>>,
        held: impl Fn(u64, u64) -> f64,
    ) -> Self {
        let nobody = nobody.filter(|nobody| !nobody.is_empty() && *nobody.end() > frontier.f);
        let held = |from: u64, to: u64| {
            let without =
                nobody.map_or((0, 0), |nobody| (from.max(nobody.start() - 1), to.min(*nobody.end())));
            held(from, to) - if without.0 < without.1 { held(without.0, without.1) } else { 0.0 }
        };
        let (f, last) = (frontier.f, nobody.map_or(0, |nobody| *nobody.end()).max(frontier.issued));
        let mut knots = vec![(f, 0.0)];
        let skipped = nobody.map_or(0, |nobody| nobody.end() - f.max(nobody.start() - 1));
        let blocks = (last.saturating_sub(f).saturating_sub(skipped) / BLOCK_PLACES) as usize + 2;
        // Both ends of what nobody has are knots.
        let each = blocks.div_ceil(KNOTS - 5).max(1) as u64;
        let front = Self::front(frontier, presence, &held);
        let (mut at, mut counted) = (f, 0.0);
        while at < last {
            let end = match nobody {
                Some(nobody) if nobody.contains(&(at + 1)) => {
                    at = *nobody.end();
                    knots.push((at, counted));
                    continue;
                }
                Some(nobody) if at < *nobody.start() => {
                    block_end(at + 1, each).min(last).min(nobody.start() - 1)
                }
                _ => block_end(at + 1, each).min(last),
            };
            let mut from = at;
            while from < end {
                let to = block_end(from + 1, 1).min(end);
                let held_here = held(from, to);
                counted += held_here * Self::ratio(presence, from + 1, held_here, to - from, front);
                from = to;
            }
            at = end;
            knots.push((at, counted));
        }
        Self { knots }
    }

    /// How many count ahead of `place` when the frontier is at `f`.
    pub fn ahead(&self, place: u64, f: u64) -> f64 {
        (self.up_to(place) - self.up_to(f)).max(0.0)
    }

    /// The last place that has at most so many ahead of it, counted from where the frontier was.
    pub(crate) fn place(&self, ahead: f64) -> u64 {
        let after = self.knots.partition_point(|(_, counted)| *counted < ahead);
        match (after.checked_sub(1).and_then(|before| self.knots.get(before)), self.knots.get(after)) {
            (None, first) => first.map_or(0, |(place, _)| *place),
            (Some((place, _)), None) => *place,
            (Some((from, low)), Some((to, high))) => {
                from + ((to - from) as f64 * (ahead - low) / (high - low)) as u64
            }
        }
    }

    /// How many count in the whole room.
    pub fn total(&self) -> f64 {
        self.knots.last().map_or(0.0, |(_, counted)| *counted)
    }

    /// The last place that was known of.
    pub fn last(&self) -> u64 {
        self.knots.last().map_or(0, |(place, _)| *place)
    }

    /// Who came after this was made counts in full.
    fn up_to(&self, place: u64) -> f64 {
        let after = self.knots.partition_point(|(knot, _)| *knot < place);
        match (after.checked_sub(1).and_then(|before| self.knots.get(before)), self.knots.get(after)) {
            (None, _) => 0.0,
            (Some((knot, counted)), None) => counted + (place - knot) as f64,
            (Some((from, low)), Some((to, high))) => {
                low + (high - low) * (place - from) as f64 / (to - from) as f64
            }
        }
    }

    /// The share of the held places at the frontier that were heard of; 0 if nothing is known, or if nobody has any of them.
    fn front(frontier: &Frontier, presence: &Presence, held: &impl Fn(u64, u64) -> f64) -> f64 {
        let first = frontier.f / BLOCK_PLACES + 1;
        let (mut heard, mut places) = (0.0, 0.0);
        for block in first..first + FRONT as u64 {
            let end = (block + 1) * BLOCK_PLACES - 1;
            if end > frontier.issued.min(presence.known_up_to()) {
                break;
            }
            heard += f64::from(presence.count(block));
            places += held(block * BLOCK_PLACES - 1, end);
        }
        if places > 0.0 { heard / places } else { 0.0 }
    }

    /// What one of the held places of a block counts. A block is partly ahead of the frontier or partly not given out, or was not when its bits were
    /// collected: then they say nothing.
    fn ratio(presence: &Presence, place: u64, held: f64, places: u64, front: f64) -> f64 {
        let known = block_end(place, 1) <= presence.known_up_to();
        if places < BLOCK_PLACES || held < 1.0 || front <= 0.0 || !known {
            return 1.0;
        }
        let heard = f64::from(presence.count(place / BLOCK_PLACES)) / held;
        (heard / front).clamp(RATIO.0, RATIO.1)
    }
}

/// The last place of the block of `place`, or of the last of so many blocks from there.
fn block_end(place: u64, blocks: u64) -> u64 {
    (place / BLOCK_PLACES + blocks) * BLOCK_PLACES - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frontier(f: u64, issued: u64) -> Frontier {
        Frontier { f, issued, ..Frontier::NONE }
    }

    fn all(from: u64, to: u64) -> f64 {
        (to - from) as f64
    }

    #[test]
    fn nobody_counts_twice() {
        let (mut one, mut other) = (Presence::default(), Presence::default());
        for _ in 0..3 {
            (5_000..5_100).for_each(|place| one.heard(place));
            (5_050..5_120).for_each(|place| other.heard(place));
        }
        let mut sum = Presence::default();
        for gateway in [&mut one, &mut other] {
            gateway.turn(0, 6_000).for_each(|(block, bits)| sum.merge(block, bits));
        }
        assert_eq!(sum.count(4), 120);
        // Who is silent is gone after two generations.
        let _ = sum.turn(0, 6_000).count();
        assert_eq!(sum.count(4), 120);
        let _ = sum.turn(0, 6_000).count();
        assert_eq!(sum.count(4), 0);
    }

    #[test]
    fn a_block_that_half_have_left_counts_half() {
        let mut presence = Presence::default();
        // Some hundred of the last block had come when the generation began.
        let _ = presence.turn(0, 19_600).count();
        let _ = presence.turn(0, 20_480).count();
        (0..19_600).filter(|place| *place < 10_240 || place % 2 == 0).for_each(|place| presence.heard(place));
        let crowd = Crowd::new(&frontier(100, 20_479), &presence, None, all);
        // Those who came into it since are not missing.
        assert!((crowd.total() - (10_139.0 + 4_608.0 + 1_024.0)).abs() < 2.0, "{}", crowd.total());
        assert!((crowd.ahead(10_239, 1_000) - 9_239.0).abs() < 2.0);
        // New ones behind all that was known.
        assert!((crowd.ahead(20_500, 20_479) - 21.0).abs() < 1e-9);
        assert_eq!(crowd.ahead(50, 1_000), 0.0);
    }

    #[test]
    fn a_room_of_any_size_is_told_in_a_kilobyte() {
        for last in [0, 1, 1_023, 1_024, 5_000, 1_000_000, 50_000_000] {
            let crowd = Crowd::new(&frontier(0, last), &Presence::default(), None, all);
            assert!(crowd.knots.len() <= KNOTS && crowd.last() == last, "{last}: {}", crowd.knots.len());
            assert!(crowd.knots.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
        }
    }

    #[test]
    fn whoever_comes_first_after_places_that_nobody_has_does_not_count_them() {
        let nobody = 501..=66_000;
        for issued in [500, 66_001, 66_300] {
            let crowd = Crowd::new(&frontier(0, issued), &Presence::default(), Some(&nobody), all);
            assert_eq!(crowd.ahead(250, 0), 250.0, "{issued}");
            assert_eq!(crowd.ahead(66_001, 0), 501.0, "{issued}");
            assert_eq!(crowd.total(), (issued.max(66_000) - 65_500) as f64);
        }
    }

    #[test]
    fn a_place_is_found_by_how_many_are_ahead_of_it() {
        let nobody = 501..=66_000;
        let crowd = Crowd::new(&frontier(100, 66_900), &Presence::default(), Some(&nobody), all);
        assert_eq!([0.0, 150.0, 400.0, 900.0].map(|ahead| crowd.place(ahead)), [100, 250, 500, 66_500]);
        assert_eq!((crowd.place(1e9), crowd.place(-1.0)), (66_900, 100));
        assert_eq!(Crowd::default().place(5.0), 0);
    }

    proptest! {
        #[test]
        fn places_that_nobody_has_do_not_count(
            f in 0u64..200_000,
            first in 1u64..200_000,
            count in 1u64..100_000,
            more in 0u64..1_000_000,
        ) {
            let nobody = first..=first + count - 1;
            let issued = f.max(first - 1) + more;
            let crowd = Crowd::new(&frontier(f, issued), &Presence::default(), Some(&nobody), all);
            prop_assert!(crowd.knots.len() <= KNOTS, "{}", crowd.knots.len());
            prop_assert!(crowd.knots.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{:?}", crowd.knots);
            for place in [f + 1, first, *nobody.end(), nobody.end() + 1, issued.max(f), issued.max(*nobody.end()) + 7] {
                let expected = (f + 1..=place).filter(|place| !nobody.contains(place)).count() as f64;
                let ahead = crowd.ahead(place, f);
                prop_assert!((ahead - expected).abs() < 1e-3, "{place}: {ahead} and not {expected}");
            }
        }
    }
}
