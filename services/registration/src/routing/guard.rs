//! Against pumping: somebody asks for codes to numbers whose network pays him a share of what each SMS costs us.
//!
//! Pumped numbers lie close together and their codes are never typed. So for each *place* (numbers that share all but
//! their last four digits, a network that asks, a country) codes and proofs are counted, and a place is cut off when the
//! upper end of Wilson's 95 % interval for its conversion is below [`Limits::conversion_min`] at [`Limits::codes_min`]
//! codes or more. A cut ends by itself, because counts fade: then a place gets some codes and is judged anew.
//!
//! A code counts as unproved only when its time for being typed is over, or every burst of honest people would look like
//! pumping. So that a burst of pumping does not get through in that time, a place may have only so many codes out that
//! are neither proved nor unproved: [`Limits::out_max`], and [`OUT_PER_PROOF`] more for each proof. Honest people open
//! their own way, as in TCP's slow start; a pumped place gets `out_max` codes, waits, and is cut. Hence at most
//! `codes_min + out_max` codes go to a place before it is cut when none is typed.
//!
//! What other processes have sent to a place counts as well, as far as has been heard within some seconds ([`Guard::heard`]); so a fleet pays for a
//! pumped place hardly more than one process does.
//!
//! Whoever is cut off is not told: see [`Verdict::Pretend`].

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::faded::Faded;
use super::wilson;

/// Codes that may be out for each proof that is remembered. A place where one in five converts is never held up.
const OUT_PER_PROOF: f64 = 4.0;

/// A place, by a keyed hash: the map must not tell who signs up, and nobody may aim at another's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceKey(pub u64);

/// Where a code goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The number without its last four digits.
    pub(crate) prefix: PlaceKey,
    /// The network that asks, if it is known.
    pub(crate) network: Option<PlaceKey>,
    pub(crate) country: PlaceKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Send,
    /// Too many codes are out that nobody has typed yet: ask again soon.
    Hold,
    /// Go on as if the code had been sent, and send nothing: an abuser who cannot tell that he is refused does not try
    /// what works.
    Pretend,
}

/// When a place is cut off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    pub(crate) conversion_min: f64,
    pub(crate) codes_min: u32,
    pub(crate) out_max: u32,
    /// Codes and proofs count half after this time.
    pub(crate) half_life: Duration,
    /// Places remembered; beyond that, the one that was not asked for the longest is forgotten.
    pub(crate) places_max: usize,
}

/// How many times as many codes as for a prefix are needed to cut off a network, or a whole country, where many honest
/// people pay for it if it is a mistake.
const NETWORK_FACTOR: f64 = 2.0;
const COUNTRY_FACTOR: f64 = 20.0;

/// Codes to one place, as processes tell each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlaceCount {
    /// Those that were typed, or whose time for that is over.
    pub codes: f64,
    pub proofs: f64,
    pub out: f64,
}

/// Of what others tell. Then they are silent, or the place is none of the worst any more.
const HEARD_FOR: Duration = Duration::from_secs(10);
/// Places that are told, and codes without a proof for which they are.
const TOLD_MAX: usize = 64;
const TOLD_MIN: f64 = 4.0;

#[derive(Debug)]
pub(crate) struct Guard {
    limits: Limits,
    /// What this process has told last.
    told: HashMap<PlaceKey, PlaceCount>,
    /// What others have sent, and when it was heard.
    others: HashMap<PlaceKey, PlaceCount>,
    others_at: Instant,
    places: HashMap<PlaceKey, Place>,
    /// By when they were last asked for.
    order: BTreeMap<u64, PlaceKey>,
    touches: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Proved or unproved.
    codes: Faded,
    proofs: Faded,
    out: u32,
    touched: u64,
}

impl Guard {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            told: HashMap::new(),
            others: HashMap::new(),
            others_at: now,
            places: HashMap::new(),
            order: BTreeMap::new(),
            touches: 0,
        }
    }

    /// Where codes of this process go that nobody types, for others.
    pub(crate) fn tell(&mut self, now: Instant) -> Vec<(PlaceKey, PlaceCount)> {
        let count = |(key, place): (&PlaceKey, &Place)| {
            let (codes, proofs) = (place.codes.get(now), place.proofs.get(now));
            (*key, PlaceCount { codes, proofs, out: place.out.into() })
        };
        let wasted = |count: &PlaceCount| count.codes + count.out - OUT_PER_PROOF * count.proofs;
        let mut worst: Vec<_> =
            self.places.iter().map(count).filter(|(_, count)| wasted(count) >= TOLD_MIN).collect();
        worst.sort_by(|(_, one), (_, other)| wasted(other).total_cmp(&wasted(one)));
        worst.truncate(TOLD_MAX);
        self.told = worst.iter().copied().collect();
        worst
    }

    /// All processes together, this one included with what it has told last.
    pub(crate) fn heard(&mut self, all: impl IntoIterator<Item = (PlaceKey, PlaceCount)>, now: Instant) {
        let others = |(key, all): (PlaceKey, PlaceCount)| {
            let own = self.told.get(&key).copied().unwrap_or_default();
            let rest = |all: f64, own: f64| (all - own).max(0.0);
            let count = PlaceCount {
                codes: rest(all.codes, own.codes),
                proofs: rest(all.proofs, own.proofs),
                out: rest(all.out, own.out),
            };
            (key, count)
        };
        self.others = all.into_iter().map(others).collect();
        self.others_at = now;
    }

    fn of_others(&self, key: PlaceKey, now: Instant) -> PlaceCount {
        if now.saturating_duration_since(self.others_at) >= HEARD_FOR {
            return PlaceCount::default();
        }
        self.others.get(&key).copied().unwrap_or_default()
    }

    pub(crate) fn verdict(&mut self, at: Places, now: Instant) -> Verdict {
        let limits = self.limits;
        let is_cut = |factor: f64, key: PlaceKey, guard: &mut Self| {
            let others = guard.of_others(key, now);
            let place = guard.touch(key, now);
            let codes = place.codes.get(now) + others.codes;
            // Half a code of slack, because counts fade while they grow.
            codes + 0.5 >= f64::from(limits.codes_min) * factor
                && wilson::upper(place.proofs.get(now) + others.proofs, codes) < limits.conversion_min
        };
        if is_cut(1.0, at.prefix, self)
            || at.network.is_some_and(|network| is_cut(NETWORK_FACTOR, network, self))
            || is_cut(COUNTRY_FACTOR, at.country, self)
        {
            return Verdict::Pretend;
        }
        let others = self.of_others(at.prefix, now);
        let place = self.touch(at.prefix, now);
        let proofs = place.proofs.get(now) + others.proofs;
        let out_max = f64::from(limits.out_max) + OUT_PER_PROOF * proofs;
        if f64::from(place.out) + others.out >= out_max { Verdict::Hold } else { Verdict::Send }
    }

    /// A code goes out.
    pub(crate) fn sent(&mut self, at: Places, now: Instant) {
        for key in at.keys() {
            let place = self.touch(key, now);
            place.out = place.out.saturating_add(1);
        }
    }

    /// A code that went out was not sent after all.
    pub(crate) fn unsent(&mut self, at: Places) {
        for key in at.keys() {
            if let Some(place) = self.places.get_mut(&key) {
                place.out = place.out.saturating_sub(1);
            }
        }
    }

    /// A code that is out has been typed, or its time for that is over.
    pub(crate) fn judged(&mut self, at: Places, proved: bool, now: Instant) {
        for key in at.keys() {
            if let Some(place) = self.places.get_mut(&key) {
                place.out = place.out.saturating_sub(1);
                place.codes.add(1.0, now);
                place.proofs.add(f64::from(proved), now);
            }
        }
    }

    /// A code whose time was thought to be over has been typed after all.
    pub(crate) fn late(&mut self, at: Places, now: Instant) {
        for key in at.keys() {
            if let Some(place) = self.places.get_mut(&key) {
                place.proofs.add(1.0, now);
            }
        }
    }

    fn touch(&mut self, key: PlaceKey, now: Instant) -> &mut Place {
        self.touches += 1;
        if let Some(place) = self.places.get(&key) {
            self.order.remove(&place.touched);
        } else if self.places.len() >= self.limits.places_max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.places.remove(&oldest);
        }
        self.order.insert(self.touches, key);
        let half_life = self.limits.half_life;
        let place = self.places.entry(key).or_insert_with(|| Place {
            codes: Faded::new(half_life, now),
            proofs: Faded::new(half_life, now),
            out: 0,
            touched: 0,
        });
        place.touched = self.touches;
        place
    }
}

impl Places {
    fn keys(self) -> impl Iterator<Item = PlaceKey> {
        [Some(self.prefix), self.network, Some(self.country)].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests;
